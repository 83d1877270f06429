// A compact JWS (RFC 7515) by which an agent proves that it holds a private key, bound to one certification request and one
// audience: recovery, and renewal behind proxies that end TLS. The CA reads it; what it accepts is decided there.
import { createHash, createPublicKey, type KeyObject, randomUUID } from 'node:crypto'
import { CompactSign, exportJWK } from 'jose'
import { toBase64, toBase64url, utf8 } from '../base/bytes.ts'

/** RFC 7518 §3.1, RFC 8037 §3.1. */
const algorithmOf = (key: KeyObject, kinds: 'of agents' | 'RSA too' = 'of agents'): string => {
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  const curve = key.asymmetricKeyDetails?.namedCurve
  if (curve === 'prime256v1') return 'ES256'
  if (curve === 'secp384r1') return 'ES384'
  // Agents have none; machines of other authorities often do.
  if (kinds === 'RSA too' && key.asymmetricKeyType === 'rsa') return 'RS256'
  throw new TypeError(`no proof by a key of type ${curve ?? key.asymmetricKeyType ?? 'unknown'}`)
}

export interface Proof {
  readonly privateKey: KeyObject
  /** DER of the request that goes with it. */
  readonly csr: Uint8Array
  /** URL of the endpoint it is sent to. */
  readonly audience: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

const payloadOf = ({ csr, audience, now }: Omit<Proof, 'privateKey'>) => ({
  csrHash: toBase64url(createHash('sha256').update(csr).digest()),
  aud: audience,
  iat: Math.floor(now / 1000),
  jti: randomUUID(),
})

/** Protected `{alg, jwk}`, payload `{csrHash, aud, iat, jti}`; `csrHash` is base64url of the request's SHA-256. @throws TypeError */
export const signProof = async ({ privateKey, csr, audience, now }: Proof): Promise<string> => {
  const alg = algorithmOf(privateKey)
  const jwk = await exportJWK(createPublicKey(privateKey))
  const payload = payloadOf({ csr, audience, now })
  return new CompactSign(utf8(JSON.stringify(payload))).setProtectedHeader({ alg, jwk }).sign(privateKey)
}

/**
 * The same payload by the key of a certificate that another authority issued: evidence for an enrolment. Protected `{alg, x5c}`.
 * @param chain DER, the key's own certificate first @throws TypeError
 */
export const signCertificateProof = async (proof: Proof, chain: readonly Uint8Array[]): Promise<string> =>
  new CompactSign(utf8(JSON.stringify(payloadOf(proof))))
    .setProtectedHeader({ alg: algorithmOf(proof.privateKey, 'RSA too'), x5c: chain.map(toBase64) })
    .sign(proof.privateKey)
