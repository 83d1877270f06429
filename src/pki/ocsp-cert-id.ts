// CertID, the name OCSP gives a certificate: hashes of its issuer's name and key, and its serial (RFC 6960 §4.1.1).
// SHA-1 is an index here and no security function: most clients send nothing else (RFC 5019 §2.1.1).
import { createHash } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import { encodeDigestAlgorithm, parseDigestAlgorithm } from './algorithms.ts'
import { type DerReader, integer, octetString, sequence, Tag } from './der.ts'
import { PkiError } from './errors.ts'

export type CertIdHash = 'sha1' | 'sha256'

export const certIdHashes: readonly CertIdHash[] = ['sha1', 'sha256']

const hashBytes: Readonly<Record<CertIdHash, number>> = { sha1: 20, sha256: 32 }

export interface OcspIssuer {
  /** DER of the issuer's subject. */
  readonly nameDer: Uint8Array
  /** Content of its subjectPublicKey, without the octet of unused bits: `spki.keyBytes`. */
  readonly keyBits: Uint8Array
}

export interface IssuerHashes {
  readonly hash: CertIdHash
  readonly nameHash: Uint8Array
  readonly keyHash: Uint8Array
  /** Equal to `CertId.issuerKey` of every certID that names this issuer by this hash: a key for a Map. */
  readonly issuerKey: string
}

export interface CertId {
  readonly hashAlgorithm: CertIdHash | 'unsupported'
  readonly issuerNameHash: Uint8Array
  readonly issuerKeyHash: Uint8Array
  /** Content of the INTEGER. */
  readonly serial: Uint8Array
  /** As received: an answer repeats it byte for byte, or its asker would not recognise it. */
  readonly der: Uint8Array
  /** null for an unsupported hash, which no issuer can match. */
  readonly issuerKey: string | null
}

const digest = (hash: CertIdHash, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createHash(hash).update(bytes).digest())

const issuerKeyOf = (hash: CertIdHash, nameHash: Uint8Array, keyHash: Uint8Array): string =>
  `${hash}:${toHex(nameHash)}:${toHex(keyHash)}`

const hashesOf = (hash: CertIdHash, issuer: OcspIssuer): IssuerHashes => {
  const nameHash = digest(hash, issuer.nameDer)
  const keyHash = digest(hash, issuer.keyBits)
  return { hash, nameHash, keyHash, issuerKey: issuerKeyOf(hash, nameHash, keyHash) }
}

/** How certIDs may name this issuer: once for each hash we answer. */
export const issuerHashes = (issuer: OcspIssuer): readonly IssuerHashes[] =>
  certIdHashes.map(hash => hashesOf(hash, issuer))

export interface CertIdFields {
  readonly hash: CertIdHash
  /** DER of the issuer's subject. */
  readonly issuerNameDer: Uint8Array
  readonly issuerKeyBits: Uint8Array
  /** Content of the INTEGER, or its magnitude. */
  readonly serial: Uint8Array
}

/** @throws PkiError not_encodable */
export const encodeCertId = ({ hash, issuerNameDer, issuerKeyBits, serial }: CertIdFields): Uint8Array =>
  encodeCertIdFor(hashesOf(hash, { nameDer: issuerNameDer, keyBits: issuerKeyBits }), serial)

/** The same from hashes made once for many serials. @throws PkiError not_encodable */
export const encodeCertIdFor = (hashes: IssuerHashes, serial: Uint8Array): Uint8Array =>
  sequence(
    encodeDigestAlgorithm(hashes.hash),
    octetString(hashes.nameHash),
    octetString(hashes.keyHash),
    integer(serial),
  )

/** @throws PkiError ocsp_malformed, der_malformed, algorithm_malformed */
export const readCertId = (list: DerReader): CertId => {
  const body = list.readSequence()
  const hashAlgorithm = readHash(body.readTlv(Tag.sequence).raw)
  const issuerNameHash = body.readOctetString()
  const issuerKeyHash = body.readOctetString()
  const serial = body.readInteger()
  body.end()
  if (hashAlgorithm === 'unsupported')
    return { hashAlgorithm, issuerNameHash, issuerKeyHash, serial, der: body.raw, issuerKey: null }
  const expected = hashBytes[hashAlgorithm]
  if (issuerNameHash.length !== expected || issuerKeyHash.length !== expected)
    throw new PkiError('ocsp_malformed', `expected hashes of ${expected} bytes in a certID with ${hashAlgorithm}`)
  const issuerKey = issuerKeyOf(hashAlgorithm, issuerNameHash, issuerKeyHash)
  return { hashAlgorithm, issuerNameHash, issuerKeyHash, serial, der: body.raw, issuerKey }
}

const readHash = (algorithmDer: Uint8Array): CertId['hashAlgorithm'] => {
  try {
    const name = parseDigestAlgorithm(algorithmDer)
    return name === 'sha1' || name === 'sha256' ? name : 'unsupported'
  } catch (error) {
    // A digest we do not know is an honest question we cannot answer; anything else is no question at all.
    if (error instanceof PkiError && error.code === 'algorithm_not_allowed') return 'unsupported'
    throw error
  }
}
