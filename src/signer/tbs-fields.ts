// The signer's own strict reading of what it is asked to sign: TBSCertificate, TBSCertList, ResponseData (RFC 5280, RFC 6960).
// Fields only; purpose-checks.ts judges them. Deliberately not the core's parser: the last check before the HSM stands alone.
import { DerReader } from '../pki/der.ts'
import { PkiError } from '../pki/errors.ts'

export interface ExtensionField {
  readonly critical: boolean
  readonly value: Uint8Array
}

export interface TbsCertificateFields {
  /** Content of the INTEGER. */
  readonly serial: Uint8Array
  readonly algorithmDer: Uint8Array
  readonly issuerDer: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  readonly subjectDer: Uint8Array
  readonly spkiDer: Uint8Array
  readonly extensions: ReadonlyMap<string, ExtensionField>
}

const readExtensions = (reader: DerReader): ReadonlyMap<string, ExtensionField> => {
  const found = new Map<string, ExtensionField>()
  const list = reader.readSequence()
  reader.end()
  while (!list.atEnd) {
    const one = list.readSequence()
    const oid = one.readOid()
    const critical = one.readDefaultFalse()
    const value = one.readOctetString()
    one.end()
    if (found.has(oid)) throw new PkiError('extension_duplicate', `extension ${oid} appears twice`)
    found.set(oid, { critical, value })
  }
  return found
}

/** @throws PkiError */
export const readTbsCertificate = (der: Uint8Array): TbsCertificateFields => {
  const input = new DerReader(der)
  const tbs = input.readSequence()
  input.end()
  const version = tbs.readConstructed(0xa0)
  if (version.readSmallInteger() !== 2) throw new PkiError('certificate_malformed', 'expected version 3')
  version.end()
  const serial = tbs.readInteger()
  const algorithmDer = tbs.readTlv(0x30).raw
  const issuerDer = tbs.readTlv(0x30).raw
  const validity = tbs.readSequence()
  const notBefore = validity.readTime()
  const notAfter = validity.readTime()
  validity.end()
  const subjectDer = tbs.readTlv(0x30).raw
  const spkiDer = tbs.readTlv(0x30).raw
  // Unique identifiers [1] and [2] are not used (RFC 5280 §4.1.2.8): the next element must be the extensions.
  const extensions = readExtensions(tbs.readConstructed(0xa3))
  tbs.end()
  return { serial, algorithmDer, issuerDer, notBefore, notAfter, subjectDer, spkiDer, extensions }
}

/** The TBSCertificate of a whole certificate. @throws PkiError */
export const readCertificate = (der: Uint8Array): TbsCertificateFields => {
  const input = new DerReader(der)
  const certificate = input.readSequence()
  input.end()
  return readTbsCertificate(certificate.readTlv(0x30).raw)
}

export interface TbsCertListFields {
  readonly algorithmDer: Uint8Array
  readonly issuerDer: Uint8Array
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly entries: number
  readonly extensions: ReadonlyMap<string, ExtensionField>
}

/** The commonest form of an entry's time: UTCTime, YYMMDDhhmmssZ. */
const utcTimeLength = 13

/** Twelve digits that are a date and a time; days that not every month has are left to the general reader. */
const isCommonTime = (bytes: Uint8Array, at: number): boolean => {
  for (let i = at; i < at + 12; i++) if (bytes[i]! < 0x30 || bytes[i]! > 0x39) return false
  const month = (bytes[at + 2]! - 0x30) * 10 + bytes[at + 3]! - 0x30
  const day = (bytes[at + 4]! - 0x30) * 10 + bytes[at + 5]! - 0x30
  const hour = (bytes[at + 6]! - 0x30) * 10 + bytes[at + 7]! - 0x30
  if (month < 1 || month > 12 || day < 1 || day > 28 || hour > 23) return false
  return bytes[at + 8]! <= 0x35 && bytes[at + 10]! <= 0x35
}

/**
 * Where an entry of the commonest form ends: short lengths, a positive serial in its shortest form, UTCTime of digits, and nothing after
 * it or one SEQUENCE. A list may have a million, which cost the general reader four times as much.
 * @returns 0 for another form, which the general reader judges
 */
const commonEntryEnd = (bytes: Uint8Array, at: number): number => {
  const length = bytes[at + 1]!
  const end = at + 2 + length
  const serialLength = bytes[at + 3]!
  if (bytes[at] !== 0x30 || length >= 0x80 || end > bytes.length) return 0
  if (bytes[at + 2] !== 0x02 || serialLength === 0 || serialLength > 20) return 0
  const first = bytes[at + 4]!
  if (first >= 0x80 || (first === 0 && serialLength > 1 && bytes[at + 5]! < 0x80)) return 0
  const time = at + 4 + serialLength
  const after = time + 2 + utcTimeLength
  if (after > end || bytes[time] !== 0x17 || bytes[time + 1] !== utcTimeLength || bytes[after - 1] !== 0x5a) return 0
  if (!isCommonTime(bytes, time + 2)) return 0
  return after === end || (bytes[after] === 0x30 && bytes[after + 1]! === end - after - 2) ? end : 0
}

