// A short-lived JWT (RFC 7519) by which one program tells another what it verified about a call: ES256 by a key of the asserting program,
// so that those who read assertions can make none. What is in it is the caller's business.
import { createPublicKey, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, SignJWT } from 'jose'

/** RFC 8725 §3.11: nothing else under this key is of this type. */
export const assertionType = 'agentca-assertion+jwt'

export interface AssertionClaims {
  readonly issuer: string
  readonly subject: string
  readonly audience: string
  readonly id: string
  /** Seconds since the epoch. */
  readonly issuedAt: number
  readonly expiresAt: number
  /** Beside the registered ones. */
  readonly claims: Readonly<Record<string, unknown>>
}

export type SignAssertion = (claims: AssertionClaims) => Promise<string>

/** @param privateKey P-256 @returns a signer whose header names the key by its thumbprint (RFC 7638) */
export const createAssertionSigner = async (privateKey: KeyObject): Promise<SignAssertion> => {
  const kid = await calculateJwkThumbprint(await exportJWK(createPublicKey(privateKey)))
  const header = { alg: 'ES256', typ: assertionType, kid }
  return ({ issuer, subject, audience, id, issuedAt, expiresAt, claims }) =>
    new SignJWT({ ...claims })
      .setProtectedHeader(header)
      .setIssuer(issuer)
      .setSubject(subject)
      .setAudience(audience)
      .setJti(id)
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt)
      .sign(privateKey)
}
