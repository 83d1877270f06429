// What the feed carries, as values and as the JSON of one `data:` line. The server writes by it, verifiers read by it, signed state files
// hold the same shapes. Unknown event types are kept by their id and skipped: a newer CA must not stop an older verifier.
import { AgentCaError } from '../base/errors.ts'

/** `<epoch>.<n>`: n is contiguous within an epoch; the epoch changes when a ledger is restored. */
export interface FeedPosition {
  readonly epoch: string
  readonly n: number
}

export type PrincipalKind = 'agent' | 'service' | 'operator'

/** One certificate whose status changed, and until when that matters. */
export interface StatusChange {
  /** Lower-case hex. */
  readonly serial: string
  /** Milliseconds since the epoch. */
  readonly notAfter: number
}

/** What a verifier knows of a registration: whether it may call, and as what. */
export interface PrincipalEntry {
  readonly kind: PrincipalKind
  readonly name: string
  readonly state: 'active' | 'held' | 'retired'
  /** The version in a leaf's scopes extension is this one or an older one. */
  readonly version: number
  readonly roles: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  /** What policies grant for every call. */
  readonly scopes: readonly string[]
  /** For conditions on the call; an older CA does not say them. */
  readonly owner?: string | null
  readonly profile?: string
}

/** Which policies are in force. By both: a ledger that was restored may give a version's number again. */
export interface PoliciesInForce {
  /** 0: none. */
  readonly version: number
  /** SHA-256 of their files, hex; empty: there are none. */
  readonly hash: string
}

export type FeedEvent =
  /** The whole state at `position`, in parts 1..parts; it replaces what was known once all parts are there. */
  | {
      readonly type: 'snapshot'
      readonly position: FeedPosition
      readonly at: number
      readonly part: number
      readonly parts: number
      readonly revoked: readonly StatusChange[]
      readonly held: readonly StatusChange[]
      readonly principals: readonly PrincipalEntry[]
      /** PEM of the roots; in one of the parts, and in none of an older CA's. */
      readonly bundlePem?: string
      /** As `bundlePem`. */
      readonly policies?: PoliciesInForce
    }
  | {
      readonly type: 'revoke' | 'hold' | 'release'
      readonly position: FeedPosition
      readonly at: number
      readonly by: string
      readonly value: string
      readonly reason: string | null
      readonly changes: readonly StatusChange[]
    }
  | {
      readonly type: 'agent'
      readonly position: FeedPosition
      readonly at: number
      readonly principal: PrincipalEntry
    }
  /** Other policies are in force. Who evaluates conditions fetches them; for everybody else scopes say what follows. */
  | ({ readonly type: 'policy'; readonly position: FeedPosition; readonly at: number } & PoliciesInForce)
  | { readonly type: 'bundle'; readonly position: FeedPosition; readonly at: number; readonly bundlePem: string }
  /** Sent after reading the head; `position` is the head. What was applied up to it is current as of `at`, and for `leaseSeconds`. */
  | {
      readonly type: 'heartbeat'
      readonly position: FeedPosition
      readonly at: number
      readonly leaseSeconds: number
    }
  /** The last line of a stream that the server ends, and why: `slow_reader`, `certificate_expired`, `shutting_down`, … */
  | { readonly type: 'end'; readonly position: FeedPosition; readonly at: number; readonly code: string }
  /** A type this version does not know. */
  | { readonly type: 'unknown'; readonly position: FeedPosition; readonly at: number; readonly name: string }

export type FeedErrorCode = 'feed_malformed'

const malformed = (what: string): AgentCaError<FeedErrorCode> =>
  new AgentCaError('feed_malformed', `expected a feed event, got ${what}`)

export const encodePosition = ({ epoch, n }: FeedPosition): string => `${epoch}.${n}`

/** @returns null for other text */
export const parsePosition = (text: string): FeedPosition | null => {
  const match = /^([0-9a-f]{16})\.(0|[1-9][0-9]{0,14})$/.exec(text)
  return match === null ? null : { epoch: match[1] as string, n: Number(match[2]) }
}

const pair = ({ serial, notAfter }: StatusChange): readonly [string, number] => [serial, notAfter]

/** What can be written: everything but what only a newer version knows. */
export type KnownFeedEvent = Exclude<FeedEvent, { readonly type: 'unknown' }>

/** The JSON of the `data:` line; type and position are the event's own lines. */
export const encodeFeedData = (event: KnownFeedEvent): string => {
  const { type: _type, position: _position, ...rest } = event
  switch (event.type) {
    case 'snapshot':
      return JSON.stringify({ ...rest, revoked: event.revoked.map(pair), held: event.held.map(pair) })
    case 'revoke':
    case 'hold':
    case 'release':
      return JSON.stringify({ ...rest, changes: event.changes.map(pair) })
    default:
      return JSON.stringify(rest)
  }
}

/** An object of parsed JSON. */
export type Members = Readonly<Record<string, unknown>>

