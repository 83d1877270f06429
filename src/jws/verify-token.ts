// Tokens of identity providers (RFC 7519): a compact JWT under one of the provider's keys (RFC 7517), for this audience, within its time.
// Reading and checking are two steps, so that a caller can find out whose token it claims to be. Where the keys come from is the
// caller's business: nothing in a token's header names a key but `kid`, and that only chooses among those that the caller has.
import { createPublicKey, type JsonWebKeyInput, type KeyObject } from 'node:crypto'
import {
  calculateJwkThumbprint,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  exportJWK,
  type JWTPayload,
  jwtVerify,
} from 'jose'
import { TokenError } from './token-errors.ts'

export type TokenClaims = Readonly<Record<string, unknown>>

/** Whose signature nobody has checked yet: good for choosing who checks it, and for nothing else. */
export interface UncheckedToken {
  readonly jwt: string
  readonly issuer: string | null
  readonly audiences: readonly string[]
  readonly algorithm: string
  readonly keyId: string | null
  readonly claims: TokenClaims
}

/** RFC 7519 has no bound; what providers make is below 4 KiB. */
export const maxTokenLength = 16_384

const malformed = (message: string, cause?: unknown): TokenError =>
  new TokenError('jwt_malformed', message, cause === undefined ? {} : { cause })

const textsOf = (value: unknown): readonly string[] =>
  (Array.isArray(value) ? value : [value]).filter((each): each is string => typeof each === 'string')

/** @throws TokenError `jwt_malformed` */
export const readToken = (jwt: string): UncheckedToken => {
  if (jwt.length > maxTokenLength) throw malformed(`expected a token of at most ${maxTokenLength} characters`)
  try {
    const header = decodeProtectedHeader(jwt)
    const claims = decodeJwt(jwt)
    const { alg, kid } = header
    if (typeof alg !== 'string') throw malformed('expected alg in the header of the token')
    if (kid !== undefined && typeof kid !== 'string') throw malformed('expected kid to be a text')
    return {
      jwt,
      issuer: typeof claims.iss === 'string' ? claims.iss : null,
      audiences: textsOf(claims.aud),
      algorithm: alg,
      keyId: kid ?? null,
      claims,
    }
  } catch (error) {
    throw error instanceof TokenError ? error : malformed('not a signed token (a compact JWT)', error)
  }
}

/** What was signed, whose text nobody can change: a signature has more than one spelling. */
export const signedPartOf = (jwt: string): string => jwt.slice(0, jwt.lastIndexOf('.'))

interface TokenKey {
  readonly kid: string | null
  readonly alg: string | null
  readonly key: KeyObject
}

/** The public keys of one provider. */
export interface TokenKeys {
  readonly keys: readonly TokenKey[]
}

const maxKeys = 100

const readKey = (jwk: unknown): TokenKey | null => {
  if (typeof jwk !== 'object' || jwk === null) return null
  const { kty, use, kid, alg, key_ops: operations } = jwk as Readonly<Record<string, unknown>>
  // RFC 7517 §5: kinds that are not known here are passed over, and so is what is not for signatures, or secret.
  if (kty !== 'RSA' && kty !== 'EC' && kty !== 'OKP') return null
  if (use !== undefined && use !== 'sig') return null
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return null
  try {
    const key = createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
    return { kid: typeof kid === 'string' ? kid : null, alg: typeof alg === 'string' ? alg : null, key }
  } catch {
    return null
  }
}

/** @param value a JWK Set, parsed @throws TokenError `jwks_malformed`: no set, too large, or no key of use in it */
export const parseTokenKeys = (value: unknown): TokenKeys => {
  const list = (value as { readonly keys?: unknown } | null)?.keys
  if (!Array.isArray(list)) throw new TokenError('jwks_malformed', 'expected a JWK set: {"keys": […]}')
  if (list.length > maxKeys)
    throw new TokenError('jwks_malformed', `expected at most ${maxKeys} keys, got ${list.length}`)
  if (list.some(each => typeof each === 'object' && each !== null && 'd' in each))
    throw new TokenError('jwks_malformed', 'the JWK set holds a private key')
  const keys = list.map(readKey).filter(key => key !== null)
  if (keys.length === 0) throw new TokenError('jwks_malformed', 'the JWK set holds no public key for signatures')
  return { keys }
}

/** RFC 7518 §3.1, RFC 8037 §3.1: the key decides what may be verified with it (RFC 8725 §3.1). */
const fits = ({ alg, key }: TokenKey, algorithm: string): boolean => {
  if (alg !== null && alg !== algorithm) return false
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  const curves: Readonly<Record<string, string>> = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' }
  if (key.asymmetricKeyType === 'ec') return namedCurve !== undefined && curves[algorithm] === namedCurve
  if (key.asymmetricKeyType === 'ed25519') return algorithm === 'EdDSA' || algorithm === 'Ed25519'
  return key.asymmetricKeyType === 'rsa' && modulusLength >= 2048 && /^[RP]S(?:256|384|512)$/.test(algorithm)
}

