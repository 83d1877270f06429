// JWS as ACME clients send it (RFC 8555 §6.2): flattened JSON, one signature, the key in the header or known by a URL. Reading and verifying
// are two steps, so that an account can be looked up in between. What a request means, and nonces, are the caller's business.
import { createHash, createPublicKey, type JsonWebKeyInput, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, flattenedVerify, type JWK } from 'jose'
import { fromBase64url, fromUtf8, toHex } from '../base/bytes.ts'
import { JwsError } from './errors.ts'

export const acmeAlgorithms = ['ES256', 'ES384', 'EdDSA', 'RS256'] as const
/** Of external account bindings (RFC 8555 §7.3.4): only MACs. */
const macAlgorithms: readonly string[] = ['HS256', 'HS384', 'HS512']

/** An RSA key of 8192 bits in a header takes 1.5 kB; nothing else in one is long. */
const maxHeaderChars = 8192
const maxPayloadChars = 49_152
const maxTextChars = 2048

export interface AcmeHeader {
  readonly alg: string
  readonly url: string
  /** Left out in the JWS inside of another. */
  readonly nonce: string | undefined
  /** One of both. */
  readonly kid: string | undefined
  readonly jwk: unknown
}

/** Nobody has checked its signature yet. */
export interface UncheckedJws {
  readonly header: AcmeHeader
  readonly jws: { readonly protected: string; readonly payload: string; readonly signature: string }
}

/** A public key that may sign ACME requests. */
export interface AcmeKey {
  readonly key: KeyObject
  /** The one algorithm of this key: the header has no say (RFC 8725 §3.1). */
  readonly algorithm: string
  /** Public members only, canonical (RFC 7638 §3.2). */
  readonly jwk: string
  /** RFC 7638, base64url. */
  readonly thumbprint: string
  /** SHA-256 of the SubjectPublicKeyInfo, hex. */
  readonly keyHash: string
}

const malformed = (message: string, cause?: unknown): JwsError =>
  new JwsError('jws_malformed', message, cause === undefined ? {} : { cause })

const jsonObject = (bytes: Uint8Array, what: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(fromUtf8(bytes))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // Not JSON, or not UTF-8: both are the same fault.
  }
  throw malformed(`expected ${what} to be a JSON object in UTF-8`)
}

const textOf = (value: unknown, what: string): string | undefined => {
  if (value === undefined) return undefined
  if (typeof value === 'string' && value !== '' && value.length <= maxTextChars) return value
  throw malformed(`expected ${what} to be a text of at most ${maxTextChars} characters`)
}

const readHeader = (encoded: string): AcmeHeader => {
  if (encoded.length > maxHeaderChars)
    throw malformed(`the protected header has more than ${maxHeaderChars} characters`)
  const bytes = fromBase64url(encoded)
  if (bytes === null || bytes.length === 0) throw malformed('expected the protected header in base64url')
  const header = jsonObject(bytes, 'the protected header')
  // RFC 8555 §6.2 has no use for extensions; RFC 7797's unencoded payload is forbidden in so many words.
  if ('crit' in header) throw malformed('the header is not to have crit: no extension is understood')
  if ('b64' in header) throw malformed('the header is not to have b64 (RFC 8555 §6.2)')
  const alg = textOf(header.alg, 'alg')
  const url = textOf(header.url, 'url')
  if (alg === undefined) throw malformed('the protected header has no alg')
  if (url === undefined) throw malformed('the protected header has no url')
  const kid = textOf(header.kid, 'kid')
  if ((kid === undefined) === (header.jwk === undefined))
    throw malformed('expected either jwk or kid in the protected header, and not both')
  return { alg, url, nonce: textOf(header.nonce, 'nonce'), kid, jwk: header.jwk }
}

const members = ['payload', 'protected', 'signature'] as const

/**
 * @param body what was posted, or a member of a payload that is a JWS itself
 * @throws JwsError `jws_malformed`
 */
export const readAcmeJws = (body: Uint8Array | unknown): UncheckedJws => {
  const jws =
    body instanceof Uint8Array ? jsonObject(body, 'the body') : jsonObjectOf(body, 'expected a JWS as a JSON object')
  if ('header' in jws) throw malformed('the JWS is not to have an unprotected header')
  if ('signatures' in jws) throw malformed('expected a flattened JWS with exactly one signature')
  const unknown = Object.keys(jws).filter(name => !(members as readonly string[]).includes(name))
  if (unknown.length > 0) throw malformed('expected protected, payload and signature, and nothing else')
  for (const name of members) if (typeof jws[name] !== 'string') throw malformed(`expected ${name} to be a text`)
  const { payload, protected: header, signature } = jws as Record<(typeof members)[number], string>
  if (payload.length > maxPayloadChars) throw malformed(`the payload has more than ${maxPayloadChars} characters`)
  if (fromBase64url(payload) === null) throw malformed('expected the payload in base64url')
  if (signature === '' || signature.length > 2 * maxTextChars || fromBase64url(signature) === null)
    throw malformed('expected the signature in base64url')
  return { header: readHeader(header), jws: { payload, protected: header, signature } }
}

