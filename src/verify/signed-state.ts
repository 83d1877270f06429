// The state of revocation as files that anybody may serve: a head signed by the CA's log key names a snapshot and the changes since, by
// their hashes. Text and bytes in, checked values out: where they come from, and what of them is kept, is the caller's.
import { createHash } from 'node:crypto'
import { equalBytes, toHex, utf8 } from '../base/bytes.ts'
import { AgentCaError } from '../base/errors.ts'
import { isNoteSignedBy, readSignedNote } from '../pki/signed-note.ts'
import {
  encodeFeedData,
  encodePosition,
  type FeedEvent,
  type FeedPosition,
  type KnownFeedEvent,
  type Members,
  readFeedEvent,
} from './feed-event.ts'

export type StateErrorCode =
  | 'state_malformed'
  /** Another series of notes, or another CA's. */
  | 'state_wrong_log'
  | 'state_signature_invalid'
  /** Published before what is known already. */
  | 'state_rolled_back'
  | 'state_expired'
  /** A file whose bytes are not those that the head names. */
  | 'state_file_differs'

const refuse = (code: StateErrorCode, message: string, facts: Readonly<Record<string, number>> = {}) =>
  new AgentCaError<StateErrorCode>(code, message, { facts })
const malformed = (what: string) => refuse('state_malformed', `expected a published state, got ${what}`)

/** The whole state at `n`. */
export interface SnapshotFile {
  readonly name: string
  readonly n: number
  /** Lower-case hex. */
  readonly sha256: string
  readonly bytes: number
}

/** Every event after `from` up to `to`. */
export interface DeltaFile {
  readonly name: string
  readonly from: number
  readonly to: number
  readonly sha256: string
  readonly bytes: number
}

export interface StateHead {
  readonly epoch: string
  readonly n: number
  /** When it was signed; milliseconds since the epoch. Grows with each head, restored ledgers included. */
  readonly at: number
  /** Until then it may be relied on. */
  readonly nextUpdate: number
  readonly snapshot: SnapshotFile
  /** Each begins where the one before ends, the last one at `n`; together they reach back at least to the snapshot. */
  readonly deltas: readonly DeltaFile[]
}

export const stateOriginOf = (caId: string): string => `agentca-state/${caId}`
/** Part of their hash is in the names of files: whatever a cache keeps under a name is that file. */
const mark = (sha256: string): string => sha256.slice(0, 16)
export const snapshotFileName = ({ epoch, n }: FeedPosition, sha256: string): string =>
  `snapshot-${epoch}-${n}-${mark(sha256)}.jsonl`
export const deltaFileName = (epoch: string, from: number, to: number, sha256: string): string =>
  `delta-${epoch}-${from}-${to}-${mark(sha256)}.jsonl`

export const encodeStateHead = (head: StateHead): string => `${JSON.stringify(head)}\n`

const membersOf = (value: unknown, what: string): Members => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw malformed(`${what} that is no object`)
  return value as Members
}

const whole = (members: Members, name: string): number => {
  const value = members[name]
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformed(`no whole number ${name}`)
  return value as number
}

const fileOf = (members: Members, nameOf: (sha256: string) => string) => {
  const { sha256 } = members
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw malformed('a file without its hash')
  // Names are made from what else is signed, never taken: they become paths.
  const name = nameOf(sha256)
  if (members.name !== name) throw malformed(`a file that is not called ${name}`)
  return { name, sha256, bytes: whole(members, 'bytes') }
}

const deltasOf = (value: unknown, epoch: string): readonly DeltaFile[] => {
  if (!Array.isArray(value)) throw malformed('no list deltas')
  return value.map(each => {
    const members = membersOf(each, 'a delta')
    const [from, to] = [whole(members, 'from'), whole(members, 'to')]
    if (from >= to) throw malformed(`a delta from ${from} to ${to}`)
    return { ...fileOf(members, sha256 => deltaFileName(epoch, from, to, sha256)), from, to }
  })
}

const checkReach = ({ n, snapshot, deltas }: StateHead): void => {
  let end = deltas[0]?.from ?? snapshot.n
  if (end > snapshot.n) throw malformed('changes that begin after the snapshot')
  for (const { from, to } of deltas) {
    if (from !== end) throw malformed(`changes from ${from} where those before end at ${end}`)
    end = to
  }
  if (end !== n || snapshot.n > n) throw malformed(`changes that end at ${end} of ${n}`)
}

const parseHead = (json: string): StateHead => {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch {
    throw malformed('a head that is not JSON')
  }
  const members = membersOf(value, 'a head')
  const { epoch } = members
  if (typeof epoch !== 'string' || !/^[0-9a-f]{16}$/.test(epoch)) throw malformed('no epoch')
  const file = membersOf(members.snapshot, 'a snapshot')
  const n = whole(file, 'n')
  const head: StateHead = {
    epoch,
    n: whole(members, 'n'),
    at: whole(members, 'at'),
    nextUpdate: whole(members, 'nextUpdate'),
    snapshot: { ...fileOf(file, sha256 => snapshotFileName({ epoch, n }, sha256)), n },
    deltas: deltasOf(members.deltas, epoch),
  }
  checkReach(head)
  return head
}

export interface StateTrust {
  readonly caId: string
  /** DER SubjectPublicKeyInfo of the CA's log key, from a channel that is trusted. */
  readonly logKeySpki: Uint8Array
  /** `at` of the newest head that was ever accepted; null: none yet. */
  readonly notOlderThan: number | null
  /** Milliseconds since the epoch; null: its age is judged by the caller, with `nextUpdate`. */
  readonly now: number | null
}

