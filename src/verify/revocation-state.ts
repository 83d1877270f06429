// What a verifier knows of a CA: the serials that are revoked or held, the registrations, and the position of the feed up to which that
// is true. Events are applied in their order and each exactly once; whatever does not follow asks for a resync instead of guessing.
import type {
  FeedEvent,
  FeedPosition,
  PoliciesInForce,
  PrincipalEntry,
  PrincipalKind,
  StatusChange,
} from './feed-event.ts'
import { createSerialTable, type ListedStatus, type SerialKey, type SerialTable, serialKeyOf } from './serial-table.ts'

/**
 * `applied`: it changed what is known, or confirmed it. `duplicate`: known already. `part`: of a snapshot that is not whole yet.
 * `resync`: it does not follow what is known; reconnect with `position`, or without one for a snapshot.
 */
export type Applied = 'applied' | 'duplicate' | 'part' | 'resync'

export interface RevocationState {
  /** null before the first snapshot: then nobody is known, and nobody may be let in. */
  position(): FeedPosition | null
  apply(event: FeedEvent): Applied
  status(key: SerialKey): ListedStatus | null
  principal(kind: PrincipalKind, name: string): PrincipalEntry | null
  /** null: not known; an older CA's snapshots do not say. */
  policies(): PoliciesInForce | null
  /** Serials with a status. */
  readonly size: number
  /** Forgets the serials of certificates that have ended. */
  expire(now: number): void
  /**
   * The same in pieces, read while it changes: what is applied meanwhile may be in them or not, so whoever keeps them keeps every event
   * from the position they began at. Nothing before the first snapshot.
   */
  contents(pieceSize: number): Iterable<Content>
  /** The same as events, in parts of at most `partSize` changes: for the disk and for whoever asks. null before the first snapshot. */
  snapshot(at: number, partSize?: number): readonly Extract<FeedEvent, { type: 'snapshot' }>[] | null
}

/** What one part of a snapshot holds. */
export type Content = Pick<Extract<FeedEvent, { type: 'snapshot' }>, 'revoked' | 'held' | 'principals' | 'policies'>

const nameOf = (kind: PrincipalKind, name: string): string => `${kind}:${name}`

interface Known {
  readonly table: SerialTable
  readonly principals: Map<string, PrincipalEntry>
  policies: PoliciesInForce | null
}

interface Gathering extends Known {
  readonly position: FeedPosition
  readonly parts: number
  /** Parts taken so far: they come in their order. */
  taken: number
}

const samePosition = (a: FeedPosition, b: FeedPosition): boolean => a.epoch === b.epoch && a.n === b.n

const setAll = (table: SerialTable, changes: readonly StatusChange[], status: ListedStatus): void => {
  for (const { serial, notAfter } of changes) table.set(serialKeyOf(serial), status, notAfter)
}

const empty = (): Known => ({ table: createSerialTable(), principals: new Map(), policies: null })

export const createRevocationState = (): RevocationState => {
  // Owned by this closure; a snapshot is gathered beside it and takes its place whole.
  let known = empty()
  let position: FeedPosition | null = null
  let gathering: Gathering | null = null

  const takePart = (event: Extract<FeedEvent, { type: 'snapshot' }>): Applied => {
    if (event.part === 1) gathering = { ...empty(), position: event.position, parts: event.parts, taken: 0 }
    if (
      gathering === null ||
      event.part !== gathering.taken + 1 ||
      event.parts !== gathering.parts ||
      !samePosition(event.position, gathering.position)
    ) {
      gathering = null
      return 'resync'
    }
    // Parts are alike but for the last one.
    gathering.table.reserve((event.parts - event.part + 1) * (event.revoked.length + event.held.length))
    setAll(gathering.table, event.revoked, 'revoked')
    setAll(gathering.table, event.held, 'held')
    for (const principal of event.principals)
      gathering.principals.set(nameOf(principal.kind, principal.name), principal)
    gathering.policies = event.policies ?? gathering.policies
    gathering.taken = event.part
    if (event.part < event.parts) return 'part'
    known = gathering
    position = gathering.position
    gathering = null
    return 'applied'
  }

  const change = (event: FeedEvent): void => {
    switch (event.type) {
      case 'revoke':
        setAll(known.table, event.changes, 'revoked')
        return
      case 'hold':
        setAll(known.table, event.changes, 'held')
        return
      case 'release':
        for (const { serial } of event.changes) known.table.release(serialKeyOf(serial))
        return
      case 'agent':
        known.principals.set(nameOf(event.principal.kind, event.principal.name), event.principal)
        return
      case 'policy':
        known.policies = { version: event.version, hash: event.hash }
        return
      default:
        return
    }
  }

  return {
    position: () => position,
    apply: event => {
      if (event.type === 'snapshot') return takePart(event)
      // A snapshot that was cut off is worth nothing: what follows belongs to a state that is not there.
      if (gathering !== null) {
        gathering = null
        return 'resync'
      }
      if (position === null || event.position.epoch !== position.epoch) return 'resync'
      if (event.type === 'heartbeat') {
        if (event.position.n > position.n) return 'resync'
        return event.position.n === position.n ? 'applied' : 'duplicate'
      }
      if (event.position.n <= position.n) return 'duplicate'
      if (event.position.n !== position.n + 1) return 'resync'
      change(event)
      position = event.position
      return 'applied'
    },
    status: key => known.table.get(key),
    principal: (kind, name) => known.principals.get(nameOf(kind, name)) ?? null,
    policies: () => known.policies,
    get size() {
      return known.table.size
    },
    expire: now => known.table.expire(now),
    contents: pieceSize => (position === null ? [] : contentsOf(known, pieceSize)),
    snapshot: (at, partSize = 1000) => {
      if (position === null) return null
      const here = position
      const pieces = [...contentsOf(known, partSize)]
      return pieces.map((piece, i) => ({
        type: 'snapshot' as const,
        position: here,
        at,
        part: i + 1,
        parts: pieces.length,
        ...piece,
      }))
    },
  }
}

/** At least one, so that an empty state is one too. Registrations first: there are few of them, and they change. */
function* contentsOf({ table, principals, policies }: Known, size: number): Generator<Content> {
  const registrations = [...principals.values()]
  for (let from = 0; from === 0 || from < registrations.length; from += size) {
    const also = from === 0 && policies !== null ? { policies } : {}
    yield { revoked: [], held: [], principals: registrations.slice(from, from + size), ...also }
  }
  let page: Listed[] = []
  for (const entry of table.entries()) {
    page.push(entry)
    if (page.length < size) continue
    yield statusesOf(page)
    page = []
  }
  if (page.length > 0) yield statusesOf(page)
}

type Listed = StatusChange & { readonly status: ListedStatus }

const statusesOf = (page: readonly Listed[]): Content => {
  const pick = (status: ListedStatus): readonly StatusChange[] =>
    page.filter(entry => entry.status === status).map(({ serial, notAfter }) => ({ serial, notAfter }))
  return { revoked: pick('revoked'), held: pick('held'), principals: [] }
}
