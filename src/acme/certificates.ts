// Certificates for their accounts (RFC 8555 §7.4.2): the leaf with its intermediates, from the exact bytes that were recorded, and other
// chains of the same leaf where there are any.
import { assembleCertificate } from '../pki/certificate.ts'
import { encodePem } from '../pki/pem.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError } from './errors.ts'
import type { AccountRequest } from './request.ts'

export interface CertificateChain {
  readonly pem: string
  /** Numbers of the other chains. */
  readonly alternates: readonly number[]
}

/**
 * The intermediates above an issuing CA, in each way that leads to a root: a CA that was certified twice, by an old and a new root, has
 * two certificates for one key.
 */
const chainsOf = ({ issuers }: AcmeDeps, issuerId: number): readonly string[] => {
  const { certificate } = issuers.byId(issuerId)
  const sameKey = issuers.all().filter(({ record, certificate: other }) => {
    const twin = record.spkiHash === issuers.byId(issuerId).record.spkiHash
    return record.kind === 'issuing' && twin && Buffer.compare(other.subjectDer, certificate.subjectDer) === 0
  })
  const others = sameKey.filter(({ record }) => record.id !== issuerId).map(({ record }) => record.id)
  return [issuerId, ...others].map(issuers.chainPem)
}

/** @throws AcmeError `notFound`, also for a chain that is not there; `unauthorized` for another account's */
export const certificateChain = (
  deps: AcmeDeps,
  { account }: AccountRequest,
  serial: string,
  chain: number,
): CertificateChain => {
  const row = /^[0-9a-f]{2,40}$/.test(serial) ? deps.certificates.get(serial) : null
  const signature = row?.signature ?? null
  if (row === null || signature === null || row.issuedAt === null)
    throw new AcmeError('notFound', 'this account has no such certificate')
  if (row.instanceId !== account.id) throw new AcmeError('unauthorized', 'this certificate is another account’s')
  const issuer = deps.issuers.byId(row.issuerId).online
  if (issuer === null) throw new AcmeError('serverInternal', 'the CA of this certificate has no key here')
  const chains = chainsOf(deps, row.issuerId)
  const above = chains[chain]
  if (above === undefined) throw new AcmeError('notFound', 'this certificate has no such chain')
  const leaf = encodePem('CERTIFICATE', assembleCertificate(row.tbs, issuer.signatureAlgorithm, signature))
  return { pem: leaf + above, alternates: chains.flatMap((_, number) => (number === chain ? [] : [number])) }
}
