// Published state: what the log key signed is read, and everything else is refused by its own code, whoever served it.
import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { utf8 } from '../../src/base/bytes.ts'
import { encodeNoteText, encodeSignedNote } from '../../src/pki/signed-note.ts'
import type { KnownFeedEvent } from '../../src/verify/feed-event.ts'
import {
  deltaFileName,
  encodeStateHead,
  encodeStateLine,
  neededFiles,
  readDeltaFile,
  readSnapshotFile,
  type StateHead,
  type StateTrust,
  snapshotFileName,
  stateOriginOf,
  verifyStateHead,
} from '../../src/verify/signed-state.ts'

const epoch = '0123456789abcdef'
const at = Date.UTC(2026, 10, 24)
const log = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const logKeySpki = new Uint8Array(log.publicKey.export({ type: 'spki', format: 'der' }))
const trust: StateTrust = { caId: 'ca-1', logKeySpki, notOlderThan: null, now: at }

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const snapshotOf = (n: number, bytes: Uint8Array = utf8('')) => ({
  name: snapshotFileName({ epoch, n }, hashOf(bytes)),
  n,
  sha256: hashOf(bytes),
  bytes: bytes.length,
})
const deltaOf = (from: number, to: number, bytes: Uint8Array = utf8('')) => ({
  name: deltaFileName(epoch, from, to, hashOf(bytes)),
  from,
  to,
  sha256: hashOf(bytes),
  bytes: bytes.length,
})

const headOf = (changes: Partial<StateHead> = {}): StateHead => ({
  epoch,
  n: 9,
  at,
  nextUpdate: at + 300_000,
  snapshot: snapshotOf(5),
  deltas: [deltaOf(2, 5), deltaOf(5, 8), deltaOf(8, 9)],
  ...changes,
})

const signed = (json: string, size = at, key = log.privateKey, origin = stateOriginOf('ca-1')) => {
  const head = new Uint8Array(createHash('sha256').update(json).digest())
  const text = encodeNoteText({ origin, size, head, at: Math.floor(size / 1000) * 1000 })
  return encodeSignedNote(text, origin, new Uint8Array(sign('sha256', text, key)))
}

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return 'accepted'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

const verdict = (head: unknown, changes: Partial<StateTrust> = {}) => {
  const json = `${JSON.stringify(head)}\n`
  return codeOf(() => verifyStateHead(signed(json, (head as StateHead).at), json, { ...trust, ...changes }))
}

describe('the head of a published state', () => {
  it('is read when the log key signed it', () => {
    const json = encodeStateHead(headOf())
    expect(verifyStateHead(signed(json), json, trust)).toEqual(headOf())
  })

  it('is refused when another key signed it, another CA, or nobody did', () => {
    const json = encodeStateHead(headOf())
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const of = (note: string) => codeOf(() => verifyStateHead(note, json, trust))
    expect(of(signed(json, at, other))).toBe('state_signature_invalid')
    expect(of(signed(json, at, log.privateKey, stateOriginOf('ca-2')))).toBe('state_wrong_log')
    expect(of(signed(json, at, log.privateKey, 'agentca-log/ca-1'))).toBe('state_wrong_log')
    const elsewhere = signed('another head').split('\n\n')[1]
    expect(of(`${signed(json).split('\n\n')[0]}\n\n${elsewhere}`)).toBe('state_signature_invalid')
    expect(of(json)).toBe('state_malformed')
  })

  it('is refused when one byte of it is another than was signed', () => {
    const json = encodeStateHead(headOf())
    const note = signed(json)
    for (const changed of [json.replace('"n":9', '"n":8'), `${json} `, json.slice(0, -1)])
      expect(codeOf(() => verifyStateHead(note, changed, trust))).toBe('state_signature_invalid')
  })

  it('never goes back behind one that was accepted, and may be the same again', () => {
    expect(verdict(headOf(), { notOlderThan: at + 1 })).toBe('state_rolled_back')
    expect(verdict(headOf(), { notOlderThan: at })).toBe('accepted')
  })

  it('ends with its next update, unless the caller judges the age', () => {
    const last = at + 300_000
    expect(verdict(headOf(), { now: last - 1 })).toBe('accepted')
    expect(verdict(headOf(), { now: last })).toBe('state_expired')
    expect(verdict(headOf(), { now: null })).toBe('accepted')
  })

  it.each([
    ['a gap between changes', { deltas: [deltaOf(2, 5), deltaOf(6, 9)] }],
    ['changes that end too early', { deltas: [deltaOf(2, 8)] }],
    ['changes that begin after the snapshot', { deltas: [deltaOf(6, 9)] }],
    ['no changes where some are due', { deltas: [] }],
    ['a snapshot of later', { snapshot: snapshotOf(10) }],
    ['a delta backwards', { deltas: [deltaOf(9, 9)] }],
    ['a name that climbs', { snapshot: { ...snapshotOf(5), name: '../../etc/passwd' } }],
    ['the name of another file', { deltas: [{ ...deltaOf(2, 9), name: deltaOf(2, 8).name }] }],
    ['another epoch in a name', { epoch: 'fedcba9876543210' }],
    ['no epoch', { epoch: 'x' }],
    ['a hash that is none', { snapshot: { ...snapshotOf(5), sha256: 'ab' } }],
    ['a fraction', { n: 9.5 }],
    ['no list', { deltas: 'none' as never }],
  ])('is malformed with %s, signed or not', (_, changes) => {
    expect(verdict(headOf(changes))).toBe('state_malformed')
  })

  it('is malformed when its time is not the size that was signed', () => {
    const json = encodeStateHead(headOf())
    expect(codeOf(() => verifyStateHead(signed(json, at + 1), json, trust))).toBe('state_malformed')
  })
})

