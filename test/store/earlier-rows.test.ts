// Rows as earlier versions wrote them: identifiers and what tokens repeat as text, whole to-be-signed bytes, whole leaves with whole heads.
// They are read, found, renewed and revoked as those that are written now, and both are in one log.
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { verifyChain } from '../../src/audit/chain.ts'
import type { IntentRecord, Ledger } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const id = (n: number): string => n.toString(16).padStart(32, '0')
const shortId = (n: number): string => n.toString(16).padStart(16, '0')

/** As they were before there were codecs. */
const rewriteAsBefore = (path: string, before: Ledger, intents: readonly IntentRecord[]): (() => void) => {
  const leaves = before.audit.read(0, 1000).map(({ index, bytes, head }) => ({ index, bytes, head }))
  const token = before.tokens.get(shortId(7))!
  return () => {
    const db = new Database(path)
    for (const { serial, tbs, requester } of intents)
      db.prepare(
        'UPDATE certificate SET tbs = ?, template = NULL, requester = (SELECT id FROM word WHERE text = ?) WHERE serial = ?',
      ).run(tbs, requester, Buffer.from(serial, 'hex'))
    for (const { index, bytes, head } of leaves)
      db.prepare('UPDATE audit_leaf SET bytes = ?, head = ? WHERE idx = ?').run(bytes, head, index)
    db.prepare('UPDATE instance SET id = lower(hex(id))').run()
    db.prepare('UPDATE token SET id = lower(hex(id)), audience = ?, created_by = ?').run(
      token.audience,
      token.createdBy,
    )
    db.close()
  }
}

it('are read, found, renewed and revoked beside those that are written now', async () => {
  using at = w.temporaryDatabase()
  const first = w.makeLedger(at.path)
  const world = await w.makeWorld(first)
  await w.addToken(world, shortId(7), 2)
  const intents = [
    await w.issue(world, { instanceId: id(1), tokenId: shortId(7) }),
    await w.issue(world, { instanceId: id(2) }),
  ]
  const told = (ledger: Ledger) => ({
    certificates: intents.map(({ serial }) => ledger.certificates.get(serial)),
    pages: ledger.certificates.list({ instanceId: id(1), limit: 10 }).rows,
    instances: [id(1), id(2)].map(ledger.instances.get),
    after: ledger.instances.list({ after: id(1), limit: 10 }).map(row => row.id),
    token: ledger.tokens.get(shortId(7)),
    byHash: ledger.tokens.byHash(w.hashOf(shortId(7))),
    radius: ledger.revocations.blastRadius({ by: 'token', value: shortId(7) }, w.now),
    leaves: ledger.audit.read(0, 1000).map(({ index, bytes, head }) => ({ index, bytes, head })),
  })
  const before = told(first)
  const rewrite = rewriteAsBefore(at.path, first, intents)
  await first.close()
  rewrite()

  await using ledger = w.makeLedger(at.path)
  expect(told(ledger)).toEqual(before)
  const later = { ...world, ledger }
  const renewed = await w.renew(later, intents[0]!, { requester: `spiffe://example.org/agent/crawler/i/${id(1)}` })
  const beside = await w.issue(later, { instanceId: id(3), tokenId: shortId(7) })
  expect(ledger.certificates.get(renewed.serial)).toMatchObject({
    instanceId: id(1),
    predecessor: intents[0]!.serial,
    requester: `spiffe://example.org/agent/crawler/i/${id(1)}`,
  })
  expect(ledger.tokens.get(shortId(7))?.usesTaken).toBe(2)
  await expect(w.issue(later, { instanceId: id(4), tokenId: shortId(7) })).rejects.toMatchObject({ code: 'conflict' })
  await w.lock(later, id(2))
  expect(ledger.instances.get(id(2))?.state).toBe('locked')
  await ledger.revocations.revoke({
    ...{ selector: { by: 'token', value: shortId(7) }, reason: 'keyCompromise', at: w.now, expected: null },
    leaf: () => w.leaf('revoked'),
  })
  expect([id(1), id(3)].map(each => ledger.instances.get(each)?.state)).toEqual(['revoked', 'revoked'])
  expect([intents[0]!, renewed, beside].map(({ serial }) => w.stateOf(later, serial))).toEqual(Array(3).fill('revoked'))
  const { findings } = verifyChain(ledger.audit.read(0, 1000))
  expect(findings.filter(({ kind }) => kind !== 'leaf_index_differs')).toEqual([])
})
