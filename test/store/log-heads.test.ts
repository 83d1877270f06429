// Heads of the log that are not kept whole: they are the same as if they were, and a leaf that was changed is named by its place.
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { verifyChain } from '../../src/audit/chain.ts'
import * as events from '../../src/audit/events.ts'
import { emptyHead, extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import type { Ledger } from '../../src/store/ports.ts'
import type { Leaf } from '../../src/store/records.ts'
import * as w from './make-ledger.ts'

const append = async (ledger: Ledger, from: number, count: number): Promise<void> => {
  await ledger.audit.append(
    Array.from({ length: count }, (_, i) =>
      events.ownerCreated({ at: 1000 + from + i, who: 'operator:alice' }, `owner-${from + i}`),
    ),
  )
}

/** As anybody computes them who has the bytes. */
const headsOf = (leaves: readonly Leaf[]): readonly Uint8Array[] => {
  let head = emptyHead
  return leaves.map(leaf => {
    head = extendHead(head, hashLeaf(leaf.bytes))
    return head
  })
}

const rewrite = (path: string, sql: string): void => {
  const db = new Database(path)
  db.exec(sql)
  db.close()
}

it('gives every leaf its whole head, in whatever pages it is read, and goes on after a restart', async () => {
  using at = w.temporaryDatabase()
  for (const [from, count] of [
    [0, 1],
    [1, 62],
    [63, 1],
    [64, 1],
    [65, 135],
  ] as const) {
    const ledger = w.makeLedger(at.path)
    await append(ledger, from, count)
    const leaves = ledger.audit.read(0, 1000)
    const heads = headsOf(leaves)
    expect(leaves.map(leaf => leaf.head)).toEqual(heads)
    expect(ledger.audit.head()).toEqual({ size: from + count, head: heads.at(-1) })
    await ledger.close()
  }
  await using ledger = w.makeLedger(at.path)
  const heads = headsOf(ledger.audit.read(0, 1000))
  for (const size of [1, 7, 64, 65])
    for (let from = 0; from < 200; from += size)
      expect(ledger.audit.read(from, size).map(leaf => leaf.head)).toEqual(heads.slice(from, from + size))
  expect(ledger.audit.tail({ limit: 100 }).map(leaf => leaf.head)).toEqual(heads.slice(100).toReversed())
})

it.each([
  ['changed', "UPDATE audit_leaf SET bytes = x'7b7d' WHERE idx = 70", [['leaf_changed', 70]]],
  ['listed under another time', 'UPDATE audit_leaf SET at = at + 1 WHERE idx = 70', [['leaf_changed', 70]]],
  ['removed', 'DELETE FROM audit_leaf WHERE idx = 70', [['leaf_missing', 70]]],
  [
    'changed in two places',
    "UPDATE audit_leaf SET bytes = x'7b7d' WHERE idx IN (3, 70)",
    [
      ['leaf_changed', 3],
      ['leaf_changed', 70],
    ],
  ],
  ['changed where its head is whole', "UPDATE audit_leaf SET bytes = x'7b7d' WHERE idx = 127", [['leaf_changed', 127]]],
])('names a leaf that was %s by its place', async (_what, sql, found) => {
  using at = w.temporaryDatabase()
  {
    await using ledger = w.makeLedger(at.path)
    await append(ledger, 0, 200)
  }
  rewrite(at.path, sql)
  {
    // The log goes on all the same.
    await using ledger = w.makeLedger(at.path)
    await append(ledger, 200, 10)
  }
  await using ledger = w.makeLedger(at.path)
  const { findings } = verifyChain(ledger.audit.read(0, 1000))
  expect(findings.filter(({ kind }) => kind !== 'leaf_index_differs').map(({ kind, index }) => [kind, index])).toEqual(
    found,
  )
})

it('reads a log whose first leaves are kept whole, with whole heads, as earlier versions did', async () => {
  using at = w.temporaryDatabase()
  let before: readonly Leaf[] = []
  {
    await using ledger = w.makeLedger(at.path)
    await append(ledger, 0, 100)
    before = ledger.audit.read(0, 1000)
  }
  const db = new Database(at.path)
  const asBefore = db.prepare('UPDATE audit_leaf SET bytes = ?, head = ? WHERE idx = ?')
  for (const { index, bytes, head } of before) asBefore.run(bytes, head, index)
  db.close()
  await using ledger = w.makeLedger(at.path)
  await append(ledger, 100, 100)
  const leaves = ledger.audit.read(0, 1000)
  expect(leaves.slice(0, 100)).toEqual(before)
  expect(leaves.map(leaf => leaf.head)).toEqual(headsOf(leaves))
  expect(verifyChain(leaves).findings).toEqual([])
})
