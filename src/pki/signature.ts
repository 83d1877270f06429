// Verification of signatures, and the two forms of an ECDSA signature: DER in certificates, r||s from HSMs and in JOSE.
// Signing happens in the HSM, through the signer; this file never sees a private key.
import { type KeyObject, type PublicKeyInput, verify } from 'node:crypto'
import { keyAlgorithms, type SignatureAlgorithm, signatureAlgorithms } from './algorithms.ts'
import { DerReader, integer, sequence } from './der.ts'
import { PkiError } from './errors.ts'
import { type SubjectPublicKeyInfo, toKeyInput, toKeyObject } from './spki.ts'

/** r||s of equal halves to ECDSA-Sig-Value. @throws PkiError signature_malformed */
export const ecdsaSignatureFromRaw = (raw: Uint8Array): Uint8Array => {
  if (raw.length === 0 || raw.length % 2 !== 0)
    throw new PkiError('signature_malformed', `r||s has an even length, got ${raw.length}`)
  const half = raw.length / 2
  return sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)))
}

/** r and s of an ECDSA-Sig-Value in its one canonical encoding, without leading zeros. @throws PkiError signature_malformed, der_malformed */
const readHalves = (der: Uint8Array, fieldBytes: number): readonly [Uint8Array, Uint8Array] => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const r = body.readUnsignedInteger()
  const s = body.readUnsignedInteger()
  body.end()
  if (r.length > fieldBytes || s.length > fieldBytes)
    throw new PkiError('signature_malformed', 'r or s larger than the field')
  return [r, s]
}

/** Strict ECDSA-Sig-Value to r||s with `fieldBytes` each. @throws PkiError signature_malformed, der_malformed */
export const ecdsaSignatureToRaw = (der: Uint8Array, fieldBytes: number): Uint8Array => {
  const [r, s] = readHalves(der, fieldBytes)
  const raw = new Uint8Array(2 * fieldBytes)
  raw.set(r, fieldBytes - r.length)
  raw.set(s, 2 * fieldBytes - s.length)
  return raw
}

const verifyBy = (
  keyOf: (spki: SubjectPublicKeyInfo) => KeyObject | PublicKeyInput,
  spki: SubjectPublicKeyInfo,
  { algorithm, data, signature }: { algorithm: SignatureAlgorithm; data: Uint8Array; signature: Uint8Array },
): boolean => {
  const facts = signatureAlgorithms[algorithm]
  const key = keyAlgorithms[spki.algorithm]
  if (facts.family !== key.family) return false
  try {
    // OpenSSL would take some BER here: the strict reader is what makes signatures unmalleable in their encoding.
    if (facts.family === 'EC') readHalves(signature, key.fieldBytes)
    return verify(facts.hash, data, keyOf(spki), signature)
  } catch {
    return false
  }
}

/**
 * True only for a valid signature in its one canonical encoding; false for everything else, including an algorithm that does not
 * fit the key. Callers who want a refusal that cannot be forgotten use `checkSignature`.
 */
export const verifySignature = (
  spki: SubjectPublicKeyInfo,
  algorithm: SignatureAlgorithm,
  data: Uint8Array,
  signature: Uint8Array,
): boolean => verifyBy(toKeyObject, spki, { algorithm, data, signature })

/** The same for a key that verifies once and is not seen again: no KeyObject is made for it, which costs 20 µs more under load. */
export const verifySignatureOnce = (
  spki: SubjectPublicKeyInfo,
  algorithm: SignatureAlgorithm,
  data: Uint8Array,
  signature: Uint8Array,
): boolean => verifyBy(toKeyInput, spki, { algorithm, data, signature })

/** @throws PkiError signature_invalid */
export const checkSignature = (
  spki: SubjectPublicKeyInfo,
  algorithm: SignatureAlgorithm,
  data: Uint8Array,
  signature: Uint8Array,
): void => {
  if (!verifySignature(spki, algorithm, data, signature))
    throw new PkiError('signature_invalid', `the ${algorithm} signature does not verify`)
}
