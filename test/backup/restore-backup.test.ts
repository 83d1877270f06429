// A restore believes no file because it could be decrypted: who knows the recipient can make one. And what was decrypted does not stay.
import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { describeFile, readArchive, writeArchive } from '../../src/backup/archive.ts'
import { logKeyFingerprint, neededToVerify } from '../../src/backup/open-backup.ts'
import { restoreBackup } from '../../src/backup/restore-backup.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { homePaths } from '../../src/server/home.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { schemaVersionOf } from '../../src/store/sqlite/snapshot.ts'

let scratch: string
let identity: string
const parts = { clock: systemClock, log: silentLog }
const forger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
const forgersKey = logKeyFingerprint(new Uint8Array(forger.export({ type: 'spki', format: 'der' })))
const at = (name: string): string => join(scratch, name)

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'agentca-forged-'))
  identity = await generateX25519Identity()
  await openSqliteLedger(at('ledger.db'), parts).close()
  writeFileSync(at('log.pem'), forger.export({ type: 'spki', format: 'pem' }))
})
afterEach(() => rmSync(scratch, { recursive: true, force: true }))

/** By somebody who knows the recipient, and nothing else. */
const forged = async (also: Readonly<Record<string, string>> = {}): Promise<string> => {
  const named = { 'ledger.db': at('ledger.db'), 'home/issuers/log-1.pub.pem': at('log.pem'), ...also }
  const files = await Promise.all(Object.entries(named).map(([name, path]) => describeFile(name, path)))
  const manifest = {
    ...({ format: 'agentca-backup', version: 1 } as const),
    ...{ createdAt: '2026-01-01T00:00:00.000Z', agentca: '1.0.0' },
    ...{ caId: 'ca', trustDomain: 'example.org', schema: schemaVersionOf(at('ledger.db')), keys: false },
    ...{ feed: { epoch: 'e', n: 0 }, audit: { size: 0, head: '00'.repeat(32) }, crlNumbers: {} },
    files: files.map(({ name, size, sha256 }) => ({ name, size, sha256 })),
  } as const
  await writeArchive(at('forged.age'), { manifest, files }, { recipients: [await identityToRecipient(identity)] })
  return at('forged.age')
}
const restored = async (from: string, logKey: string | null) =>
  restoreBackup({
    ...{ paths: homePaths(at('home')), ...parts, from, key: { identities: [identity] }, logKey },
    ...{ outside: [], replace: true, dryRun: false },
  })
const nothingRestored = () => expect(existsSync(at('home/agentca.db'))).toBe(false)

describe('a restore', () => {
  it('refuses a backup whose log key is not the one of the home', async () => {
    const file = at('home/issuers/log-1.pub.pem')
    mkdirSync(dirname(file), { recursive: true })
    const own = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
    writeFileSync(file, own.export({ type: 'spki', format: 'pem' }))
    const refused = { code: 'backup_foreign', message: expect.stringMatching(/signed by the log key sha256:/) }
    // Not even where the operator was told the fingerprint by whoever made it.
    const from = await forged()
    for (const said of [null, forgersKey]) await expect(restored(from, said)).rejects.toMatchObject(refused)
    nothingRestored()
  })

  it('refuses one whose log nobody signed', async () => {
    await expect(restored(await forged(), null)).rejects.toMatchObject({ code: 'backup_foreign' })
    await expect(restored(at('forged.age'), forgersKey)).rejects.toMatchObject({
      code: 'backup_unreadable',
      message: expect.stringMatching(/no checkpoint of it was signed/),
    })
    nothingRestored()
  })

  it.for(['home/agentca.db-wal', 'home/tokens/conf', 'home/run/x', 'elsewhere'])('refuses one with %s', async name => {
    await expect(restored(await forged({ [name]: at('log.pem') }), forgersKey)).rejects.toMatchObject({
      code: 'backup_unreadable',
      message: expect.stringMatching(`${name} does not belong in a backup`),
    })
    nothingRestored()
  })
})

describe('what was decrypted', () => {
  it('is written only where it is needed', async () => {
    mkdirSync(at('into'))
    await readArchive(
      await forged({ 'home/tokens/pin': at('log.pem') }),
      { identities: [identity] },
      at('into'),
      neededToVerify,
    )
    expect(readdirSync(at('into'), { recursive: true }).sort()).toEqual([
      ...['home', 'home/issuers', 'home/issuers/log-1.pub.pem', 'ledger.db'],
    ])
  })

  it.for(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('is gone after %s', async signal => {
    const code = `import { makeScratchAnywhere } from ${JSON.stringify(join(checkout, 'src/backup/scratch.ts'))}
      console.log(makeScratchAnywhere().directory); setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      env: { ...process.env, TMPDIR: scratch },
    })
    const done = once(child, 'exit')
    const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
    expect(existsSync(line.trim())).toBe(true)
    child.kill(signal)
    await done
    expect(existsSync(line.trim())).toBe(false)
  })
})