/** @param list content of revokedCertificates */
const countEntries = (list: Uint8Array): number => {
  let entries = 0
  for (let at = 0; at < list.length; entries++) {
    const end = commonEntryEnd(list, at)
    if (end > 0) {
      at = end
      continue
    }
    const rest = new DerReader(list.subarray(at))
    const { raw } = rest.readTlv(0x30)
    const input = new DerReader(raw)
    const entry = input.readSequence()
    if (entry.readInteger()[0]! >= 0x80) throw new PkiError('crl_malformed', 'negative serial')
    entry.readTime()
    if (!entry.atEnd) entry.readTlv(0x30)
    entry.end()
    at += raw.length
  }
  return entries
}

/** @throws PkiError */
export const readTbsCertList = (der: Uint8Array): TbsCertListFields => {
  const input = new DerReader(der)
  const tbs = input.readSequence()
  input.end()
  if (tbs.readSmallInteger() !== 1) throw new PkiError('crl_malformed', 'expected version 2')
  const algorithmDer = tbs.readTlv(0x30).raw
  const issuerDer = tbs.readTlv(0x30).raw
  const thisUpdate = tbs.readTime()
  const nextUpdate = tbs.readTime()
  const revoked = tbs.readOptionalConstructed(0x30)
  let entries = 0
  if (revoked) {
    // RFC 5280 §5.1.2.6: absent when there are none.
    if (revoked.atEnd) throw new PkiError('crl_malformed', 'an empty list of revoked certificates must be left out')
    entries = countEntries(revoked.content)
  }
  const extensions = readExtensions(tbs.readConstructed(0xa0))
  tbs.end()
  return { algorithmDer, issuerDer, thisUpdate, nextUpdate, entries, extensions }
}

export type ResponderId =
  | { readonly by: 'name'; readonly nameDer: Uint8Array }
  | { readonly by: 'key'; readonly keyHash: Uint8Array }

export interface ResponseDataFields {
  readonly responderId: ResponderId
  readonly producedAt: number
  readonly responses: readonly { readonly thisUpdate: number; readonly nextUpdate: number | null }[]
}

const readSingleResponse = (list: DerReader): { thisUpdate: number; nextUpdate: number | null } => {
  const single = list.readSequence()
  const certId = single.readSequence()
  certId.readTlv(0x30)
  certId.readOctetString()
  certId.readOctetString()
  certId.readInteger()
  certId.end()
  const status = single.readTlv()
  // good [0] NULL, revoked [1] RevokedInfo, unknown [2] NULL.
  if (status.tag !== 0x80 && status.tag !== 0xa1 && status.tag !== 0x82)
    throw new PkiError('ocsp_malformed', 'no certificate status')
  const thisUpdate = single.readGeneralizedTime()
  const next = single.readOptionalConstructed(0xa0)
  const nextUpdate = next ? next.readGeneralizedTime() : null
  next?.end()
  const extensions = single.readOptionalConstructed(0xa1)
  if (extensions) readExtensions(extensions)
  single.end()
  return { thisUpdate, nextUpdate }
}

/** @throws PkiError */
export const readResponseData = (der: Uint8Array): ResponseDataFields => {
  const input = new DerReader(der)
  const data = input.readSequence()
  input.end()
  // version [0] DEFAULT v1: the only version there is, so DER leaves it out.
  const choice = data.readTlv()
  const inner = choice.reader()
  let responderId: ResponderId
  if (choice.tag === 0xa1) responderId = { by: 'name', nameDer: inner.readTlv(0x30).raw }
  else if (choice.tag === 0xa2) responderId = { by: 'key', keyHash: inner.readOctetString() }
  else throw new PkiError('ocsp_malformed', 'no responder id')
  inner.end()
  const producedAt = data.readGeneralizedTime()
  const list = data.readSequence()
  const responses: { thisUpdate: number; nextUpdate: number | null }[] = []
  while (!list.atEnd) responses.push(readSingleResponse(list))
  if (responses.length === 0) throw new PkiError('ocsp_malformed', 'no single response')
  const extensions = data.readOptionalConstructed(0xa1)
  if (extensions) readExtensions(extensions)
  data.end()
  return { responderId, producedAt, responses }
}
