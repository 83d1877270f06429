// What must hold of a crash story when all its kills are over: each serial by OCSP, the newest list as OpenSSL reads it, the signer's count
// against the ledger, and an orderly end. Each check throws with what is wrong.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encodePem } from '../../src/pki/pem.ts'
import type { CrashStory } from './crash-story.ts'
import { newestList, readLedger } from './invariants.ts'

const wordOf = {
  issued: 'good',
  held: 'revoked',
  revoked: 'revoked',
  orphaned: 'revoked',
  void: 'unknown',
  intent: 'unknown',
} as const

const askersAtOnce = 8

/** OCSP says of each serial what the ledger has. */
const ocspIsRight = async ({ home, party }: CrashStory): Promise<void> => {
  const { certificates } = readLedger(home.paths.database)
  const wrong: unknown[] = []
  const queue = [...certificates]
  const ask = async (): Promise<void> => {
    for (let row = queue.pop(); row !== undefined; row = queue.pop()) {
      const word = await party.ocsp(row.serial)
      if (word !== wordOf[row.state]) wrong.push([row.serial, row.state, word])
    }
  }
  await Promise.all(Array.from({ length: askersAtOnce }, ask))
  assert.deepEqual(wrong, [])
}

const listIsRight = async ({ home, party, evidence }: CrashStory): Promise<void> => {
  await home.admin.call('crlPublish', { body: {} })
  const der = await party.crl()
  assert.deepEqual([...newestList(readLedger(home.paths.database), der, Date.now())], [])
  const directory = home.paths.home
  writeFileSync(join(directory, 'newest.crl'), der)
  writeFileSync(join(directory, 'issuing.pem'), encodePem('CERTIFICATE', home.trusted.issuing.der))
  const args = ['crl', '-inform', 'DER', '-in', 'newest.crl', '-CAfile', 'issuing.pem', '-noout', '-text']
  const { stdout, stderr } = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8', maxBuffer: 2 ** 28 })
  assert.equal(stderr, 'verify OK\n')
  const shown = new Set([...stdout.matchAll(/Serial Number: ([0-9A-F]+)/g)].map(([, serial]) => serial!.toLowerCase()))
  const revoked = evidence.acknowledged.flatMap(({ serials }) => serials)
  assert.deepEqual(
    revoked.filter(serial => !shown.has(serial)),
    [],
  )
}

/** The signer counts no signature that the ledger does not know of. */
const countsFit = async (story: CrashStory): Promise<void> => {
  assert.deepEqual(await story.ca().reconcile(), [])
}

const endsInOrder = async (story: CrashStory): Promise<void> => {
  await story.watch.stop()
  assert.deepEqual(await story.ca().stop(), { code: 0, signal: null })
  assert.deepEqual(await story.judge(), [])
  assert.ok(story.evidence.checkpoints.size > 1)
}

/** In this order: the last one ends the server. */
export const lastChecks: Readonly<Record<string, (story: CrashStory) => Promise<void>>> = {
  'OCSP says of each serial what the ledger has, and of nothing else than released ones that it is good': ocspIsRight,
  'OpenSSL accepts the newest list, which shows what the ledger lists': listIsRight,
  'the signer counts no signature that the ledger does not know of': countsFit,
  'the server ends when it is asked to, and its ledger is whole': endsInOrder,
}
