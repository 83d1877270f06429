// Verification of signatures, and the two forms of an ECDSA signature: DER in certificates, r||s from HSMs and in JOSE.
// Signing happens in the HSM, through the signer; this file never sees a private key.
import { verify } from 'node:crypto'
import { concatBytes } from '../base/bytes.ts'
import { keyAlgorithms, type SignatureAlgorithm, signatureAlgorithms } from './algorithms.ts'
import { DerReader, integer, sequence } from './der.ts'
import { PkiError } from './errors.ts'
import { type SubjectPublicKeyInfo, toKeyObject } from './spki.ts'

/** r||s of equal halves to ECDSA-Sig-Value. @throws PkiError signature_malformed */
export const ecdsaSignatureFromRaw = (raw: Uint8Array): Uint8Array => {
  if (raw.length === 0 || raw.length % 2 !== 0)
    throw new PkiError('signature_malformed', `r||s has an even length, got ${raw.length}`)
  const half = raw.length / 2
  return sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)))
}

/** Strict ECDSA-Sig-Value to r||s with `fieldBytes` each. @throws PkiError signature_malformed, der_malformed */
export const ecdsaSignatureToRaw = (der: Uint8Array, fieldBytes: number): Uint8Array => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const halves = [body.readUnsignedInteger(), body.readUnsignedInteger()]
  body.end()
  return concatBytes(
    halves.map(half => {
      if (half.length > fieldBytes) throw new PkiError('signature_malformed', 'r or s larger than the field')
      const padded = new Uint8Array(fieldBytes)
      padded.set(half, fieldBytes - half.length)
      return padded
    }),
  )
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
): boolean => {
  const facts = signatureAlgorithms[algorithm]
  const key = keyAlgorithms[spki.algorithm]
  if (facts.family !== key.family) return false
  try {
    // OpenSSL would take some BER here: the strict reader is what makes signatures unmalleable in their encoding.
    if (facts.family === 'EC')
      return verify(
        facts.hash,
        data,
        { key: toKeyObject(spki), dsaEncoding: 'ieee-p1363' },
        ecdsaSignatureToRaw(signature, key.fieldBytes),
      )
    return verify(facts.hash, data, toKeyObject(spki), signature)
  } catch {
    return false
  }
}

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
