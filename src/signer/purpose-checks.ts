// The last judge before the HSM: signs only what it can parse and what fits its purpose, so that a core in an attacker's hands
// gets leaves of known shape and life and nothing else. Every refusal names its rule. Rates, counts and queues are elsewhere.

import { createHash } from 'node:crypto'
import { equalBytes, fromBase64, fromUtf8, toHex, utf8 } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { encodeSignatureAlgorithm } from '../pki/algorithms.ts'
import { DerReader } from '../pki/der.ts'
import { oidOf } from '../pki/oid.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import { type CertificateRules, checkCertificate, checkLeafCertificate } from './certificate-checks.ts'
import { type Curve, pointOfSpki } from './ec-key.ts'
import { SignerError } from './errors.ts'
import type { HighWater } from './high-water.ts'
import type { SignPurpose } from './port.ts'
import { checkAuthorityKey, clockSlackMs, type IssuerFacts, type PurposeKey, refuse } from './refusal.ts'
import { type ExtensionField, readResponseData, readTbsCertList } from './tbs-fields.ts'

export interface PurposeDeps {
  readonly trustDomain: TrustDomain
  readonly highWater: HighWater
  /** All keys of this signer: none of them may become a leaf's key, and responder certificates are only for them. */
  readonly keys: () => readonly PurposeKey[]
  readonly now: () => number
}

/** What has to be durable before C_Sign. */
export type Commit = () => void

export const testSignPrefix = 'agentca test-sign v1\n'

const nothing: Commit = () => {}
const algorithmDers: Readonly<Record<Curve, Uint8Array>> = {
  'P-256': encodeSignatureAlgorithm('ecdsa-with-SHA256'),
  'P-384': encodeSignatureAlgorithm('ecdsa-with-SHA384'),
}
export const signatureAlgorithmDer = (curve: Curve): Uint8Array => algorithmDers[curve]

const issuerOf = (key: PurposeKey): IssuerFacts =>
  key.issuer ?? refuse('key_without_certificate', `key "${key.label}" has no certificate configured`)

const crlExtensions: ReadonlySet<string> = new Set([
  oidOf.authorityKeyIdentifier,
  oidOf.crlNumber,
  oidOf.issuingDistributionPoint,
  oidOf.expiredCertsOnCrl,
  oidOf.authorityInfoAccess,
])

/** Every shard of every count that there is, and the complete list, twice over; each scope is a line on disk for ever. */
const maxCrlScopes = 1024
const maxUrlLength = 2048

/**
 * RFC 5280 §5.2.5: one URL of plain HTTP, and that it is about leaves, as all lists of an issuing CA are. A list that says to cover some
 * reasons, CAs, or other issuers' certificates, would be taken by relying parties for what no list of ours is.
 */
const checkDistributionPoint = ({ critical, value }: ExtensionField): void => {
  if (!critical) refuse('crl_distribution_point', 'the issuing distribution point must be critical')
  const input = new DerReader(value)
  const point = input.readSequence()
  input.end()
  const name = point.readConstructed(0xa0)
  const fullName = name.readConstructed(0xa0)
  const url = fullName.readIa5String(0x86)
  point.readDefaultFalse(0x81)
  if (!fullName.atEnd || !name.atEnd || !point.atEnd || !url.startsWith('http://') || url.length > maxUrlLength)
    refuse('crl_distribution_point', 'the issuing distribution point must be one http URL and nothing else')
}

const checkCrl = (deps: PurposeDeps, key: PurposeKey, tbs: Uint8Array): Commit => {
  const crl = readTbsCertList(tbs)
  const issuer = issuerOf(key)
  const now = deps.now()
  if (!equalBytes(crl.algorithmDer, signatureAlgorithmDer(key.curve)))
    refuse('crl_algorithm', 'the signature algorithm is not that of the key')
  if (!equalBytes(crl.issuerDer, issuer.subjectDer))
    refuse('crl_issuer', 'the issuer is not the subject of this key’s certificate')
  for (const oid of crl.extensions.keys())
    if (!crlExtensions.has(oid)) refuse('crl_extension', `extension ${oid} is not known here`)
  const aki = crl.extensions.get(oidOf.authorityKeyIdentifier)
  if (!aki) return refuse('crl_authority_key', 'the authority key identifier is missing')
  checkAuthorityKey(aki.value, issuer.keyIdentifier, 'crl_authority_key')
  if (Math.abs(crl.thisUpdate - now) > clockSlackMs) refuse('crl_this_update', 'thisUpdate is not now')
  if (crl.nextUpdate <= crl.thisUpdate) refuse('crl_next_update', 'nextUpdate is not after thisUpdate')
  if (crl.nextUpdate - crl.thisUpdate > key.ceilings.maxCrlSeconds * 1000)
    refuse('crl_lifetime', `nextUpdate is more than ${key.ceilings.maxCrlSeconds} s after thisUpdate`)
  const numberField = crl.extensions.get(oidOf.crlNumber)
  if (!numberField) return refuse('crl_number', 'the CRL number is missing')
  const numberReader = new DerReader(numberField.value)
  const number = numberReader.readBigInteger()
  numberReader.end()
  // RFC 5280 §5.2.3: increasing per issuer and scope; the scope is the distribution point.
  const idp = crl.extensions.get(oidOf.issuingDistributionPoint)
  if (idp) checkDistributionPoint(idp)
  const scope = `${key.spkiSha256Hex}/${idp ? createHash('sha256').update(idp.value).digest('hex') : 'complete'}`
  const last = deps.highWater.crlNumber(scope)
  if (idp && last === null && deps.highWater.crlScopes(`${key.spkiSha256Hex}/`) >= maxCrlScopes)
    refuse(
      'crl_scopes',
      `this key has signed lists of ${maxCrlScopes} distribution points, and signs of no further one`,
    )
  if (number < 0n || (last !== null && number <= last))
    refuse('crl_number', `CRL number ${number} is not above ${last ?? 0}, the last one signed`)
  return () => deps.highWater.setCrlNumber(scope, number)
}

