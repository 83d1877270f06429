// Who signed what: signatures of certificates and of CRLs under the algorithms that the caller accepts. A signature that held is
// remembered with the object it belongs to, so that an issuing CA's certificate or a CRL that a server keeps costs once.
import { isAgentCaError } from '../base/errors.ts'
import type { KeyAlgorithm, SignatureAlgorithm } from '../pki/algorithms.ts'
import { verifySignature } from '../pki/signature.ts'
import type { SubjectPublicKeyInfo } from '../pki/spki.ts'
import type { Work } from './budget.ts'

/** What counts as a signature. The readers of `pki` refuse SHA-1, RSA below 2048 bits and everything older before this is asked. */
export interface AcceptedAlgorithms {
  readonly signatures: readonly SignatureAlgorithm[]
  readonly keys: readonly KeyAlgorithm[]
  readonly minRsaBits: number
}

/** What this CA's own hierarchies use, corporate RSA roots above them included. */
export const usualAlgorithms: AcceptedAlgorithms = {
  signatures: [
    'ecdsa-with-SHA256',
    'ecdsa-with-SHA384',
    'Ed25519',
    'sha256WithRSAEncryption',
    'sha384WithRSAEncryption',
    'sha512WithRSAEncryption',
  ],
  keys: ['P-256', 'P-384', 'Ed25519', 'RSA'],
  minRsaBits: 2048,
}

/** A certificate or a CRL. */
export interface Signed {
  readonly tbs: Uint8Array
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly signature: Uint8Array
}

/** A certificate's key or an anchor's; the hash stands for the key where signatures are remembered. */
export interface SigningKey {
  readonly spki: SubjectPublicKeyInfo
  readonly spkiHashHex: string
}

export type SignatureProblem = 'signature_invalid' | 'algorithm_not_accepted' | 'key_not_accepted'

export interface Signatures {
  /** null when the signature holds. @throws VerifyError budget_exceeded */
  problemOf(signed: Signed, key: SigningKey): SignatureProblem | null
  /** Whether it is known already that the signature does not hold; costs nothing. */
  isKnownBad(signed: Signed, key: SigningKey): boolean
}

// Signed objects and the keys they verified under; an entry dies with its object. Only successes: a failure depends on nothing that
// lives as long, and would let a stranger fill memory.
const verified = new WeakMap<Signed, Set<string>>()

/** Failures are remembered for one validation, so that no arrangement of cross certificates makes a signature cost twice. */
export const createSignatures = (accepted: AcceptedAlgorithms, work: Work): Signatures => {
  const failed = new Map<Signed, Set<string>>()

  return {
    problemOf(signed, key) {
      if (!isAcceptedAlgorithm(accepted, signed)) return 'algorithm_not_accepted'
      if (!isAcceptedKey(accepted, key)) return 'key_not_accepted'
      if (verified.get(signed)?.has(key.spkiHashHex)) return null
      if (failed.get(signed)?.has(key.spkiHashHex)) return 'signature_invalid'
      work.spend('signatures')
      const holds = verifySignature(key.spki, signed.signatureAlgorithm, signed.tbs, signed.signature)
      remember(holds ? verified : failed, signed, key.spkiHashHex)
      return holds ? null : 'signature_invalid'
    },
    isKnownBad: (signed, key) => failed.get(signed)?.has(key.spkiHashHex) ?? false,
  }
}

const remember = (
  memory: { get(signed: Signed): Set<string> | undefined; set(signed: Signed, keys: Set<string>): unknown },
  signed: Signed,
  spkiHashHex: string,
): void => {
  const keys = memory.get(signed)
  if (keys === undefined) memory.set(signed, new Set([spkiHashHex]))
  else keys.add(spkiHashHex)
}

// The getters of a certificate refuse what no table of `pki` knows.
const isReadable = (read: () => boolean): boolean => {
  try {
    return read()
  } catch (error) {
    if (isAgentCaError(error)) return false
    throw error
  }
}

const isAcceptedAlgorithm = (accepted: AcceptedAlgorithms, signed: Signed): boolean =>
  isReadable(() => accepted.signatures.includes(signed.signatureAlgorithm))

export const isAcceptedKey = (accepted: AcceptedAlgorithms, key: Pick<SigningKey, 'spki'>): boolean =>
  isReadable(() => {
    const { algorithm, bits } = key.spki
    return accepted.keys.includes(algorithm) && (algorithm !== 'RSA' || bits >= accepted.minRsaBits)
  })