/**
 * @param note the text of `/state/head` @param headJson the text of `/state/head.json`, exactly as it came
 * @throws AgentCaError of StateErrorCode. Head and note are two files: a mirror may be between two publications, so fetch both again once
 */
export const verifyStateHead = (note: string, headJson: string, trust: StateTrust): StateHead => {
  const parsed = readSignedNote(note)
  if (typeof parsed === 'string') throw malformed(parsed)
  const origin = stateOriginOf(trust.caId)
  if (parsed.origin !== origin) throw refuse('state_wrong_log', `expected a state of ${origin}, got ${parsed.origin}`)
  if (!isNoteSignedBy(parsed, trust.logKeySpki))
    throw refuse('state_signature_invalid', 'the head of the state is not signed by the log key')
  if (!equalBytes(parsed.head, sha256(utf8(headJson))))
    throw refuse('state_signature_invalid', 'the head of the state is not the one that was signed')
  const head = parseHead(headJson)
  if (head.at !== parsed.size) throw malformed('a head of another time than its note')
  const { notOlderThan, now } = trust
  if (notOlderThan !== null && head.at < notOlderThan)
    throw refuse('state_rolled_back', 'the state is older than one that was accepted before', {
      at: head.at,
      known: notOlderThan,
    })
  if (now !== null && now >= head.nextUpdate)
    throw refuse('state_expired', 'the state is past its next update', { nextUpdate: head.nextUpdate, at: now })
  return head
}

const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())

/** The files that lead from `known` to the head, in the order in which they are applied; null: nothing is known yet. */
export const neededFiles = (
  { epoch, n, snapshot, deltas }: StateHead,
  known: FeedPosition | null,
): { readonly snapshot: SnapshotFile | null; readonly deltas: readonly DeltaFile[] } => {
  const after = (start: number): readonly DeltaFile[] => deltas.filter(({ to }) => to > start)
  const reached = known !== null && known.epoch === epoch && known.n <= n && known.n >= (deltas[0]?.from ?? n)
  return reached ? { snapshot: null, deltas: after(known.n) } : { snapshot, deltas: after(snapshot.n) }
}

/** One line of a file. `data` as encodeFeedData makes it. */
export const encodeStateLine = (event: KnownFeedEvent): string =>
  `${stateLineStart(event.type, event.position)}${encodeFeedData(event)}${stateLineEnd}`

/** For whoever has the data encoded already. */
export const stateLineStart = (event: string, position: FeedPosition): string =>
  `{"event":${JSON.stringify(event)},"id":"${encodePosition(position)}","data":`
export const stateLineEnd = '}\n'

const decoder = new TextDecoder('utf-8', { fatal: true })

const eventOfLine = (line: Uint8Array): FeedEvent => {
  let value: unknown
  try {
    value = JSON.parse(decoder.decode(line))
  } catch {
    throw malformed('a line that is not JSON')
  }
  const { event, id, data } = membersOf(value, 'a line')
  if (typeof event !== 'string' || typeof id !== 'string') throw malformed('a line without event and id')
  return readFeedEvent(event, id, data)
}

function* eventsOf(bytes: Uint8Array): Generator<FeedEvent> {
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start)
    if (end < 0) throw malformed('a file that ends within a line')
    yield eventOfLine(bytes.subarray(start, end))
    start = end + 1
  }
}

const checkFile = (bytes: Uint8Array, file: SnapshotFile | DeltaFile): void => {
  if (bytes.length !== file.bytes || toHex(sha256(bytes)) !== file.sha256)
    throw refuse('state_file_differs', `${file.name} is not the file that the head names`)
}

type SnapshotEvent = Extract<FeedEvent, { readonly type: 'snapshot' }>

/**
 * The parts of a snapshot, one after the other, once the whole file's hash was found right.
 * @throws AgentCaError `state_file_differs` at once; `state_malformed`, `feed_malformed` from the generator
 */
export const readSnapshotFile = (bytes: Uint8Array, file: SnapshotFile, epoch: string): Generator<SnapshotEvent> => {
  checkFile(bytes, file)
  return snapshotParts(bytes, { epoch, n: file.n })
}

function* snapshotParts(bytes: Uint8Array, { epoch, n }: FeedPosition): Generator<SnapshotEvent> {
  let expected = 1
  let parts: number | null = null
  for (const event of eventsOf(bytes)) {
    if (event.type !== 'snapshot' || event.position.epoch !== epoch || event.position.n !== n)
      throw malformed('something else in a snapshot')
    parts ??= event.parts
    if (event.part !== expected || event.parts !== parts) throw malformed(`part ${event.part} where ${expected} is due`)
    expected++
    yield event
  }
  if (parts === null || expected !== parts + 1) throw malformed('a snapshot that is not whole')
}

/** The events of a delta. @throws as readSnapshotFile */
export const readDeltaFile = (bytes: Uint8Array, file: DeltaFile, epoch: string): Generator<FeedEvent> => {
  checkFile(bytes, file)
  return deltaEvents(bytes, file, epoch)
}

function* deltaEvents(bytes: Uint8Array, { from, to }: DeltaFile, epoch: string): Generator<FeedEvent> {
  let last = from
  for (const event of eventsOf(bytes)) {
    if (event.position.epoch !== epoch || event.position.n !== last + 1) throw malformed(`a gap after ${last}`)
    last++
    yield event
  }
  if (last !== to) throw malformed(`changes up to ${last} of ${to}`)
}
