// Chain, checkpoints and the whole log: what tampering is found, and where. Leaves come from a real ledger.
import { generateKeyPairSync, sign } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { verifyChain } from '../../src/audit/chain.ts'
import { encodeCheckpoint, encodeNote, originOf, parseNote, verifyNote } from '../../src/audit/checkpoint.ts'
import * as events from '../../src/audit/events.ts'
import { extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import { verifyLog } from '../../src/audit/verify-log.ts'
import type { Leaf } from '../../src/store/records.ts'
import { makeLedger } from '../store/make-ledger.ts'

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = new Uint8Array(keys.publicKey.export({ format: 'der', type: 'spki' }))
const origin = originOf('ca-1')
const log = { origin, spki }

const noteOf = (size: number, head: Uint8Array, at = Date.UTC(2026, 10, 24)): string => {
  const text = encodeCheckpoint({ origin, size, head, at })
  return encodeNote(text, origin, new Uint8Array(sign('sha256', text, keys.privateKey)))
}

const makeLog = async (): Promise<readonly Leaf[]> => {
  const ledger = makeLedger()
  for (let i = 0; i < 10; i++)
    await ledger.audit.append([
      events.ownerCreated({ at: 1000 + i, who: 'operator:alice' }, `owner-${i}`),
      events.coreStarted({ at: 2000 + i, who: 'system' }, { version: '0.1.0', epoch: i }),
    ])
  const leaves = ledger.audit.read(0, 1000)
  await ledger.close()
  return leaves
}

/** Everything an intruder with write access can recompute: positions and heads. */
const rechain = (leaves: readonly Leaf[]): readonly Leaf[] => {
  let head: Uint8Array = new Uint8Array(32)
  return leaves.map((leaf, index) => {
    head = extendHead(head, hashLeaf(leaf.bytes))
    return { ...leaf, index, head }
  })
}

test('the ledger and the verifier compute the same chain', async () => {
  const leaves = await makeLog()
  const { end, findings } = verifyChain(leaves)
  expect(findings).toEqual([])
  expect(end).toEqual({ size: 20, head: leaves.at(-1)!.head })
})

test('a changed leaf is named by its position', async () => {
  const leaves = [...(await makeLog())]
  const changed = events.ownerCreated({ at: 1003, who: 'operator:alice' }, 'mallory')
  leaves[6] = { ...leaves[6]!, bytes: changed.bytes, subject: changed.subject }
  expect(verifyChain(leaves).findings.map(f => [f.kind, f.index, f.event, f.at])).toEqual([
    ['leaf_changed', 6, 'owner_created', 1003],
  ])
})

test('a removed leaf is named by its position', async () => {
  const leaves = await makeLog()
  expect(verifyChain(leaves.toSpliced(4, 1)).findings.map(f => [f.kind, f.index])).toEqual([['leaf_missing', 4]])
})

test('reordered leaves are found', async () => {
  const leaves = [...(await makeLog())]
  const [a, b] = [leaves[3]!, leaves[8]!]
  leaves[3] = { ...b, index: 3, head: a.head }
  leaves[8] = { ...a, index: 8, head: b.head }
  expect(verifyChain(leaves).findings.map(f => [f.kind, f.index])).toEqual([
    ['leaf_changed', 3],
    ['leaf_changed', 8],
  ])
})

test('a search column that says something else than the bytes is found', async () => {
  const leaves = [...(await makeLog())]
  leaves[5] = { ...leaves[5]!, event: 'core_stopped' }
  expect(verifyChain(leaves).findings.map(f => [f.kind, f.index])).toEqual([['leaf_index_differs', 5]])
})

test('an honest log verifies against all its checkpoints', async () => {
  const leaves = await makeLog()
  const checkpoints = [noteOf(5, leaves[4]!.head), noteOf(20, leaves[19]!.head)]
  expect(await verifyLog({ leaves, checkpoints, log })).toEqual({ size: 20, checkpoints: 2, findings: [] })
})

test('a log that was changed and chained anew is found between two checkpoints', async () => {
  const leaves = await makeLog()
  const checkpoints = [5, 10, 20].map(size => noteOf(size, leaves[size - 1]!.head))
  const forged = events.ownerCreated({ at: 1003, who: 'operator:alice' }, 'mallory')
  const rewritten = rechain(leaves.map((leaf, i) => (i === 6 ? { ...leaf, ...forged } : leaf)))
  expect(verifyChain(rewritten).findings).toEqual([])
  const { findings } = await verifyLog({ leaves: rewritten, checkpoints, log })
  expect(findings.map(f => [f.kind, f.index])).toEqual([
    ['log_rewritten', 5],
    ['log_rewritten', 5],
  ])
})

test('a log that was rolled back is found by a checkpoint kept elsewhere', async () => {
  const leaves = await makeLog()
  const verdict = await verifyLog({ leaves: leaves.slice(0, 12), checkpoints: [noteOf(20, leaves[19]!.head)], log })
  expect(verdict.findings.map(f => [f.kind, f.index])).toEqual([['log_rolled_back', 12]])
})

test('any change of one octet of one leaf is found at that leaf', async () => {
  const leaves = await makeLog()
  fc.assert(
    fc.property(fc.nat(19), fc.nat(), fc.integer({ min: 1, max: 255 }), (index, place, mask) => {
      const bytes = leaves[index]!.bytes.slice()
      bytes[place % bytes.length]! ^= mask
      const tampered = leaves.map(leaf => (leaf.index === index ? { ...leaf, bytes } : leaf))
      expect(verifyChain(tampered).findings.map(f => [f.kind, f.index])).toContainEqual(['leaf_changed', index])
    }),
  )
})

test('a checkpoint is what its note says', () => {
  const head = new Uint8Array(32).fill(7)
  const note = noteOf(42, head)
  expect(note.split('\n').slice(0, 4)).toEqual([
    'agentca-log/ca-1',
    '42',
    Buffer.from(head).toString('base64'),
    'time 2026-11-24T00:00:00Z',
  ])
  expect(verifyNote(note, log)).toEqual({ origin, size: 42, head, at: Date.UTC(2026, 10, 24) })
})

test('a note that is changed, of another log, or by another key is refused', () => {
  const note = noteOf(42, new Uint8Array(32))
  const codeOf = (text: string, key = log): string => {
    try {
      verifyNote(text, key)
      return 'accepted'
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  expect(codeOf(note)).toBe('accepted')
  expect(codeOf(note.replace('\n42\n', '\n43\n'))).toBe('checkpoint_signature_invalid')
  expect(codeOf(note.replace('2026-11-24', '2026-11-25'))).toBe('checkpoint_signature_invalid')
  expect(codeOf(note, { origin: originOf('ca-2'), spki })).toBe('checkpoint_wrong_log')
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' })
  expect(codeOf(note, { origin, spki: new Uint8Array(other) })).toBe('checkpoint_signature_invalid')
  for (const bad of ['', `${note}\n`, note.slice(1), note.replace('\n42\n', '\n042\n'), note.replace('\u2014', '-')])
    expect(() => parseNote(bad)).toThrow(expect.objectContaining({ code: 'checkpoint_malformed' }))
})
