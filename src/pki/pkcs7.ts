// Certificates as a degenerate SignedData: no signer, no content, only a set of certificates (RFC 5652 §5.1, RFC 8551 §3.2.2). EST answers
// with them (RFC 7030 §4.1.3, §4.2.3). Which certificates those are is the caller's matter.
import { contextConstructed, explicit, integer, oid, sequence, set } from './der.ts'
import { PkiError } from './errors.ts'
import { oidOf } from './oid.ts'

/**
 * @param certificates DER, at least one; in the order of DER's SET OF they come out
 * @returns DER of a ContentInfo
 * @throws PkiError not_encodable
 */
export const encodeCertsOnly = (certificates: readonly Uint8Array[]): Uint8Array => {
  if (certificates.length === 0) throw new PkiError('not_encodable', 'expected at least one certificate, got none')
  // [0] IMPLICIT over the SET OF.
  const field = set(...certificates)
  field[0] = contextConstructed(0)
  // Version 1: only X.509 certificates, only plain data (RFC 5652 §5.1).
  const signedData = sequence(integer(1), set(), sequence(oid(oidOf.pkcs7Data)), field, set())
  return sequence(oid(oidOf.pkcs7SignedData), explicit(0, signedData))
}