/** A key id that is there twice is tried twice, and no more often than this. */
const maxTried = 4

/** Those that may have signed it. Without `kid` it must be clear which one. */
export const candidateKeys = ({ keys }: TokenKeys, token: UncheckedToken): readonly KeyObject[] => {
  const fitting = keys.filter(key => fits(key, token.algorithm))
  if (token.keyId === null) return fitting.length === 1 ? fitting.map(({ key }) => key) : []
  return fitting
    .filter(({ kid }) => kid === token.keyId)
    .slice(0, maxTried)
    .map(({ key }) => key)
}

export interface TokenRules {
  readonly issuer: string
  readonly audiences: readonly string[]
  /** Asymmetric ones, by name. */
  readonly algorithms: readonly string[]
  readonly clockSkewSeconds: number
  /** From `iat` to `exp`. */
  readonly maxLifeSeconds: number
}

const claimCodes: Readonly<Record<string, 'jwt_wrong_issuer' | 'jwt_wrong_audience' | 'jwt_not_current'>> = {
  iss: 'jwt_wrong_issuer',
  aud: 'jwt_wrong_audience',
  nbf: 'jwt_not_current',
}

const translated = (error: unknown): TokenError => {
  if (error instanceof errors.JWTExpired)
    return new TokenError('jwt_expired', 'the token has expired', {
      hint: 'ask the identity provider for a fresh token',
      cause: error,
    })
  if (error instanceof errors.JWTClaimValidationFailed) {
    const code = Object.hasOwn(claimCodes, error.claim) ? claimCodes[error.claim] : undefined
    return new TokenError(code ?? 'jwt_malformed', `the claim ${error.claim} of the token is not acceptable`, {
      facts: { claim: error.claim },
      cause: error,
    })
  }
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return new TokenError('jwt_signature_invalid', 'the signature of the token does not verify', { cause: error })
  return malformed('the token cannot be verified', error)
}

const verified = async (token: UncheckedToken, key: KeyObject, rules: TokenRules, now: number): Promise<JWTPayload> => {
  const { payload } = await jwtVerify(token.jwt, key, {
    algorithms: [...rules.algorithms],
    issuer: rules.issuer,
    audience: [...rules.audiences],
    clockTolerance: rules.clockSkewSeconds,
    currentDate: new Date(now),
    requiredClaims: ['exp', 'iat'],
  })
  return payload
}

/** Refused before any key is looked at: the header's word counts for nothing beyond this list. @throws TokenError */
export const checkAlgorithm = ({ algorithm }: UncheckedToken, { algorithms }: TokenRules): void => {
  if (!algorithms.includes(algorithm))
    throw new TokenError('jwt_algorithm_not_allowed', `expected alg ${algorithms.join(' or ')}`, {
      facts: { allowed: algorithms },
    })
}

/**
 * @param now milliseconds since the epoch
 * @returns the claims, with `iss`, `exp` and `iat` among them
 * @throws TokenError `jwt_algorithm_not_allowed`, `jwt_key_unknown`, `jwt_signature_invalid`, `jwt_wrong_issuer`, `jwt_wrong_audience`,
 * `jwt_expired`, `jwt_not_current`, `jwt_life_too_long`, `jwt_malformed`
 */
export const checkToken = async (
  token: UncheckedToken,
  keys: TokenKeys,
  rules: TokenRules,
  now: number,
): Promise<TokenClaims & { readonly exp: number; readonly iat: number }> => {
  checkAlgorithm(token, rules)
  let refused = new TokenError('jwt_key_unknown', 'the provider has no such key', {
    hint: 'is this the right issuer? A key that is new is known within a minute',
  })
  for (const key of candidateKeys(keys, token)) {
    try {
      const claims = await verified(token, key, rules, now)
      const { exp = 0, iat = 0 } = claims
      if (iat * 1000 > now + rules.clockSkewSeconds * 1000)
        throw new TokenError('jwt_not_current', 'the token was made in the future', {
          hint: "compare this machine's clock with the provider's",
        })
      if (exp - iat > rules.maxLifeSeconds)
        throw new TokenError(
          'jwt_life_too_long',
          `expected a token for at most ${rules.maxLifeSeconds} s, got ${exp - iat}`,
          {
            hint: 'ask the identity provider for a shorter one, or raise maxLife of the attestor',
          },
        )
      return { ...claims, exp, iat }
    } catch (error) {
      refused = error instanceof TokenError ? error : translated(error)
      if (refused.code !== 'jwt_signature_invalid') break
    }
  }
  throw refused
}

/** RFC 7638, SHA-256: what `cnf.jkt` names a key by. @param spkiDer a SubjectPublicKeyInfo */
export const keyThumbprint = async (spkiDer: Uint8Array): Promise<string> =>
  calculateJwkThumbprint(
    await exportJWK(createPublicKey({ key: Buffer.from(spkiDer), format: 'der', type: 'spki' })),
    'sha256',
  )
