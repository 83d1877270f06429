// Proof by the key of a certificate that somebody else issued: a compact JWS (RFC 7515) with header `{alg, x5c}` and the payload of every
// proof here, `{csrHash, aud, iat, jti}`. Whether the certificate is to be believed is the caller's business, and comes first: nobody
// pays for the signature of a key that no authority vouches for.
import { createPublicKey } from 'node:crypto'
import { decodeProtectedHeader } from 'jose'
import { fromBase64 } from '../base/bytes.ts'
import { JwsError } from './errors.ts'
import { algorithmOf, type UncheckedProof } from './verify-proof.ts'

export interface CertificateProof {
  readonly jws: string
  readonly alg: string
  /** DER, the certificate of the key first. Nobody has looked at them. */
  readonly chain: readonly Uint8Array[]
}

const maxChain = 8
const maxLength = 32_768

const malformed = (message: string, cause?: unknown): JwsError =>
  new JwsError('jws_malformed', message, cause === undefined ? {} : { cause })

const headerOf = (jws: string): Readonly<Record<string, unknown>> => {
  try {
    return decodeProtectedHeader(jws) as Readonly<Record<string, unknown>>
  } catch (cause) {
    throw malformed('not a compact JWS', cause)
  }
}

/** @throws JwsError `jws_malformed` */
export const readCertificateProof = (jws: string): CertificateProof => {
  if (jws.length > maxLength) throw malformed(`expected a JWS of at most ${maxLength} characters`)
  const header = headerOf(jws)
  const { alg, x5c } = header
  if (Object.keys(header).some(name => name !== 'alg' && name !== 'x5c'))
    throw malformed('expected alg and x5c in the protected header, and nothing else')
  if (typeof alg !== 'string' || !Array.isArray(x5c) || x5c.length === 0 || x5c.length > maxChain)
    throw malformed(`expected alg, and x5c with 1 to ${maxChain} certificates (RFC 7515 §4.1.6)`)
  const chain = x5c.map(text => {
    const der = typeof text === 'string' ? fromBase64(text) : null
    if (der === null || der.length === 0)
      throw malformed('expected base64 of DER in x5c, with padding and not base64url')
    return der
  })
  return { jws, alg, chain }
}

/** @param spki of its certificate, once that is believed @throws JwsError `jws_malformed` where key and algorithm do not fit */
export const proofBy = (
  { jws, alg }: CertificateProof,
  spki: { readonly der: Uint8Array; readonly hashHex: string },
): UncheckedProof => {
  const key = createPublicKey({ key: Buffer.from(spki.der), format: 'der', type: 'spki' })
  const algorithm = algorithmOf(key)
  if (alg !== algorithm) throw malformed(`expected alg ${algorithm} with this key`)
  return { keyHash: spki.hashHex, jws, key, algorithm }
}
