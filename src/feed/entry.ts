// From a row of the ledger to what is sent: the event as a value, and its bytes in a stream (server-sent events, WHATWG HTML §9.2).
import { fromBase64 } from '../base/bytes.ts'
import { encodePem } from '../pki/pem.ts'
import type { FeedEntry, Registration } from '../store/records.ts'
import {
  encodeFeedData,
  encodePosition,
  type FeedPosition,
  type KnownFeedEvent,
  type PrincipalEntry,
  type PrincipalKind,
  type StatusChange,
} from '../verify/feed-event.ts'

type PrincipalFacts = Pick<Registration, 'kind' | 'name' | 'state' | 'version' | 'roles' | 'attributes' | 'scopes'> & {
  /** Not in entries of before there were conditions. */
  readonly owner?: string | null
  readonly profile?: string
}

export const principalOf = ({
  kind,
  name,
  state,
  version,
  roles,
  attributes,
  scopes,
  owner,
  profile,
}: PrincipalFacts): PrincipalEntry => ({
  kind,
  name,
  state,
  version,
  roles,
  attributes,
  scopes,
  ...(owner === undefined ? {} : { owner }),
  ...(profile === undefined ? {} : { profile }),
})

type StatusBody = {
  readonly by: string
  readonly value: string
  readonly reason?: string
  readonly changes: readonly (readonly [string, number])[]
}
type RegistrationBody = Pick<Registration, 'state' | 'version' | 'roles' | 'attributes'> & {
  /** Not in entries of before there were policies. */
  readonly scopes?: readonly string[]
  readonly owner?: string | null
  readonly profile?: string
  readonly by: PrincipalKind
  readonly value: string
}
type PolicyBody = { readonly version: number; readonly hash: string }

/** PEM of the roots. @param roots DER */
export const bundleOf = (roots: readonly Uint8Array[]): string =>
  roots.map(der => encodePem('CERTIFICATE', der)).join('')

const statusChange = ([serial, notAfter]: readonly [string, number]): StatusChange => ({ serial, notAfter })

/** @throws Error for a type that this version does not write: the ledger is a newer one's */
export const eventOf = (entry: FeedEntry, epoch: string): KnownFeedEvent => {
  const { type, at } = entry
  const position = { epoch, n: entry.n }
  switch (type) {
    case 'revoke':
    case 'hold':
    case 'release': {
      const { by, value, reason = null, changes } = entry.body as unknown as StatusBody
      return { type, position, at, by, value, reason, changes: changes.map(statusChange) }
    }
    case 'agent': {
      const { by, value, scopes = [], ...rest } = entry.body as unknown as RegistrationBody
      return { type, position, at, principal: principalOf({ kind: by, name: value, scopes, ...rest }) }
    }
    case 'bundle': {
      const { roots } = entry.body as unknown as { readonly roots: readonly string[] }
      return { type, position, at, bundlePem: bundleOf(roots.map(each => fromBase64(each) ?? new Uint8Array())) }
    }
    case 'policy': {
      const { version, hash } = entry.body as unknown as PolicyBody
      return { type, position, at, version, hash }
    }
    default:
      throw new Error(`entry ${entry.n} of the feed has the unknown type ${type}`)
  }
}

/** What precedes the data of an event in a stream. */
export const frameStart = (event: string, position: FeedPosition): string =>
  `event: ${event}\nid: ${encodePosition(position)}\ndata: `
/** What follows it. */
export const frameEnd: Uint8Array = Buffer.from('\n\n')

/** One event as it stands in a stream. JSON has no line breaks, so that its data is one line. */
export const encodeFrame = (event: KnownFeedEvent): Uint8Array =>
  Buffer.from(`${frameStart(event.type, event.position)}${encodeFeedData(event)}\n\n`)
