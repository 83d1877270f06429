// The judge of the stories is judged itself: each of its rules finds the damage that it is there for, in a copy of a real ledger or in
// what was told outside, and finds nothing where nothing was done.
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createOrderClient } from './crash-orders.ts'
import { createMember, createToken, type FleetDeps, registerAgent, revoke } from './fleet.ts'
import { type Evidence, findViolations, newestList, noEvidence, readLedger, rules } from './invariants.ts'
import { createRelyingParty, watchStatus } from './relying-party.ts'
import { until } from './until.ts'

let home: StoryHome
const evidence = noEvidence()
const ending = new AbortController()

beforeAll(async () => {
  home = await createStoryHome()
  const deps: FleetDeps = { home, evidence, signal: ending.signal, retryMs: 100 }
  const ca = await startCa(home, 'serve')
  const party = createRelyingParty(home)
  const watch = watchStatus(party, evidence)
  const [loyal, revoked] = ['loyal', 'revoked'].map(name => createMember(deps, name))
  for (const member of [loyal!, revoked!]) {
    await registerAgent(deps, member.agent)
    member.join(await createToken(deps, member.agent))
    expect(await member.act()).toBe('answered')
  }
  expect(await loyal!.act()).toBe('answered')
  const client = await createOrderClient(deps, 'loyal')
  expect(await client.act(1)).toBe('answered')
  client.close()
  await until('a first list and a first checkpoint', () => evidence.crls.length > 0 && evidence.checkpoints.size > 0)
  await revoke(deps, { by: 'instance', value: revoked!.current()!.facts.instance })
  await until('a list with the revocation', () => evidence.crls.length > 1)
  await watch.stop()
  await party.close()
  expect(await ca.stop()).toEqual({ code: 0, signal: null })
})
afterAll(() => {
  ending.abort()
  home?.remove()
})

const told = (): Evidence => ({
  received: [...evidence.received],
  tokens: new Map(evidence.tokens),
  ordered: [...evidence.ordered],
  acknowledged: [...evidence.acknowledged],
  crls: [...evidence.crls],
  checkpoints: new Set(evidence.checkpoints),
})

let copies = 0
/** What is found after `sql` was run on a copy of the ledger. */
const findAfter = (sql: string, evidence: Evidence = told()): Promise<readonly string[]> => {
  const file = join(home.paths.home, `copy-${++copies}.db`)
  copyFileSync(home.paths.database, file)
  const db = new Database(file)
  db.pragma('foreign_keys = OFF')
  db.exec(sql)
  db.close()
  return findViolations({ ledger: readLedger(file), evidence, trusted: home.trusted })
}

const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === bytes.length - 1 ? byte ^ 1 : byte))
const issued = 'SELECT row FROM certificate WHERE state = 1 ORDER BY row LIMIT 1'
const revokedRow = 'state = 3'
const leafOf = (event: string): string =>
  `(SELECT max(idx) FROM audit_leaf WHERE event = (SELECT id FROM word WHERE text = '${event}'))`

type Damage = readonly [rule: keyof typeof rules, what: string, sql: string, told?: (evidence: Evidence) => void]

