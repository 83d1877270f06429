// What an agent hears of the feed: its own registration, and the certificates of its own instance. Nothing of others, not even that
// something happened to them.
import type { CertificatesPort, RegistrationsPort } from '../store/ports.ts'
import type { FeedPosition, KnownFeedEvent, StatusChange } from '../verify/feed-event.ts'
import { principalOf } from './entry.ts'
import type { StreamPeer } from './stream.ts'

export interface OwnStateDeps {
  readonly certificates: Pick<CertificatesPort, 'list'>
  readonly registrations: Pick<RegistrationsPort, 'find'>
}

/** A lineage has a handful of certificates that have not expired. */
const maxCertificates = 1000

/** Everything of it at `position`, which is the head. */
export const ownSnapshot = (
  deps: OwnStateDeps,
  { kind, name, instanceId }: StreamPeer,
  position: FeedPosition,
  at: number,
): KnownFeedEvent => {
  const listed = (...states: readonly ('held' | 'revoked' | 'orphaned')[]): readonly StatusChange[] =>
    deps.certificates
      .list({ instanceId, states, liveAt: at, limit: maxCertificates })
      .rows.map(({ serial, notAfter }) => ({ serial, notAfter }))
  const registration = deps.registrations.find(kind, name)
  return {
    type: 'snapshot',
    position,
    at,
    part: 1,
    parts: 1,
    revoked: listed('revoked', 'orphaned'),
    held: listed('held'),
    principals: registration === null ? [] : [principalOf(registration)],
  }
}

/** Whose certificates an event concerns; for all who listen at once. */
export const instancesOf = (
  { certificates }: Pick<OwnStateDeps, 'certificates'>,
  event: KnownFeedEvent,
): ReadonlyMap<string, string> => {
  if (!('changes' in event) || event.changes.length === 0) return new Map()
  const serials = event.changes.map(({ serial }) => serial)
  const { rows } = certificates.list({ serials, limit: serials.length })
  return new Map(rows.map(({ serial, instanceId }) => [serial, instanceId]))
}

/** The event as this peer hears it; null: it does not concern it. */
export const ownEvent = (
  event: KnownFeedEvent,
  { kind, name, instanceId }: StreamPeer,
  instances: ReadonlyMap<string, string>,
): KnownFeedEvent | null => {
  if (event.type === 'agent') return event.principal.kind === kind && event.principal.name === name ? event : null
  if (!('changes' in event)) return null
  const changes = event.changes.filter(({ serial }) => instances.get(serial) === instanceId)
  return changes.length === 0 ? null : { ...event, changes }
}
