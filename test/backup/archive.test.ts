// Backups as files: what was packed comes out, whoever holds the key; what was cut off or changed does not come out at all.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeFile, type Key, type Lock, readArchive, writeArchive } from '../../src/backup/archive.ts'
import type { BackupManifest } from '../../src/schema/backup.ts'

let scratch: string
let identity: string
let lock: Lock
let whole: string
let n = 0
const emptyFolder = (): string => {
  const path = join(scratch, `into-${n++}`)
  mkdirSync(path)
  return path
}

const manifestOf = (files: BackupManifest['files']): BackupManifest => ({
  format: 'agentca-backup',
  version: 1,
  createdAt: '2026-01-01T00:00:00.000Z',
  agentca: '1.0.0',
  caId: 'ca',
  trustDomain: 'example.org',
  schema: 1,
  feed: { epoch: 'e', n: 1 },
  audit: { size: 1, head: '00'.repeat(32) },
  crlNumbers: { 'issuing-1': '12' },
  keys: false,
  files: files.map(({ name, size, sha256 }) => ({ name, size, sha256 })),
})

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'agentca-archive-'))
  identity = await generateX25519Identity()
  lock = { recipients: [await identityToRecipient(identity)] }
  writeFileSync(join(scratch, 'a'), 'first')
  writeFileSync(join(scratch, 'b'), Buffer.alloc(300_000, 7))
  const files = [
    await describeFile('ledger.db', join(scratch, 'a')),
    await describeFile('home/x/b.pem', join(scratch, 'b')),
  ]
  whole = join(scratch, 'whole.age')
  await writeArchive(whole, { manifest: manifestOf(files), files }, lock)
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const opened = (file: string, key: Key = { identities: [identity] }) => readArchive(file, key, emptyFolder())

describe('an archive', () => {
  it('gives back what was packed, by an identity and by a passphrase', async () => {
    const into = emptyFolder()
    const manifest = await readArchive(whole, { identities: [identity] }, into)
    expect(manifest.files.map(({ name }) => name)).toEqual(['ledger.db', 'home/x/b.pem'])
    expect(readFileSync(join(into, 'ledger.db'), 'utf8')).toBe('first')
    expect(readFileSync(join(into, 'home/x/b.pem')).equals(Buffer.alloc(300_000, 7))).toBe(true)

    const files = [await describeFile('ledger.db', join(scratch, 'a'))]
    const other = join(scratch, 'passphrase.age')
    await writeArchive(
      other,
      { manifest: manifestOf(files), files },
      { passphrase: 'a long one indeed', workFactor: 10 },
    )
    await expect(opened(other, { passphrase: 'a long one indeed' })).resolves.toMatchObject({ caId: 'ca' })
    await expect(opened(other, { passphrase: 'another long one' })).rejects.toMatchObject({ code: 'backup_key_wrong' })
  })

  it('is not opened by another key, and says nothing of one that is none', async () => {
    const key = { identities: [await generateX25519Identity()] }
    await expect(opened(whole, key)).rejects.toMatchObject({ code: 'backup_key_wrong' })
    const failed = await opened(whole, { identities: ['AGE-SECRET-KEY-1SECRET'] }).catch((error: Error) => error)
    expect(failed).toMatchObject({ code: 'backup_key_wrong' })
    expect(String((failed as Error).message)).not.toMatch(/SECRET-KEY/)
    await expect(opened(join(scratch, 'a'))).rejects.toMatchObject({ code: 'backup_unreadable' })
  })

  it('is not written over a file, nor to what is no recipient', async () => {
    const files = [await describeFile('ledger.db', join(scratch, 'a'))]
    const parts = { manifest: manifestOf(files), files }
    await expect(writeArchive(whole, parts, lock)).rejects.toMatchObject({ code: 'EEXIST' })
    const to = join(scratch, 'nobody.age')
    await expect(writeArchive(to, parts, { recipients: ['age1nobody'] })).rejects.toMatchObject({
      code: 'backup_key_wrong',
    })
  })

  it('is unreadable wherever it is cut off or changed', async () => {
    const bytes = readFileSync(whole)
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.boolean(), async (at, cut) => {
        const spoilt = Buffer.from(cut ? bytes.subarray(0, at) : bytes)
        if (!cut) spoilt[at]! ^= 1
        const file = join(scratch, 'spoilt.age')
        writeFileSync(file, spoilt)
        const { code } = await opened(file).then(
          () => ({ code: 'opened' }),
          (error: { code: string }) => error,
        )
        // A changed recipient stanza looks like somebody else's.
        expect(['backup_unreadable', 'backup_key_wrong']).toContain(code)
      }),
      { numRuns: 40 },
    )
  })

  it.for([
    ['a file that is another', (file: BackupManifest['files'][number]) => ({ ...file, sha256: '11'.repeat(32) })],
    ['a file that is longer', (file: BackupManifest['files'][number]) => ({ ...file, size: file.size - 1 })],
    ['a file that it does not name', (file: BackupManifest['files'][number]) => ({ ...file, name: 'other' })],
    ['a name that leads out', (file: BackupManifest['files'][number]) => ({ ...file, name: '../../out' })],
  ] as const)('is unreadable with %s', async ([what, change]) => {
    const source = await describeFile('ledger.db', join(scratch, 'a'))
    const to = join(scratch, `${what.replaceAll(' ', '-')}.age`)
    await writeArchive(to, { manifest: manifestOf([change(source)]), files: [source] }, lock)
    await expect(opened(to)).rejects.toMatchObject({ code: 'backup_unreadable' })
  })

  it('opens without agentca', ({ skip }) => {
    const key = join(scratch, 'key')
    writeFileSync(key, `${identity}\n`, { mode: 0o600 })
    try {
      execFileSync('age', ['--version'])
    } catch {
      skip('age is not installed')
    }
    const tar = execFileSync('age', ['-d', '-i', key, whole], { maxBuffer: 10_000_000 })
    expect(execFileSync('tar', ['t'], { input: tar, encoding: 'utf8' })).toBe(
      'manifest.json\nledger.db\nhome/x/b.pem\n',
    )
  })
})
