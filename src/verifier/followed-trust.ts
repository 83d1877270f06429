// Whom a verifier trusts, while it runs: the bundle of the backend's own identity, and what the feed says of it since. Both come from the
// CA over mTLS; whichever changed last is the newer one.
import type { Credential } from '../agent/credential.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type Trust, trustIn } from '../verify/verify-peer.ts'

export interface FollowedTrust {
  current(): Trust
  /** PEM of the anchors. */
  bundlePem(): string
  /** The identity has another generation. @returns whether other anchors follow from it */
  renewed(): boolean
  /** @param bundlePem as the feed says it @returns whether other anchors follow from it */
  heard(bundlePem: string): boolean
}

const sameAnchors = (a: Trust, b: Trust): boolean => {
  const keysOf = ({ anchors }: Trust): string =>
    anchors
      .map(({ spkiHashHex }) => spkiHashHex)
      .toSorted()
      .join(' ')
  return keysOf(a) === keysOf(b)
}

/** @param kept bundle that the feed said to an earlier process. @throws PkiError when the identity's own bundle cannot be read */
export const followTrust = (deps: {
  readonly identity: { current(): Pick<Credential, 'bundlePem' | 'chainPem' | 'trustDomain'> }
  readonly log: Log
  readonly kept: string | null
}): FollowedTrust => {
  const { identity, log } = deps
  const { trustDomain } = identity.current()
  let own = identity.current().bundlePem
  let bundlePem = own
  let trust = trustIn(trustDomain, own, identity.current().chainPem)

  const set = (next: string): boolean => {
    const before = trust
    try {
      const found = trustIn(trustDomain, next, identity.current().chainPem)
      // Nobody could be let in by it, the CA that would say better included.
      if (found.anchors.length === 0) throw new Error('it is empty')
      trust = found
      bundlePem = next
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'the trust bundle that the CA sent is not taken')
    }
    return !sameAnchors(before, trust)
  }
  if (deps.kept !== null) set(deps.kept)

  return {
    current: () => trust,
    bundlePem: () => bundlePem,
    renewed: () => {
      const next = identity.current().bundlePem
      const isNews = next !== own
      own = next
      return set(isNews ? next : bundlePem)
    },
    heard: set,
  }
}