describe('the files that a verifier needs', () => {
  const names = (known: Parameters<typeof neededFiles>[1]) => {
    const { snapshot, deltas } = neededFiles(headOf(), known)
    return [snapshot?.n ?? null, ...deltas.map(({ from, to }) => `${from}-${to}`)]
  }
  it.each([
    ['nothing is known', null, [5, '5-8', '8-9']],
    ['it is at the head', { epoch, n: 9 }, [null]],
    ['the changes reach back to it', { epoch, n: 3 }, [null, '2-5', '5-8', '8-9']],
    ['it is where the changes begin', { epoch, n: 2 }, [null, '2-5', '5-8', '8-9']],
    ['it is older than the changes', { epoch, n: 1 }, [5, '5-8', '8-9']],
    ['it is ahead of the head', { epoch, n: 10 }, [5, '5-8', '8-9']],
    ['it is of another epoch', { epoch: 'fedcba9876543210', n: 9 }, [5, '5-8', '8-9']],
  ])('when %s', (_, known, expected) => expect(names(known)).toEqual(expected))
})

const part = (number: number, parts: number, serial: string): KnownFeedEvent => ({
  type: 'snapshot',
  position: { epoch, n: 5 },
  at,
  part: number,
  parts,
  revoked: [{ serial, notAfter: at }],
  held: [],
  principals: [],
})
const revoke = (n: number): KnownFeedEvent => ({
  type: 'revoke',
  position: { epoch, n },
  at,
  by: 'agent',
  value: 'billing',
  reason: 'superseded',
  changes: [{ serial: '0a', notAfter: at }],
})
const file = (...events: readonly KnownFeedEvent[]) => utf8(events.map(encodeStateLine).join(''))

describe('a snapshot file', () => {
  const read = (bytes: Uint8Array) => [...readSnapshotFile(bytes, snapshotOf(5, bytes), epoch)]

  it('gives its parts', () => {
    const parts = [part(1, 2, '0a'), part(2, 2, '0b')] as const
    expect(read(file(...parts))).toEqual(parts)
  })

  it('is refused before a line of it is read when its hash is another', () => {
    const bytes = file(part(1, 1, '0a'))
    const named = snapshotOf(5, bytes)
    for (const wrong of [file(part(1, 1, '0b')), bytes.subarray(1), utf8('')])
      expect(codeOf(() => readSnapshotFile(wrong, named, epoch))).toBe('state_file_differs')
  })

  it.each([
    ['a part is missing', file(part(1, 2, '0a'))],
    ['a part comes twice', file(part(1, 2, '0a'), part(1, 2, '0a'))],
    ['there is none', utf8('')],
    ['a line is torn', file(part(1, 1, '0a')).subarray(0, -1)],
    ['something else is in it', file(part(1, 1, '0a'), revoke(5))],
  ])('is malformed when %s', (_, bytes) => expect(codeOf(() => read(bytes))).toBe('state_malformed'))
})

describe('a delta file', () => {
  const read = (bytes: Uint8Array) => [...readDeltaFile(bytes, deltaOf(5, 7, bytes), epoch)]

  it('gives its events', () => expect(read(file(revoke(6), revoke(7)))).toEqual([revoke(6), revoke(7)]))

  it.each([
    ['one is missing', file(revoke(7))],
    ['the last is missing', file(revoke(6))],
    ['one comes twice', file(revoke(6), revoke(6))],
    ['there is one too many', file(revoke(6), revoke(7), revoke(8))],
  ])('is malformed when %s', (_, bytes) => expect(codeOf(() => read(bytes))).toBe('state_malformed'))
})
