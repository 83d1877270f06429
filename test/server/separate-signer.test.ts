// The signer's directory made and written by root, who must be misled by nothing that lies there, and must lose nothing on the way.
import {
  chownSync,
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
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addSignerKey } from '../../src/server/separate-signer.ts'
import { createTokenFixture, signerConfig, type TokenFixture } from '../signer/harness.ts'

let fixture: TokenFixture
let directory: string
beforeAll(async () => {
  fixture = await createTokenFixture()
})
afterAll(() => fixture.remove())
beforeEach(() => {
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