const jsonObjectOf = (value: unknown, message: string): Readonly<Record<string, unknown>> => {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw malformed(message)
}

const algorithmOf = (key: KeyObject): string | null => {
  const { namedCurve, modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'ed25519') return 'EdDSA'
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'prime256v1') return 'ES256'
  if (key.asymmetricKeyType === 'ec' && namedCurve === 'secp384r1') return 'ES384'
  const fits = modulusLength >= 2048 && modulusLength <= 8192 && publicExponent > 2n && publicExponent < 2n ** 32n
  return key.asymmetricKeyType === 'rsa' && fits ? 'RS256' : null
}

const publicMembers: Readonly<Record<string, readonly string[]>> = {
  EC: ['crv', 'kty', 'x', 'y'],
  OKP: ['crv', 'kty', 'x'],
  RSA: ['e', 'kty', 'n'],
}

/** @throws JwsError `jws_key_not_accepted` for what is no kind of key, whatever every object has under that name */
const membersOf = (kty: unknown): readonly string[] => {
  const members = typeof kty === 'string' && Object.hasOwn(publicMembers, kty) ? publicMembers[kty] : undefined
  if (members !== undefined) return members
  throw new JwsError(
    'jws_key_not_accepted',
    `expected kty of jwk to be one of ${Object.keys(publicMembers).join(', ')}`,
  )
}

const importJwk = (members: Readonly<Record<string, unknown>>): KeyObject => {
  try {
    return createPublicKey({ key: members as JsonWebKeyInput['key'], format: 'jwk' })
  } catch (cause) {
    throw new JwsError('jws_key_not_accepted', 'jwk is not a public key', { cause })
  }
}

/** @throws JwsError `jws_malformed`; `jws_key_not_accepted` for a key of another kind or size than those listed */
export const parseAcmeKey = async (jwk: unknown): Promise<AcmeKey> => {
  const given = jsonObjectOf(jwk, 'expected jwk to be a JSON object')
  if ('d' in given || 'k' in given)
    throw new JwsError('jws_malformed', 'jwk holds a private or secret key', {
      hint: 'never send the private key: consider this one exposed if it left the machine',
    })
  const names = membersOf(given.kty)
  const key = importJwk(Object.fromEntries(names.map(name => [name, given[name]])))
  const algorithm = algorithmOf(key)
  if (algorithm === null)
    throw new JwsError('jws_key_not_accepted', 'expected a key of P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits', {
      hint: `make an account key for one of ${acmeAlgorithms.join(', ')}`,
    })
  const spki = key.export({ type: 'spki', format: 'der' })
  // As the key itself has it: one number can be written in more than one way, and a key is to have one thumbprint.
  const exported: Readonly<Record<string, unknown>> = { ...key.export({ format: 'jwk' }) }
  const canonical = Object.fromEntries(names.map(name => [name, exported[name]]))
  return {
    key,
    algorithm,
    jwk: JSON.stringify(canonical),
    thumbprint: await calculateJwkThumbprint(canonical as JWK),
    keyHash: toHex(createHash('sha256').update(spki).digest()),
  }
}

/** For a key that has no JWK here: that of a certificate. */
export const acmeKeyOfSpki = (spkiDer: Uint8Array): Pick<AcmeKey, 'key' | 'algorithm'> | null => {
  const key = createPublicKey({ key: Buffer.from(spkiDer), format: 'der', type: 'spki' })
  const algorithm = algorithmOf(key)
  return algorithm === null ? null : { key, algorithm }
}

const verified = async (
  { jws }: UncheckedJws,
  key: KeyObject | Uint8Array,
  algorithms: readonly string[],
): Promise<Uint8Array> => {
  try {
    return (await flattenedVerify(jws, key, { algorithms: [...algorithms] })).payload
  } catch (cause) {
    throw new JwsError('jws_signature_invalid', 'the signature of the JWS does not verify', { cause })
  }
}

/**
 * @returns the payload; empty for POST-as-GET
 * @throws JwsError `jws_algorithm_not_accepted`, `jws_signature_invalid`
 */
export const verifyAcmeJws = (
  unchecked: UncheckedJws,
  { key, algorithm }: Pick<AcmeKey, 'key' | 'algorithm'>,
): Promise<Uint8Array> => {
  const { alg } = unchecked.header
  if (!(acmeAlgorithms as readonly string[]).includes(alg))
    throw new JwsError('jws_algorithm_not_accepted', `expected alg to be one of ${acmeAlgorithms.join(', ')}`)
  if (alg !== algorithm) throw new JwsError('jws_algorithm_not_accepted', `expected alg ${algorithm} with this key`)
  return verified(unchecked, key, [algorithm])
}

/** @throws JwsError `jws_algorithm_not_accepted`, `jws_signature_invalid` */
export const verifyBindingJws = (unchecked: UncheckedJws, secret: Uint8Array): Promise<Uint8Array> => {
  if (!macAlgorithms.includes(unchecked.header.alg))
    throw new JwsError('jws_algorithm_not_accepted', `expected alg to be one of ${macAlgorithms.join(', ')}`)
  return verified(unchecked, secret, [unchecked.header.alg])
}