const text = (members: Members, name: string): string => {
  const value = members[name]
  if (typeof value !== 'string') throw malformed(`no text ${name}`)
  return value
}

const whole = (members: Members, name: string): number => {
  const value = members[name]
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformed(`no whole number ${name}`)
  return value as number
}

const list = (members: Members, name: string): readonly unknown[] => {
  const value = members[name]
  if (!Array.isArray(value)) throw malformed(`no list ${name}`)
  return value
}

const serialForm = /^[0-9a-f]{2,40}$/

const changes = (members: Members, name: string): readonly StatusChange[] =>
  list(members, name).map(each => {
    const [serial, notAfter] = Array.isArray(each) ? each : []
    if (typeof serial !== 'string' || !serialForm.test(serial)) throw malformed(`a change without a serial in ${name}`)
    if (!Number.isSafeInteger(notAfter)) throw malformed(`a change without an end in ${name}`)
    return { serial, notAfter }
  })

const kinds: readonly string[] = ['agent', 'service', 'operator']
const states: readonly string[] = ['active', 'held', 'retired']

const texts = (members: Members, name: string): readonly string[] => {
  const values = list(members, name)
  if (!values.every(value => typeof value === 'string')) throw malformed(`something else than texts in ${name}`)
  return values as readonly string[]
}

const policiesOf = (value: unknown): PoliciesInForce => {
  if (value === null || typeof value !== 'object') throw malformed('policies that are none')
  const members = value as Members
  return { version: whole(members, 'version'), hash: text(members, 'hash') }
}

const principal = (value: unknown): PrincipalEntry => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw malformed('a principal that is none')
  const members = value as Members
  const kind = text(members, 'kind')
  const state = text(members, 'state')
  if (!kinds.includes(kind)) throw malformed(`a principal of kind ${kind}`)
  if (!states.includes(state)) throw malformed(`a principal in state ${state}`)
  const attributes = members.attributes
  if (
    attributes === null ||
    typeof attributes !== 'object' ||
    !Object.values(attributes).every(each => typeof each === 'string')
  )
    throw malformed('attributes that are not texts')
  return {
    kind: kind as PrincipalKind,
    name: text(members, 'name'),
    state: state as PrincipalEntry['state'],
    version: whole(members, 'version'),
    roles: texts(members, 'roles'),
    attributes: attributes as Readonly<Record<string, string>>,
    scopes: texts(members, 'scopes'),
    ...(members.owner === undefined ? {} : { owner: members.owner === null ? null : text(members, 'owner') }),
    ...(members.profile === undefined ? {} : { profile: text(members, 'profile') }),
  }
}

/**
 * @param name the `event:` line
 * @param id the `id:` line
 * @throws AgentCaError `feed_malformed`
 */
export const parseFeedEvent = (name: string, id: string, data: string): FeedEvent => {
  let parsed: unknown
  try {
    parsed = JSON.parse(data)
  } catch {
    throw malformed('data that is not JSON')
  }
  return readFeedEvent(name, id, parsed)
}

/** The same from JSON that is parsed already. @throws AgentCaError `feed_malformed` */
export const readFeedEvent = (name: string, id: string, data: unknown): FeedEvent => {
  const position = parsePosition(id)
  if (position === null) throw malformed(`the id ${JSON.stringify(id.slice(0, 40))}`)
  if (data === null || typeof data !== 'object' || Array.isArray(data)) throw malformed('data that is no object')
  const members = data as Members
  const at = whole(members, 'at')
  switch (name) {
    case 'snapshot': {
      const [part, parts] = [whole(members, 'part'), whole(members, 'parts')]
      if (part < 1 || part > parts) throw malformed(`part ${part} of ${parts}`)
      return {
        type: name,
        position,
        at,
        part,
        parts,
        revoked: changes(members, 'revoked'),
        held: changes(members, 'held'),
        principals: list(members, 'principals').map(principal),
        ...(members.bundlePem === undefined ? {} : { bundlePem: text(members, 'bundlePem') }),
        ...(members.policies === undefined ? {} : { policies: policiesOf(members.policies) }),
      }
    }
    case 'revoke':
    case 'hold':
    case 'release':
      return {
        type: name,
        position,
        at,
        by: text(members, 'by'),
        value: text(members, 'value'),
        reason: members.reason === null ? null : text(members, 'reason'),
        changes: changes(members, 'changes'),
      }
    case 'agent':
      return { type: name, position, at, principal: principal(members.principal) }
    case 'policy':
      return { type: name, position, at, ...policiesOf(members) }
    case 'bundle':
      return { type: name, position, at, bundlePem: text(members, 'bundlePem') }
    case 'heartbeat':
      return { type: name, position, at, leaseSeconds: whole(members, 'leaseSeconds') }
    case 'end':
      return { type: name, position, at, code: text(members, 'code') }
    default:
      return { type: 'unknown', position, at, name }
  }
}
