// The credential directory: one moment of change, whatever kills the writer and whoever reads meanwhile; one renewer, whoever else
// wants to be it.
import { type ChildProcess, spawn } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { openCredentialDirectory, readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { madeCredential } from './made-credential.ts'

const scratch = mkdtempSync(join(tmpdir(), 'agentca-directory-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
let count = 0
const newDirectory = (): string => join(scratch, String(count++))

const program = fileURLToPath(new URL('directory-process.ts', import.meta.url))
const startProcess = (directory: string, work: 'write' | 'hold') => {
  const child = spawn(process.execPath, [program, directory, work], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return { child, line: async (): Promise<string> => (await lines.next()).value ?? 'ended' }
}
const kill = async (child: ChildProcess): Promise<void> => {
  const gone = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
  child.kill('SIGKILL')
  await gone
}
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'fulfilled',
    error => error.code ?? error.message,
  )

/** What any program would make of the bundle: one key, and the certificate that belongs to it. */
const serialOfBundle = (text: string): string => {
  const certificate = new X509Certificate(text)
  if (!certificate.checkPrivateKey(createPrivateKey(text)))
    throw new Error('key and certificate do not belong together')
  return certificate.serialNumber.toLowerCase()
}

describe('a credential directory', () => {
  it('holds every file of one generation behind one link', async () => {
    const dir = newDirectory()
    const credential = madeCredential(1)
    await using directory = await openCredentialDirectory(dir)
    expect(await directory.load()).toBeNull()
    await directory.save(credential)
    for (const name of ['credential-bundle.pem', 'tls.key', 'tls.crt', 'ca.crt', 'crl.pem', 'identity.json'])
      expect(readlinkSync(join(dir, name)), name).toBe(`..data/${name}`)
    expect(serialOfBundle(readFileSync(join(dir, 'credential-bundle.pem'), 'utf8'))).toBe(credential.facts.serial)
    const { privateKey, ...rest } = (await readCredentialDirectory(dir)) as typeof credential
    expect(rest).toEqual({ ...credential, privateKey: undefined })
    expect(privateKey.equals(credential.privateKey)).toBe(true)
  })

  it('gives modes by what is inside, whatever the umask', async () => {
    const before = process.umask(0o077)
    try {
      const dir = newDirectory()
      await using directory = await openCredentialDirectory(dir, { keyMode: 0o640, uid: null, gid: null })
      await directory.save(madeCredential(1))
      const modeOf = (name: string) => (statSync(join(dir, name)).mode & 0o777).toString(8)
      expect(['credential-bundle.pem', 'tls.key'].map(modeOf)).toEqual(['640', '640'])
      expect(['tls.crt', 'ca.crt', 'crl.pem', 'identity.json', '.', '..data'].map(modeOf)).toEqual([
        ...Array(4).fill('644'),
        ...Array(2).fill('755'),
      ])
    } finally {
      process.umask(before)
    }
  })

  it.runIf(process.getuid?.() === 0)('gives the key to the owner and group that were asked for', async () => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir, { keyMode: 0o600, uid: 65_534, gid: 65_534 })
    await directory.save(madeCredential(1))
    expect(statSync(join(dir, 'tls.key'))).toMatchObject({ uid: 65_534, gid: 65_534 })
  })

  it('keeps owner, group and mode through a renewal by somebody who does not ask for them', async () => {
    const dir = newDirectory()
    const isRoot = process.getuid?.() === 0
    const [uid, gid] = isRoot ? [65_534, 65_534] : [null, null]
    await using first = await openCredentialDirectory(dir, { keyMode: 0o640, uid, gid })
    await first.save(madeCredential(1))
    await first[Symbol.asyncDispose]()
    await using second = await openCredentialDirectory(dir)
    await second.save(madeCredential(2))
    const { mode, ...owner } = statSync(join(dir, 'tls.key'))
    expect(mode & 0o777).toBe(0o640)
    if (isRoot) expect(owner).toMatchObject({ uid, gid })
  })

  it('keeps the generation before the present one, and none older', async () => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir)
    const targets: string[] = []
    for (let generation = 1; generation <= 4; generation++) {
      await directory.save(madeCredential(generation))
      targets.push(readlinkSync(join(dir, '..data')))
    }
    const kept = readdirSync(dir).filter(name => name.startsWith('..') && name !== '..data')
    expect(kept.sort()).toEqual(targets.slice(-2).sort())
  })

  it('keeps the revocation list it has through a renewal', async () => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir)
    await directory.save(madeCredential(1))
    expect(readFileSync(join(dir, 'crl.pem'), 'utf8')).toBe('')
    writeFileSync(join(dir, '..data', 'crl.pem'), 'a list')
    await directory.save(madeCredential(2))
    expect(readFileSync(join(dir, 'crl.pem'), 'utf8')).toBe('a list')
  })

  it('keeps pending keys for their purpose only, and drops them with the credential that came of them', async () => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir)
    const { privateKey } = madeCredential(1)
    await directory.keepPending({ purpose: 'after 01', keys: [privateKey] })
    expect((await directory.pending('after 01'))?.keys[0].equals(privateKey)).toBe(true)
    expect(await directory.pending('after 02')).toBeNull()
    expect(statSync(join(dir, 'pending.key')).mode & 0o777).toBe(0o600)
    await directory.save(madeCredential(1))
    expect(await directory.pending('after 01')).toBeNull()
  })

  it('takes a pending key that cannot be read for none', async () => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir)
    for (const text of [
      '',
      '# after 01\n',
      'after 01',
      '# after 01\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
    ]) {
      writeFileSync(join(dir, 'pending.key'), text)
      expect(await directory.pending('after 01')).toBeNull()
    }
  })

  it('does not replace what is not its own', async () => {
    const dir = newDirectory()
    mkdirSync(dir)
    writeFileSync(join(dir, 'tls.key'), 'the only copy')
    expect(await codeOf(openCredentialDirectory(dir))).toBe('directory_unwritable')
    expect(readdirSync(dir)).toEqual(['tls.key'])
    expect(readFileSync(join(dir, 'tls.key'), 'utf8')).toBe('the only copy')
  })

  it('that a file is in the way of is unwritable, with the reason', async () => {
    const dir = newDirectory()
    writeFileSync(dir, '')
    await expect(openCredentialDirectory(dir)).rejects.toMatchObject({ code: 'directory_unwritable' })
  })

  it.each([
    ['without a key', 'credential-bundle.pem', (text: string) => text.replaceAll('PRIVATE', 'PUBLIC')],
    ['with another key', 'credential-bundle.pem', () => bundleOf(2)],
    ['with other facts', 'identity.json', (text: string) => text.replace(/"serial": "../, '"serial": "ff')],
    ['without facts', 'identity.json', () => '{}'],
    ['without an address', 'identity.json', (text: string) => text.replace('"url"', '"uri"')],
    ['with half a file', 'identity.json', (text: string) => text.slice(0, 40)],
  ])('%s is malformed, not half a credential', async (_, name, change) => {
    const dir = newDirectory()
    await using directory = await openCredentialDirectory(dir)
    await directory.save(madeCredential(1))
    const file = join(dir, '..data', name)
    chmodSync(file, 0o600)
    writeFileSync(file, change(readFileSync(file, 'utf8')))
    expect(await codeOf(readCredentialDirectory(dir))).toBe('directory_malformed')
  })

  it('that does not exist, or holds nothing, holds no credential', async () => {
    expect(await readCredentialDirectory(join(scratch, 'nowhere'))).toBeNull()
    mkdirSync(join(scratch, 'empty'))
    expect(await readCredentialDirectory(join(scratch, 'empty'))).toBeNull()
  })

  const bundleOf = (generation: number): string => {
    const { privateKey, certificatePem } = madeCredential(generation)
    return `${privateKey.export({ type: 'pkcs8', format: 'pem' })}${certificatePem}`
  }
})