const checkOcspResponse = (deps: PurposeDeps, key: PurposeKey, tbs: Uint8Array): Commit => {
  const data = readResponseData(tbs)
  const now = deps.now()
  const { responderId } = data
  if (responderId.by === 'key') {
    const own = createHash('sha1').update(pointOfSpki(key.curve, key.spki)).digest()
    if (!equalBytes(responderId.keyHash, own))
      refuse('ocsp_responder_id', 'the responder id is not the hash of this key')
  } else {
    const name = key.issuer ? toHex(key.issuer.subjectDer) : deps.highWater.responderName(key.spkiSha256Hex)
    if (name !== toHex(responderId.nameDer))
      refuse('ocsp_responder_id', 'the responder id is not the name in this key’s certificate')
  }
  if (Math.abs(data.producedAt - now) > clockSlackMs) refuse('ocsp_produced_at', 'producedAt is not now')
  for (const { thisUpdate, nextUpdate } of data.responses) {
    if (thisUpdate > now + clockSlackMs) refuse('ocsp_this_update', 'thisUpdate is in the future')
    // RFC 6960 §4.2.2.1 allows to leave nextUpdate out; such an answer would never go stale in a cache.
    if (nextUpdate === null) return refuse('ocsp_next_update', 'nextUpdate is missing')
    if (nextUpdate <= thisUpdate) refuse('ocsp_next_update', 'nextUpdate is not after thisUpdate')
    if (nextUpdate - thisUpdate > key.ceilings.maxOcspSeconds * 1000)
      refuse('ocsp_lifetime', `nextUpdate is more than ${key.ceilings.maxOcspSeconds} s after thisUpdate`)
  }
  return nothing
}

const checkCheckpoint = (deps: PurposeDeps, key: PurposeKey, tbs: Uint8Array): Commit => {
  if (tbs.length > 4096) refuse('checkpoint_form', 'a checkpoint has at most 4096 bytes')
  const lines = fromUtf8(tbs).split('\n')
  const [origin = '', sizeText = '', headBase64 = '', ...rest] = lines
  // Starts with a letter: no checkpoint can be read as DER, and none of ours as another text form.
  if (!/^[A-Za-z][!-~]{0,254}$/.test(origin)) refuse('checkpoint_form', 'the first line must be the origin')
  if (!/^(0|[1-9][0-9]{0,14})$/.test(sizeText)) refuse('checkpoint_form', 'the second line must be the size')
  if (fromBase64(headBase64)?.length !== 32) refuse('checkpoint_form', 'the third line must be a SHA-256 in base64')
  if (rest.pop() !== '' || rest.some(line => line === '' || line.startsWith('\u2014')))
    refuse('checkpoint_form', 'extension lines must not be empty, and the last line must end')
  const size = Number(sizeText)
  const scope = `${key.spkiSha256Hex}/${origin}`
  const last = deps.highWater.checkpoint(scope)
  if (last !== null && size < last.size)
    refuse('checkpoint_size', `size ${size} is below ${last.size}, the last one signed`)
  if (last !== null && size === last.size && headBase64 !== last.headBase64)
    refuse('checkpoint_fork', `another head was signed for size ${size}`)
  return last?.size === size ? nothing : () => deps.highWater.setCheckpoint(scope, { size, headBase64 })
}

const prefixBytes = utf8(testSignPrefix)

const checkTestSign = (tbs: Uint8Array): Commit => {
  if (tbs.length > 1024 || !equalBytes(tbs.subarray(0, prefixBytes.length), prefixBytes)) {
    refuse('test_sign_prefix', 'test data must begin with the fixed prefix and have at most 1024 bytes')
  }
  return nothing
}

const certificateRules = (deps: PurposeDeps, key: PurposeKey): CertificateRules => ({
  trustDomain: deps.trustDomain,
  issuer: issuerOf(key),
  algorithmDer: signatureAlgorithmDer(key.curve),
  ceilings: key.ceilings,
  now: deps.now(),
  ownKeys: deps.keys(),
})

/**
 * @returns what must be made durable before C_Sign
 * @throws SignerError `signer_refused` with the rule
 */
export const checkPurpose = (
  deps: PurposeDeps,
  key: PurposeKey,
  request: { purpose: SignPurpose; tbs: Uint8Array },
): Commit => {
  const { purpose, tbs } = request
  if (!key.purposes.includes(purpose)) refuse('key_purpose', `key "${key.label}" does not sign for purpose ${purpose}`)
  try {
    switch (purpose) {
      case 'leaf':
        checkLeafCertificate(certificateRules(deps, key), tbs)
        return nothing
      case 'ocsp-responder': {
        const { spkiSha256Hex, subjectHex } = checkCertificate('ocsp-responder', certificateRules(deps, key), tbs)
        return () => deps.highWater.setResponderName(spkiSha256Hex, subjectHex)
      }
      case 'crl':
        return checkCrl(deps, key, tbs)
      case 'ocsp-response':
        return checkOcspResponse(deps, key, tbs)
      case 'checkpoint':
        return checkCheckpoint(deps, key, tbs)
      case 'test-sign':
        return checkTestSign(tbs)
      default:
        return refuse('key_purpose', `purpose ${String(purpose satisfies never)} is not known`)
    }
  } catch (error) {
    if (error instanceof SignerError) throw error
    return refuse('not_parsable', `cannot parse the bytes as ${purpose}: ${messageOf(error)}`)
  }
}