const damages: readonly Damage[] = [
  [
    'received',
    'a released certificate is not there',
    `DELETE FROM certificate WHERE row = (SELECT max(row) FROM certificate)`,
  ],
  ['received', 'the bytes are others', `UPDATE certificate SET tbs = zeroblob(length(tbs)) WHERE ${revokedRow}`],
  ['received', 'the signature is another', `UPDATE certificate SET signature = x'3000' WHERE ${revokedRow}`],
  ['received', 'it was never issued', `UPDATE certificate SET issued_at = NULL WHERE ${revokedRow}`],
  ['received', 'it counts as orphaned', `UPDATE certificate SET state = 4 WHERE ${revokedRow}`],
  [
    'received',
    'it is of another token',
    `UPDATE certificate SET token = (SELECT max(seq) FROM token) WHERE token IS NOT NULL`,
  ],
  [
    'serials',
    'one serial has two certificates',
    '',
    ({ received }) => received.push({ der: flipped(received[0]!.der), tokenId: null }),
  ],
  ['tokens', 'a token is gone', 'DELETE FROM token'],
  ['tokens', 'more uses were taken than it has', 'UPDATE token SET uses_taken = uses + 1 WHERE uses_taken = uses'],
  ['tokens', 'a use has no claim', 'DELETE FROM token_use'],
  [
    'tokens',
    'two keys got certificates with one use',
    '',
    ({ received, tokens }) => received.push({ der: received[2]!.der, tokenId: [...tokens.keys()][0]! }),
  ],
  [
    'tokens',
    'two lineages began with one use',
    `UPDATE certificate SET token = (SELECT min(seq) FROM token WHERE uses_taken > 0), predecessor = NULL WHERE issued_at IS NOT NULL`,
  ],
  ['revocations', 'what was revoked is issued', `UPDATE certificate SET state = 1 WHERE ${revokedRow}`],
  ['revocations', 'what was revoked is on no list', 'DELETE FROM revocation'],
  ['revocations', 'the instance lives', 'UPDATE instance SET state = 0'],
  ['revocations', 'the feed does not tell', `UPDATE feed SET body = '{}'`],
  ['revocations', 'the feed is another one', `UPDATE counter SET value = 'other' WHERE name = 'feed_epoch'`],
  ['lists', 'a revoked one is not listed', 'UPDATE revocation SET listed = 0'],
  ['lists', 'an issued one is listed', `UPDATE certificate SET state = 1 WHERE ${revokedRow}`],
  ['crls', 'an older list came after a newer one', '', ({ crls }) => void crls.reverse()],
  ['crls', 'a list came again after another', '', ({ crls }) => void crls.push(crls[0]!)],
  ['crls', 'a list is not signed', '', ({ crls }) => void crls.splice(0, 1, flipped(crls[0]!))],
  ['crls', 'a list was never recorded', 'DELETE FROM crl'],
  ['log', 'a leaf was changed', `UPDATE audit_leaf SET at = at + 1 WHERE idx = ${leafOf('core_started')}`],
  ['log', 'a leaf was removed', `DELETE FROM audit_leaf WHERE idx = ${leafOf('certificate_issued')}`],
  ['log', 'the log was cut behind what was signed', `DELETE FROM audit_leaf WHERE idx >= ${leafOf('core_started')}`],
  ['steps', 'an intent is not in the log', `DELETE FROM audit_leaf WHERE idx = ${leafOf('intent_recorded')}`],
  ['steps', 'an issuance is not in the log', `DELETE FROM audit_leaf WHERE idx = ${leafOf('certificate_issued')}`],
  [
    'steps',
    'the intent came after the issuance',
    `UPDATE audit_leaf SET idx = 1000000 WHERE idx = ${leafOf('intent_recorded')}`,
  ],
  ['steps', 'the log has it and the ledger does not', `DELETE FROM certificate WHERE ${revokedRow}`],
  ['feed', 'an entry is gone', 'DELETE FROM feed WHERE n = 1'],
  ['feed', 'a number was used for nothing', `UPDATE counter SET value = value + 1 WHERE name = 'feed_n'`],
  ['lineages', 'somebody is locked', 'UPDATE instance SET state = 1 WHERE state = 0'],
  [
    'lineages',
    'a generation is missing',
    'UPDATE certificate SET generation = generation + 1 WHERE predecessor IS NOT NULL',
  ],
  [
    'lineages',
    'a predecessor has two successors',
    `UPDATE certificate SET generation = 2, predecessor = (SELECT predecessor FROM certificate WHERE predecessor IS NOT NULL),
       instance = (SELECT instance FROM certificate WHERE predecessor IS NOT NULL) WHERE ${revokedRow}`,
  ],
  ['orders', 'an account is gone', 'DELETE FROM acme_account'],
  ['orders', 'an order has no certificate', 'UPDATE acme_order SET certificate = NULL'],
  [
    'orders',
    'an order was answered with two certificates',
    '',
    ({ ordered, received }) => void ordered.push({ ...ordered[0]!, der: received[0]!.der }),
  ],
  [
    'orders',
    'a certificate is no order’s',
    `UPDATE certificate SET instance = (SELECT instance FROM acme_account) WHERE ${revokedRow}`,
  ],
  ['decided', 'an intent was left', `UPDATE certificate SET state = 0 WHERE row = (${issued})`],
]

describe('the rules of the stories', () => {
  it('find nothing in an undamaged ledger, and saw something to judge', async () => {
    expect(await findAfter('')).toEqual([])
    expect([evidence.received.length, evidence.ordered.length, evidence.acknowledged.length]).toEqual([4, 1, 1])
  })

  it('have each been seen to find something', () => {
    expect([...new Set(damages.map(([rule]) => rule))].toSorted()).toEqual(Object.keys(rules).toSorted())
  })

  it.each(damages.map(([rule, what, sql, tell]) => ({ rule, what, sql, tell })))(
    '$rule: $what',
    async ({ rule, sql, tell }) => {
      const evidence = told()
      tell?.(evidence)
      const found = await findAfter(sql, evidence)
      expect(found.filter(violation => violation.startsWith(`${rule}: `))).not.toEqual([])
    },
  )

  it('the newest list shows exactly what the ledger lists', () => {
    const ledger = readLedger(home.paths.database)
    const [first, newest] = [evidence.crls[0]!, evidence.crls.at(-1)!]
    const { serialHex } = parseCertificate(evidence.received[1]!.der)
    expect([...newestList(ledger, newest, Date.now())]).toEqual([])
    expect([...newestList(ledger, first, Date.now())]).toEqual([`${serialHex} is not on the newest list`])
  })
})
