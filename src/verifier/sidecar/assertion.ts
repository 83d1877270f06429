// What the sidecar asserts to its backend about one call. Short-lived and bound to audience, method and target, so that a copy is worth
// next to nothing: a backend refuses it for another call, and after seconds for the same one.
import { createHash, type KeyObject, randomUUID } from 'node:crypto'
import { toBase64url } from '../../base/bytes.ts'
import { createAssertionSigner } from '../../jws/sign-assertion.ts'
import type { VerifiedPeer } from '../../verify/decision.ts'
import type { CallTarget } from './call-target.ts'

/** base64url of the SHA-256 of the request target as it came to the proxy, query included. */
export const uriHashOf = (uri: string): string => toBase64url(createHash('sha256').update(uri).digest())

export interface AssertionSettings {
  readonly privateKey: KeyObject
  readonly audience: string
  readonly lifetimeSeconds: number
  /** SPIFFE ID of the sidecar's service. */
  readonly issuer: () => string
}

export type Assert = (peer: VerifiedPeer, target: CallTarget, now: number) => Promise<string>

export const createAssert = async (settings: AssertionSettings): Promise<Assert> => {
  const sign = await createAssertionSigner(settings.privateKey)
  return (peer, target, now) => {
    const issuedAt = Math.floor(now / 1000)
    return sign({
      issuer: settings.issuer(),
      subject: peer.spiffeId,
      audience: settings.audience,
      id: randomUUID(),
      issuedAt,
      // Never beyond what was verified.
      expiresAt: Math.min(issuedAt + settings.lifetimeSeconds, Math.ceil(peer.notAfter / 1000)),
      claims: {
        kind: peer.kind,
        agent: peer.name,
        instance: peer.instance,
        serial: peer.serial,
        roles: peer.roles,
        scopes: peer.scopes,
        method: target.method,
        uriHash: uriHashOf(target.uri),
      },
    })
  }
}