describe('a crash of the writer', () => {
  it('at any moment leaves the old generation or the new one, and the next writer goes on', async () => {
    const dir = newDirectory()
    let acknowledged = 0
    for (let round = 0; round < 12; round++) {
      const { child, line } = startProcess(dir, 'write')
      expect(await line()).toBe('ready')
      // A few generations, then a kill at a moment that nobody chose.
      for (let written = 0; written <= round % 3; written++) acknowledged = Number(await line())
      await new Promise(resolve => setTimeout(resolve, Math.random() * 12))
      await kill(child)
      const credential = await readCredentialDirectory(dir)
      expect(credential?.facts.generation).toBeGreaterThanOrEqual(acknowledged)
      expect(serialOfBundle(readFileSync(join(dir, 'credential-bundle.pem'), 'utf8'))).toBe(credential?.facts.serial)
    }
    await using directory = await openCredentialDirectory(dir)
    await directory.save(madeCredential(1000))
    const own = readdirSync(dir).filter(name => name.startsWith('..') || name.startsWith('.renewer-'))
    // ..data, the present generation, the one before, the lock.
    expect(own).toHaveLength(4)
    expect(existsSync(join(dir, 'pending.key'))).toBe(false)
  }, 180_000)

  /** What each step of a change leaves behind when it is the last. */
  const remains: readonly (readonly [after: string, make: (dir: string) => void])[] = [
    ['a generation half written', dir => half(dir)],
    ['the new link made and not yet in place', dir => symlinkSync(half(dir), join(dir, '..new-0123456789ab'))],
    ['a pending key half written', dir => writeFileSync(join(dir, '..new-ba9876543210'), '# after')],
    ['no name links yet', dir => rmSync(join(dir, 'tls.key'))],
  ]
  const half = (dir: string): string => {
    mkdirSync(join(dir, '..2026_01_01_00_00_00.0123456789ab'))
    writeFileSync(join(dir, '..2026_01_01_00_00_00.0123456789ab', 'credential-bundle.pem'), '-----BEGIN')
    return '..2026_01_01_00_00_00.0123456789ab'
  }

  it.each(remains)('after %s is repaired by the next writer, and readers never notice', async (_, make) => {
    const dir = newDirectory()
    {
      await using directory = await openCredentialDirectory(dir)
      await directory.save(madeCredential(1))
    }
    make(dir)
    expect((await readCredentialDirectory(dir))?.facts.generation).toBe(1)
    await using directory = await openCredentialDirectory(dir)
    expect((await directory.load())?.facts.generation).toBe(1)
    await directory.save(madeCredential(2))
    expect((await readCredentialDirectory(dir))?.facts.generation).toBe(2)
    expect(serialOfBundle(readFileSync(join(dir, 'credential-bundle.pem'), 'utf8'))).not.toBe('')
    expect(readlinkSync(join(dir, 'tls.key'))).toBe('..data/tls.key')
    expect(readdirSync(dir).filter(name => name.startsWith('..'))).toHaveLength(3)
  })

  it('before the first change leaves no credential, and the second attempt makes one', async () => {
    const dir = newDirectory()
    mkdirSync(dir)
    half(dir)
    for (const name of ['tls.key', 'tls.crt']) symlinkSync(`..data/${name}`, join(dir, name))
    expect(await readCredentialDirectory(dir)).toBeNull()
    await using directory = await openCredentialDirectory(dir)
    expect(await directory.load()).toBeNull()
    await directory.save(madeCredential(1))
    expect((await readCredentialDirectory(dir))?.facts.generation).toBe(1)
  })

  it('or its work is never seen half done by readers, who read on without a gap', async () => {
    const dir = newDirectory()
    const { child, line } = startProcess(dir, 'write')
    expect(await line()).toBe('ready')
    await line()
    const [seen, whole] = [new Set<string>(), new Set<string>()]
    while (seen.size < 60) {
      // A foreign program opens one file once; ours reads three of one generation.
      seen.add(serialOfBundle(await readFile(join(dir, 'credential-bundle.pem'), 'utf8')))
      whole.add((await readCredentialDirectory(dir))?.facts.serial ?? '')
    }
    await kill(child)
    expect(whole.has('')).toBe(false)
    expect(whole.size).toBeGreaterThan(30)
  }, 180_000)
})

