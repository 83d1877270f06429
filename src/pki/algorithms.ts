// The only place for key and signature algorithms: what exists, how its AlgorithmIdentifier looks, which hash it uses.
// Which of them a profile accepts is policy and decided elsewhere.
import { equalBytes, toHex } from '../base/bytes.ts'
import { DerReader, nullValue, oid, sequence } from './der.ts'
import { PkiError } from './errors.ts'
import { oidName, oidOf } from './oid.ts'

export type KeyAlgorithm = 'P-256' | 'P-384' | 'Ed25519' | 'RSA'
export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512'
export type SignatureAlgorithm =
  | 'ecdsa-with-SHA256'
  | 'ecdsa-with-SHA384'
  | 'ecdsa-with-SHA512'
  | 'Ed25519'
  | 'sha256WithRSAEncryption'
  | 'sha384WithRSAEncryption'
  | 'sha512WithRSAEncryption'

export type KeyFamily = 'EC' | 'Ed25519' | 'RSA'

export interface KeyAlgorithmFacts {
  readonly family: KeyFamily
  /** The signature algorithm this project signs with under such a key. */
  readonly signatureAlgorithm: SignatureAlgorithm
  /** Bytes of one coordinate and of r or s; 0 for RSA, whose sizes vary. */
  readonly fieldBytes: number
}

export const keyAlgorithms: Readonly<Record<KeyAlgorithm, KeyAlgorithmFacts>> = {
  'P-256': { family: 'EC', signatureAlgorithm: 'ecdsa-with-SHA256', fieldBytes: 32 },
  'P-384': { family: 'EC', signatureAlgorithm: 'ecdsa-with-SHA384', fieldBytes: 48 },
  Ed25519: { family: 'Ed25519', signatureAlgorithm: 'Ed25519', fieldBytes: 32 },
  RSA: { family: 'RSA', signatureAlgorithm: 'sha256WithRSAEncryption', fieldBytes: 0 },
}

export const signatureAlgorithmFor = (keyAlgorithm: KeyAlgorithm): SignatureAlgorithm =>
  keyAlgorithms[keyAlgorithm].signatureAlgorithm

export interface SignatureAlgorithmFacts {
  readonly family: KeyFamily
  readonly oid: string
  /** null: the algorithm hashes by itself (RFC 8032). */
  readonly hash: HashName | null
  /** The AlgorithmIdentifier. ECDSA and Ed25519 have no parameters (RFC 5758 §3.2, RFC 8410 §3), RSA has NULL (RFC 4055 §5). */
  readonly der: Uint8Array
}

const facts = (family: KeyFamily, dotted: string, hash: HashName | null): SignatureAlgorithmFacts => ({
  family,
  oid: dotted,
  hash,
  der: family === 'RSA' ? sequence(oid(dotted), nullValue()) : sequence(oid(dotted)),
})

export const signatureAlgorithms: Readonly<Record<SignatureAlgorithm, SignatureAlgorithmFacts>> = {
  'ecdsa-with-SHA256': facts('EC', oidOf.ecdsaWithSha256, 'sha256'),
  'ecdsa-with-SHA384': facts('EC', oidOf.ecdsaWithSha384, 'sha384'),
  'ecdsa-with-SHA512': facts('EC', oidOf.ecdsaWithSha512, 'sha512'),
  Ed25519: facts('Ed25519', oidOf.ed25519, null),
  sha256WithRSAEncryption: facts('RSA', oidOf.sha256WithRsa, 'sha256'),
  sha384WithRSAEncryption: facts('RSA', oidOf.sha384WithRsa, 'sha384'),
  sha512WithRSAEncryption: facts('RSA', oidOf.sha512WithRsa, 'sha512'),
}

const signatureAlgorithmNames = Object.keys(signatureAlgorithms) as SignatureAlgorithm[]

/** A fresh copy of the AlgorithmIdentifier's DER. */
export const encodeSignatureAlgorithm = (algorithm: SignatureAlgorithm): Uint8Array =>
  signatureAlgorithms[algorithm].der.slice()

/**
 * The DER of an AlgorithmIdentifier to a name.
 * @throws PkiError der_malformed, algorithm_malformed (known, wrong parameters), algorithm_not_allowed (unknown, or SHA-1 and older)
 */
export const parseSignatureAlgorithm = (der: Uint8Array): SignatureAlgorithm => {
  for (const name of signatureAlgorithmNames) if (equalBytes(signatureAlgorithms[name].der, der)) return name
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const dotted = body.readOid()
  const name = signatureAlgorithmNames.find(candidate => signatureAlgorithms[candidate].oid === dotted)
  if (name === undefined)
    throw new PkiError('algorithm_not_allowed', `signature algorithm not allowed: ${oidName(dotted)}`, {
      facts: { algorithm: oidName(dotted) },
    })
  // RFC 4055 §5: absent parameters have to be accepted for RSA, though NULL is what is written.
  if (signatureAlgorithms[name].family === 'RSA' && body.atEnd) return name
  throw new PkiError('algorithm_malformed', `wrong parameters for ${name}`, { facts: { algorithm: name } })
}

/** Digests that stand alone in a structure: OCSP's CertID. */
export type DigestName = HashName

const digestOids: Readonly<Record<DigestName, string>> = {
  sha1: oidOf.sha1,
  sha256: oidOf.sha256,
  sha384: oidOf.sha384,
  sha512: oidOf.sha512,
}

/** AlgorithmIdentifier of a bare digest, as OCSP's CertID has it; with NULL, as every OCSP client writes it. */
export const encodeDigestAlgorithm = (digest: DigestName): Uint8Array => sequence(oid(digestOids[digest]), nullValue())

/** Parameters absent or NULL (RFC 5754 §2). @throws PkiError der_malformed, algorithm_malformed, algorithm_not_allowed */
export const parseDigestAlgorithm = (der: Uint8Array): DigestName => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const dotted = body.readOid()
  const parameters = body.atEnd ? null : toHex(body.readTlv().raw)
  body.end()
  const digest = (Object.keys(digestOids) as DigestName[]).find(name => digestOids[name] === dotted)
  if (digest === undefined) throw new PkiError('algorithm_not_allowed', `digest not allowed: ${oidName(dotted)}`)
  if (parameters !== null && parameters !== '0500')
    throw new PkiError('algorithm_malformed', `wrong parameters for ${digest}`)
  return digest
}
