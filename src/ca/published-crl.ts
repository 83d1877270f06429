// A CRL as it is published: read from bytes that lay on a disk or came from a ceremony, and believed only with the CA's signature.
import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import { type Crl, parseCrl } from '../pki/crl.ts'
import type { Shard } from '../pki/crl-shards.ts'
import { PkiError } from '../pki/errors.ts'
import { checkSignature } from '../pki/signature.ts'
import { StoreError } from '../store/errors.ts'
import type { PublishedCrl } from './status-answers.ts'

/** Whose list is expected, and of which scope. */
export interface ExpectedCrl {
  readonly name: string
  readonly ca: Certificate
  readonly shard: Shard | null
  /** Of a shard: the one URL of its issuing distribution point. null: the list says no scope. `any`: a root's, made elsewhere. */
  readonly distributionPoint: string | null | 'any'
}

export const rootCrlOf = (name: string, ca: Certificate): ExpectedCrl => ({
  name,
  ca,
  shard: null,
  distributionPoint: 'any',
})

/** RFC 5280 §5.2.5: whether the list is about all certificates of its issuer, or about those that name this one URL. */
const hasScope = ({ distributionPoint: found }: Crl, url: string | null): boolean => {
  if (found === null || url === null) return found === null && url === null
  const [name, ...others] = found.fullName ?? []
  return (
    name?.kind === 'uri' &&
    name.value === url &&
    others.length === 0 &&
    found.onlySomeReasons === null &&
    !found.onlyContainsUserCerts &&
    !found.onlyContainsCaCerts &&
    !found.onlyContainsAttributeCerts &&
    !found.indirectCrl
  )
}

/**
 * @throws PkiError `crl_malformed` for what is no CRL of this CA and scope, `signature_invalid`, and what parseCrl throws
 */
export const readPublishedCrl = (
  { name, ca, shard, distributionPoint }: ExpectedCrl,
  der: Uint8Array,
): PublishedCrl => {
  const crl = parseCrl(der)
  if (!equalBytes(crl.issuerName, ca.subjectDer)) throw new PkiError('crl_malformed', `expected a CRL of ${name}`)
  checkSignature(ca.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  // RFC 5280 §5.2.3 and §5.1.2.5 demand both of every conforming CA.
  if (crl.crlNumber === null) throw new PkiError('crl_malformed', `the CRL of ${name} has no number`)
  if (crl.nextUpdate === null) throw new PkiError('crl_malformed', `the CRL of ${name} has no nextUpdate`)
  if (crl.deltaCrlIndicator !== null || crl.unknownCritical.length > 0)
    throw new PkiError('crl_malformed', `expected a complete CRL of ${name}`)
  if (distributionPoint !== 'any' && !hasScope(crl, distributionPoint))
    throw new PkiError(
      'crl_malformed',
      `expected a CRL of ${name} about ${distributionPoint ?? 'all its certificates'}`,
    )
  return {
    issuer: name,
    shard,
    number: crl.crlNumber,
    der,
    thisUpdate: crl.thisUpdate,
    nextUpdate: crl.nextUpdate,
    entries: crl.size,
    sha256: sha256Of(der),
  }
}

const sha256Of = (der: Uint8Array): string => toHex(createHash('sha256').update(der).digest())

/** Whether these are the bytes that were recorded. */
export const isOf = ({ sha256 }: Pick<PublishedCrl, 'sha256'>, der: Uint8Array): boolean => sha256Of(der) === sha256

/** A relying party that saw the higher number would rightly refuse the lower one. @throws StoreError `crl_number_regressed` */
export const checkNumberGrows = (published: PublishedCrl | null, next: PublishedCrl): void => {
  if (published === null || next.number > published.number) return
  throw new StoreError(
    'crl_number_regressed',
    `expected a CRL number of ${next.issuer} above ${published.number}, got ${next.number}`,
    { facts: { published: published.number.toString(), found: next.number.toString() } },
  )
}