describe('one renewer a directory', () => {
  it('is one of five that ask at once in one process, and giving back twice takes nothing from the next', async () => {
    const dir = newDirectory()
    const all = await Promise.allSettled(Array.from({ length: 5 }, () => openCredentialDirectory(dir)))
    const [held, ...more] = all.filter(each => each.status === 'fulfilled').map(each => each.value)
    expect(more).toEqual([])
    await held?.[Symbol.asyncDispose]()
    await using _ = await openCredentialDirectory(dir)
    await held?.[Symbol.asyncDispose]()
    expect(await codeOf(openCredentialDirectory(dir))).toBe('directory_in_use')
  })

  it('refuses a second process, and this one twice, and says who it is', async () => {
    const dir = newDirectory()
    const { child, line } = startProcess(dir, 'hold')
    expect(await line()).toBe('ready')
    await expect(openCredentialDirectory(dir)).rejects.toMatchObject({
      code: 'directory_in_use',
      facts: { pid: child.pid },
    })
    child.stdin.write('enough\n')
    await once(child, 'exit')
    await using _ = await openCredentialDirectory(dir)
    expect(await codeOf(openCredentialDirectory(dir))).toBe('directory_in_use')
  })

  it('takes over at once from one that was killed', async () => {
    const dir = newDirectory()
    const { child, line } = startProcess(dir, 'hold')
    expect(await line()).toBe('ready')
    await kill(child)
    await using _ = await openCredentialDirectory(dir)
    expect(readdirSync(dir).filter(name => name.startsWith('.renewer-'))).toHaveLength(1)
  })

  it('is never two, of 5 that come at once', async () => {
    const dir = newDirectory()
    mkdirSync(dir)
    const processes = Array.from({ length: 5 }, () => startProcess(dir, 'hold'))
    const said = await Promise.all(processes.map(({ line }) => line()))
    expect(said.filter(each => each === 'ready').length).toBeLessThanOrEqual(1)
    expect(said.every(each => each === 'ready' || each === 'refused directory_in_use')).toBe(true)
    await Promise.all(processes.map(({ child }) => kill(child)))
    await using _ = await openCredentialDirectory(dir)
  }, 180_000)

  const lockName = (dir: string): string => readdirSync(dir).find(name => name.startsWith('.renewer-')) as string

  it('knows a process by its start too: a number that came back is somebody else', async () => {
    const dir = newDirectory()
    await (await openCredentialDirectory(dir))[Symbol.asyncDispose]()
    const probe = newDirectory()
    await using _ = await openCredentialDirectory(probe)
    const [, realm] = /^\.renewer-([0-9a-f]{8}-\d+)-/.exec(lockName(probe)) as unknown as [string, string]
    // Process 1 lives, but did not start at tick 1.
    writeFileSync(join(dir, `.renewer-${realm}-1-1`), '')
    await using taken = await openCredentialDirectory(dir)
    expect(taken.path).toBe(dir)
    expect(readdirSync(dir)).toHaveLength(1)
  })

  it('believes a process of another container as long as it shows life', async () => {
    const dir = newDirectory()
    mkdirSync(dir)
    const foreign = join(dir, '.renewer-00000000-1-1-1')
    writeFileSync(foreign, '')
    expect(await codeOf(openCredentialDirectory(dir))).toBe('directory_in_use')
    const past = new Date(Date.now() - 120_000)
    utimesSync(foreign, past, past)
    await using _ = await openCredentialDirectory(dir)
    expect(existsSync(foreign)).toBe(false)
  })

  it('leaves links of others alone where they are no part of it', async () => {
    const dir = newDirectory()
    mkdirSync(dir)
    symlinkSync('elsewhere', join(dir, 'mine'))
    await using directory = await openCredentialDirectory(dir)
    await directory.save(madeCredential(1))
    expect(readlinkSync(join(dir, 'mine'))).toBe('elsewhere')
  })
})
