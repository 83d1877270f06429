// Every URL that certificates name, fetched as a relying party would: what is written into certificates cannot be corrected later.
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseCrl } from '../pki/crl.ts'
import { equalNames } from '../pki/names.ts'
import { parseOnePem } from '../pki/pem.ts'
import { checkSignature } from '../pki/signature.ts'
import type { AdminClient } from './admin-client.ts'
import { crlUrlsOf } from './certificate-report.ts'
import { type Check, failed, ok, skipped, warn } from './doctor-check.ts'
import { fetchOk } from './fetch-url.ts'
import { askOcsp } from './ocsp-question.ts'

const cure = 'is publicUrl.status reachable from here, and is the server running? agentca status'

/** Who can be asked about: a certificate and its issuer. */
export interface Named {
  readonly certificate: Certificate
  readonly issuer: Certificate
}

const examineCrl = async (url: string, issuer: Certificate, now: number): Promise<string> => {
  const crl = parseCrl(await fetchOk(url))
  if (!equalNames(crl.issuerName, issuer.subjectDer)) throw new Error('it is the CRL of another CA')
  checkSignature(issuer.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  if (crl.nextUpdate === null || crl.nextUpdate <= now) throw new Error('the CRL there is past its nextUpdate')
  return `CRL with ${crl.size} entries`
}

const examineIssuer = async (url: string, issuer: Certificate): Promise<string> => {
  const found = parseCertificate(await fetchOk(url))
  if (!equalNames(found.subjectDer, issuer.subjectDer)) throw new Error('it is the certificate of another CA')
  return 'certificate of the issuer'
}

const examineOcsp = async (url: string, { certificate, issuer }: Named, now: number): Promise<string> => {
  const { answer } = await askOcsp({ url, certificate, issuer, nonce: null, now })
  return `OCSP answers ${typeof answer.status === 'object' ? 'revoked' : answer.status}`
}

/**
 * Each URL once, with the first certificate that names it.
 * @param serverAnswers without a server an unreachable URL is no news of its own
 */
export const checkUrls = async (
  named: readonly Named[],
  { now, serverAnswers }: { readonly now: number; readonly serverAnswers: boolean },
): Promise<readonly Check[]> => {
  const broken = serverAnswers ? failed : warn
  const examinations = new Map<string, () => Promise<string>>()
  const add = (url: string, examine: () => Promise<string>): void => {
    if (!examinations.has(url)) examinations.set(url, examine)
  }
  for (const each of named) {
    const access = each.certificate.authorityInfoAccess
    for (const url of crlUrlsOf(each.certificate)) add(url, () => examineCrl(url, each.issuer, now))
    for (const url of access?.caIssuers ?? []) add(url, () => examineIssuer(url, each.issuer))
    for (const url of access?.ocsp ?? []) add(url, () => examineOcsp(url, each, now))
  }
  if (examinations.size === 0) return [skipped('urls', 'no certificate here names a URL')]
  const checks: Check[] = []
  for (const [url, examine] of examinations)
    checks.push(
      await examine().then(
        what => ok('urls', `${url}: ${what}`),
        (error: unknown) => broken('urls', `${url}: ${messageOf(error)}`, cure),
      ),
    )
  return checks
}

/** CAs that name URLs, each with its issuer where that is known. */
export const namedCas = (certificates: readonly Certificate[]): readonly Named[] =>
  certificates.flatMap(certificate => {
    const issuer = certificates.find(each => equalNames(each.subjectDer, certificate.issuerDer))
    return issuer === undefined ? [] : [{ certificate, issuer }]
  })

const certificateOf = (pem: string): Certificate => parseCertificate(parseOnePem(pem, 'CERTIFICATE'))

/** Some profiles name no URLs at all. */
const leavesLookedAt = 20

/** The newest leaf that names anything: all that are issued today under URLs name the same. */
const newestNaming = async (client: AdminClient, cas: readonly Certificate[]): Promise<readonly Named[]> => {
  const { items } = await client.call('certificatesList', { query: { state: 'issued', limit: leavesLookedAt } })
  for (const { serial } of items) {
    const { certificate: pem } = await client.call('certificatesShow', { params: { serial } })
    const certificate = pem === null ? null : certificateOf(pem)
    if (certificate === null || !namesUrls(certificate)) continue
    const issuer = cas.find(each => equalNames(each.subjectDer, certificate.issuerDer))
    if (issuer !== undefined) return [{ certificate, issuer }]
  }
  return []
}

const namesUrls = (certificate: Certificate): boolean =>
  crlUrlsOf(certificate).length > 0 || certificate.authorityInfoAccess !== null

export const namedByServer = async (client: AdminClient): Promise<readonly Named[]> => {
  const { items } = await client.call('issuersList')
  const cas = items.map(each => certificateOf(each.certificate))
  return [...namedCas(cas), ...(await newestNaming(client, cas))]
}
