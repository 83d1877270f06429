// A CRL as it is published: read from bytes that lay on a disk or came from a ceremony, and believed only with the CA's signature.
import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import { parseCrl } from '../pki/crl.ts'
import { PkiError } from '../pki/errors.ts'
import { checkSignature } from '../pki/signature.ts'
import { StoreError } from '../store/errors.ts'
import type { PublishedCrl } from './status-answers.ts'

/**
 * @param name the CA's, under which the list is published
 * @throws PkiError `crl_malformed` for what is no complete CRL of this CA, `signature_invalid`, and what parseCrl throws
 */
export const readPublishedCrl = (name: string, ca: Certificate, der: Uint8Array): PublishedCrl => {
  const crl = parseCrl(der)
  if (!equalBytes(crl.issuerName, ca.subjectDer)) throw new PkiError('crl_malformed', `expected a CRL of ${name}`)
  checkSignature(ca.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  // RFC 5280 §5.2.3 and §5.1.2.5 demand both of every conforming CA.
  if (crl.crlNumber === null) throw new PkiError('crl_malformed', `the CRL of ${name} has no number`)
  if (crl.nextUpdate === null) throw new PkiError('crl_malformed', `the CRL of ${name} has no nextUpdate`)
  if (crl.deltaCrlIndicator !== null || crl.unknownCritical.length > 0)
    throw new PkiError('crl_malformed', `expected a complete CRL of ${name}`)
  return {
    issuer: name,
    number: crl.crlNumber,
    der,
    thisUpdate: crl.thisUpdate,
    nextUpdate: crl.nextUpdate,
    entries: crl.size,
    sha256: toHex(createHash('sha256').update(der).digest()),
  }
}

/** A relying party that saw the higher number would rightly refuse the lower one. @throws StoreError `crl_number_regressed` */
export const checkNumberGrows = (published: PublishedCrl | null, next: PublishedCrl): void => {
  if (published === null || next.number > published.number) return
  throw new StoreError(
    'crl_number_regressed',
    `expected a CRL number of ${next.issuer} above ${published.number}, got ${next.number}`,
    { facts: { published: published.number.toString(), found: next.number.toString() } },
  )
}
