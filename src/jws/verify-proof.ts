// Proof of possession by a compact JWS (RFC 7515): header `{alg, jwk}`, payload `{csrHash, aud, iat, jti}`. Reading and checking are
// two steps, so that a caller can look the key up before anybody pays for a signature check. Whose key it is, is the caller's business.
import { createHash, createPublicKey, type JsonWebKeyInput, type KeyObject } from 'node:crypto'
import { compactVerify, decodeProtectedHeader } from 'jose'
import { fromUtf8, toBase64url, toHex } from '../base/bytes.ts'
import { JwsError } from './errors.ts'

/** How far `iat` may be from this machine's clock. */
export const proofWindowMs = 60_000

/** A proof whose signature nobody has checked yet. */
export interface UncheckedProof {
  /** SHA-256 of the SubjectPublicKeyInfo that it claims to be made with, hex. */
  readonly keyHash: string
  readonly jws: string
  readonly key: KeyObject
  readonly algorithm: string
}

export interface CheckedProof {
  readonly keyHash: string
  /** Unique among the proofs of this key within the window; whoever accepts the proof remembers it. */
  readonly jti: string
  /** When its maker says it was made, milliseconds since the epoch: within the window. */
  readonly madeAt: number
}

const malformed = (message: string, cause?: unknown): JwsError =>
  new JwsError('jws_malformed', message, cause === undefined ? {} : { cause })

/** RFC 7518 §3.1, RFC 8037 §3.1. The key decides, never the header: that is what ends confusion of algorithms (RFC 8725 §3.1). */
export const algorithmOf = (key: KeyObject): string => {
  const { namedCurve, modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return 'ES256'
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'secp384r1') return 'ES384'
  // The bounds of pki's keys: outside them nobody was enrolled, and checking a signature gets expensive.
  if (key.asymmetricKeyType === 'rsa' && modulusLength >= 2048 && modulusLength <= 8192 && publicExponent < 2n ** 32n)
    return 'RS256'
  throw malformed('no proof by this kind of key: expected P-256, P-384, Ed25519 or RSA from 2048 to 8192 bits')
}

const readHeader = (jws: string): Readonly<Record<string, unknown>> => {
  try {
    return decodeProtectedHeader(jws) as Readonly<Record<string, unknown>>
  } catch (cause) {
    throw malformed('not a compact JWS', cause)
  }
}

const importKey = (jwk: unknown): KeyObject => {
  if (typeof jwk !== 'object' || jwk === null) throw malformed('expected the public key as jwk in the protected header')
  if ('d' in jwk || 'k' in jwk)
    throw new JwsError('jws_malformed', 'jwk holds a private or secret key', {
      hint: 'never send the private key: consider this one exposed if it left the machine',
    })
  try {
    return createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
  } catch (cause) {
    throw malformed('jwk is not a public key', cause)
  }
}

/** @throws JwsError `jws_malformed` */
export const readProof = (jws: string): UncheckedProof => {
  const header = readHeader(jws)
  const unknown = Object.keys(header).filter(name => name !== 'alg' && name !== 'jwk')
  if (unknown.length > 0) throw malformed('expected alg and jwk in the protected header, and nothing else')
  const key = importKey(header.jwk)
  const algorithm = algorithmOf(key)
  if (header.alg !== algorithm) throw malformed(`expected alg ${algorithm} with this key`)
  const spki = key.export({ type: 'spki', format: 'der' })
  return { keyHash: toHex(createHash('sha256').update(spki).digest()), jws, key, algorithm }
}

const readPayload = (bytes: Uint8Array): Readonly<Record<string, unknown>> => {
  try {
    const payload: unknown = JSON.parse(fromUtf8(bytes))
    if (typeof payload === 'object' && payload !== null) return payload as Readonly<Record<string, unknown>>
  } catch {
    // Not JSON, or not UTF-8: both are the same fault.
  }
  throw malformed('expected a JSON object as payload')
}

const verifiedPayload = async (proof: UncheckedProof): Promise<Uint8Array> => {
  try {
    const { payload } = await compactVerify(proof.jws, proof.key, { algorithms: [proof.algorithm] })
    return payload
  } catch (cause) {
    throw new JwsError('jws_signature_invalid', 'the signature of the proof does not verify', { cause })
  }
}

/**
 * @param expected `audience`: the URL of this very endpoint; `csr`: DER of the request it came with; `now`: milliseconds
 * @throws JwsError `jws_signature_invalid` (also when it was made for another request), `jws_malformed`, `jws_wrong_audience`,
 * `jws_not_current`
 */
export const checkProof = async (
  proof: UncheckedProof,
  expected: { readonly audience: string; readonly csr: Uint8Array; readonly now: number },
): Promise<CheckedProof> => {
  const { csrHash, aud, iat, jti } = readPayload(await verifiedPayload(proof))
  if (typeof jti !== 'string' || !/^[!-~]{1,128}$/.test(jti))
    throw malformed('expected jti: 1 to 128 printable characters')
  if (typeof iat !== 'number' || !Number.isFinite(iat)) throw malformed('expected iat: seconds since the epoch')
  if (aud !== expected.audience)
    throw new JwsError('jws_wrong_audience', `expected aud ${expected.audience}`, {
      facts: { audience: expected.audience },
    })
  if (Math.abs(expected.now - iat * 1000) > proofWindowMs)
    throw new JwsError('jws_not_current', `iat is more than ${proofWindowMs / 1000} s away from the time here`, {
      hint: 'set the clock, and sign a new proof for each request',
      facts: { now: Math.floor(expected.now / 1000) },
    })
  if (csrHash !== toBase64url(createHash('sha256').update(expected.csr).digest()))
    throw new JwsError('jws_signature_invalid', 'the proof was made for another certification request')
  return { keyHash: proof.keyHash, jti, madeAt: iat * 1000 }
}
