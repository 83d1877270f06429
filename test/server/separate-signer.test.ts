// The signer's directory made and written by root, who must be misled by nothing that lies there, and must lose nothing on the way.
import {
  appendFileSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { homePaths } from '../../src/server/home.ts'
import { addSignerKey, separateSigner } from '../../src/server/separate-signer.ts'
import { softHsmPaths } from '../../src/signer/softhsm-token.ts'
import { createTokenFixture, signerConfig, type TokenFixture } from '../signer/harness.ts'

/** What was asked of the file system, in order; `cut`: the power goes when this is asked. */
const disk = vi.hoisted(() => ({ done: [] as string[], cut: null as ((call: string) => boolean) | null }))
vi.mock('node:fs', async original => {
  const fs = await original<typeof import('node:fs')>()
  const did = (call: string): void => {
    if (disk.cut?.(call) === true) throw new Error('power cut')
    disk.done.push(call)
  }
  return {
    ...fs,
    fsyncSync: (fd: number) => {
      did(`fsync ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`)
      fs.fsyncSync(fd)
    },
    renameSync: (from: string, to: string) => {
      did(`rename ${from} ${to}`)
      fs.renameSync(from, to)
    },
    rmSync: (path: string, options: object) => {
      did(`rm ${path}`)
      fs.rmSync(path, options)
    },
  }
})

let fixture: TokenFixture
let directory: string
beforeAll(async () => {
  fixture = await createTokenFixture()
})
afterAll(() => fixture.remove())
beforeEach(() => {
  disk.cut = null
  directory = mkdtempSync(join(tmpdir(), 'agentca-separate-'))
  return () => rmSync(directory, { recursive: true, force: true })
})
const code = (wanted: string) => expect.objectContaining({ code: wanted })
const configText = () => JSON.stringify(signerConfig(fixture))

describe('a key is added', () => {
  const own = () => join(directory, 'signer')
  const file = () => join(own(), 'signer.json')
  const add = () =>
    addSignerKey({ directory: own(), label: 'issuing-2', certificatePem: fixture.issuerPem, dryRun: false })
  beforeEach(() => {
    mkdirSync(own(), { mode: 0o700 })
    writeFileSync(file(), configText(), { mode: 0o600 })
  })

  test('and the configuration belongs to whom the directory belongs, with nothing left beside it', () => {
    const owner = process.getuid?.() === 0 ? { uid: 61_002, gid: 61_001 } : lstatSync(own())
    chownSync(own(), owner.uid, owner.gid)
    expect(add()).toEqual(['issuing-1', 'ocsp-1', 'log-1', 'issuing-2'])
    const { uid, gid, mode } = lstatSync(file())
    expect([uid, gid, mode & 0o777]).toEqual([owner.uid, owner.gid, 0o600])
    expect(readdirSync(own())).toEqual(['signer.json'])
  })

  test('without a write through a link that waits under the name of the temporary file', () => {
    const victim = join(directory, 'victim')
    writeFileSync(victim, 'as it was')
    symlinkSync(victim, `${file()}.${process.pid}.tmp`)
    add()
    expect(readFileSync(victim, 'utf8')).toBe('as it was')
    expect(lstatSync(file()).isFile()).toBe(true)
  })

  test('in no directory that is a link, and to no configuration that is one', () => {
    const elsewhere = join(directory, 'elsewhere.json')
    writeFileSync(elsewhere, configText())
    rmSync(file())
    symlinkSync(elsewhere, file())
    expect(add).toThrow(code('directory_unusable'))
    rmSync(own(), { recursive: true })
    mkdirSync(join(directory, 'real'))
    writeFileSync(join(directory, 'real', 'signer.json'), configText())
    symlinkSync(join(directory, 'real'), own())
    expect(add).toThrow(code('directory_unusable'))
    for (const path of [elsewhere, join(directory, 'real', 'signer.json')])
      expect(readFileSync(path, 'utf8')).toBe(configText())
  })

  test('nowhere without a signer', () => {
    rmSync(own(), { recursive: true })
    expect(add).toThrow(code('not_initialised'))
    expect(existsSync(own())).toBe(false)
  })
})

describe('a signer is separated', () => {
  const paths = () => homePaths(join(directory, 'home'))
  const own = () => join(directory, 'own', 'signer')
  const separate = () =>
    separateSigner({ paths: paths(), directory: own(), socket: '/nowhere/signer.sock', owner: null, dryRun: false })
  const filesIn = (root: string) => readdirSync(root, { recursive: true }).map(String).sort()
  const cutAtRemoval = async () => {
    disk.cut = call => call === `rm ${paths().tokens}`
    await expect(separate()).rejects.toThrow('power cut')
    disk.cut = null
  }
  beforeEach(() => {
    const { tokens, signer } = paths()
    cpSync(fixture.token.confPath.replace(/\/[^/]*$/, ''), tokens, { recursive: true })
    mkdirSync(signer, { mode: 0o700 })
    const config = signerConfig(fixture)
    const { confPath, pinFile } = softHsmPaths(tokens)
    const module = { ...config.module, softhsmConf: confPath, pinSource: pinFile }
    writeFileSync(join(signer, 'signer.json'), JSON.stringify({ ...config, module }))
    writeFileSync(join(signer, 'counters.json'), '{"counted":1}')
    disk.done = []
  })

  test('with every file and directory on disk before it has its name, and its name before an original goes', async () => {
    const before = filesIn(paths().tokens)
    await separate()
    const { done } = disk
    const named = done.findIndex(call => call.endsWith(` ${own()}`))
    const making = done[named]!.split(' ')[1]!
    const copied = filesIn(own()).map(path => `fsync ${join(making, path)}`)
    expect(copied.length).toBeGreaterThan(before.length)
    for (const call of [...copied, `fsync ${making}`]) expect(done.slice(0, named)).toContain(call)
    const removed = done.indexOf(`rm ${paths().tokens}`)
    for (const parent of [join(directory, 'own'), directory])
      expect(done.slice(named, removed)).toContain(`fsync ${parent}`)
    expect(filesIn(join(own(), 'tokens'))).toEqual(before)
    expect([existsSync(paths().tokens), existsSync(paths().signer)]).toEqual([false, false])
    expect(filesIn(own())).not.toContain('originals.json')
  })

  test('by a second run, where the first ended before the originals were gone', async () => {
    await cutAtRemoval()
    expect([existsSync(own()), existsSync(paths().tokens)]).toEqual([true, true])
    // Some were gone, and the new signer has counted.
    rmSync(join(paths().tokens, 'user.pin'))
    writeFileSync(join(own(), 'state', 'counters.json'), '{"counted":2}')
    expect(await separate()).toMatchObject({ directory: own(), tokens: join(own(), 'tokens') })
    expect([existsSync(paths().tokens), existsSync(paths().signer)]).toEqual([false, false])
    expect(readFileSync(join(own(), 'state', 'counters.json'), 'utf8')).toBe('{"counted":2}')
    await expect(separate()).rejects.toThrow(code('signer_directory_taken'))
  })

  test('and no original is removed that has changed since it was copied', async () => {
    await cutAtRemoval()
    appendFileSync(join(paths().signer, 'counters.json'), ' ')
    await expect(separate()).rejects.toThrow(/counters\.json .* has changed/)
    expect(existsSync(join(paths().tokens, 'user.pin'))).toBe(true)
  })

  test('and nothing is removed when the copy is not what was copied', async () => {
    disk.cut = call => {
      // A disk that loses what it was given.
      if (/fsync .*\.tmp\/state\/counters\.json$/.test(call)) writeFileSync(call.slice('fsync '.length), '')
      return false
    }
    await expect(separate()).rejects.toThrow(/copy of counters\.json/)
    expect([existsSync(own()), existsSync(join(paths().signer, 'counters.json'))]).toEqual([false, true])
    expect(filesIn(join(directory, 'own'))).toEqual([])
  })
})
