// The fast way to a leaf's to-be-signed bytes: everything that is the same for an issuer and a profile is encoded once, and each
// certificate is one buffer filled from front to back. `encodeTbsCertificate` makes the same bytes; a test holds the two together.

import { concatBytes } from '../base/bytes.ts'
import { type SignatureAlgorithm, signatureAlgorithms } from './algorithms.ts'
import type { CertificateDraft } from './certificate.ts'
import { explicit, integer, oid, time } from './der.ts'
import { PkiError } from './errors.ts'
import * as ext from './extensions.ts'
import { dnsName, ipName, uriName } from './general-names.ts'
import { encodeName } from './names.ts'
import { oidOf } from './oid.ts'
import type { SpiffeId } from './spiffe.ts'

export interface LeafTemplateOptions {
  /** DER of the issuer's subject, byte for byte. */
  readonly issuerDer: Uint8Array
  readonly signatureAlgorithm: SignatureAlgorithm
  /** Subject key identifier of the issuer. */
  readonly authorityKeyId: Uint8Array
  readonly keyUsage: readonly ext.KeyUsage[]
  /** Dotted identifiers, oidOf.clientAuth and the like. */
  readonly extendedKeyUsage: readonly string[]
  readonly crlDistributionPoint?: string
  readonly authorityInfoAccess?: ext.AuthorityInfoAccess
  /** RFC 9608: for lives so short that revocation information would come too late. */
  readonly noRevAvail?: 'present' | 'absent'
  /** For the certificate of an OCSP responder. */
  readonly ocspNoCheck?: 'present' | 'absent'
}

export interface LeafFields {
  readonly serial: Uint8Array
  /** Milliseconds since the epoch, cut to the second. */
  readonly notBefore: number
  readonly notAfter: number
  /** ASCII, as commonNameFor makes it. */
  readonly subjectCn: string
  readonly spkiDer: Uint8Array
  /** Absent only for certificates that are no identity: OCSP responders. */
  readonly spiffeId?: SpiffeId
  readonly dnsNames?: readonly string[]
  /** 4 or 16 octets each. */
  readonly ipAddresses?: readonly Uint8Array[]
  readonly scopesVersion?: number
}

export interface LeafTemplate {
  /** The to-be-signed bytes. @throws PkiError not_encodable */
  encode(fields: LeafFields): Uint8Array
  /** The same certificate as a draft, for lints and tests. */
  draft(fields: LeafFields): CertificateDraft
}

const fixedExtensions = (options: LeafTemplateOptions): ext.Extension[] => [
  ext.basicConstraints({ isCa: false, pathLength: null }),
  ext.keyUsage(options.keyUsage),
  ext.extendedKeyUsage(options.extendedKeyUsage),
  ext.authorityKeyIdentifier(options.authorityKeyId),
  ...(options.crlDistributionPoint === undefined ? [] : [ext.crlDistributionPoints([options.crlDistributionPoint])]),
  ...(options.authorityInfoAccess === undefined ? [] : [ext.authorityInfoAccess(options.authorityInfoAccess)]),
  ...(options.noRevAvail === 'present' ? [ext.noRevAvail()] : []),
  ...(options.ocspNoCheck === 'present' ? [ext.ocspNoCheck()] : []),
]

const variableExtensions = (fields: LeafFields): ext.Extension[] => {
  const { spiffeId, dnsNames = [], ipAddresses = [], scopesVersion } = fields
  const names = [
    ...(spiffeId === undefined ? [] : [uriName(spiffeId)]),
    ...dnsNames.map(dnsName),
    ...ipAddresses.map(ipName),
  ]
  return [
    ...(names.length === 0 ? [] : [ext.subjectAltName(names)]),
    ...(scopesVersion === undefined ? [] : [ext.scopesVersion(scopesVersion)]),
  ]
}

const draftOf = (options: LeafTemplateOptions, fields: LeafFields): CertificateDraft => ({
  serial: fields.serial,
  signatureAlgorithm: options.signatureAlgorithm,
  issuerDer: options.issuerDer,
  notBefore: fields.notBefore,
  notAfter: fields.notAfter,
  subjectDer: encodeName([['CN', fields.subjectCn]]),
  spkiDer: fields.spkiDer,
  extensions: [...fixedExtensions(options), ...variableExtensions(fields)],
})

/** Bytes of a header for that content. */
const headerSize = (length: number): number => (length < 0x80 ? 2 : length < 0x100 ? 3 : 4)
const sizeOf = (length: number): number => headerSize(length) + length

/** Fills one buffer from front to back; sizes are known before. */
class Filler {
  readonly out: Uint8Array
  #at = 0

  constructor(size: number) {
    this.out = new Uint8Array(size)
  }

  bytes(bytes: Uint8Array): void {
    this.out.set(bytes, this.#at)
    this.#at += bytes.length
  }

  header(tag: number, length: number): void {
    const out = this.out
    out[this.#at++] = tag
    if (length >= 0x100) {
      out[this.#at++] = 0x82
      out[this.#at++] = length >> 8
    } else if (length >= 0x80) out[this.#at++] = 0x81
    out[this.#at++] = length & 0xff
  }

  ascii(tag: number, text: string): void {
    this.header(tag, text.length)
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 0x7f) throw new PkiError('not_encodable', 'expected ASCII text')
      this.out[this.#at++] = unit
    }
  }
}

const sanOid = oid(oidOf.subjectAltName)
const cnOid = oid(oidOf.commonName)

/** Two times that repeat for thousands of certificates in a second are formatted once. */
const createTimeCache = (): ((ms: number) => Uint8Array) => {
  let lastSecond = Number.NaN
  let last = new Uint8Array(0)
  return ms => {
    const second = Math.floor(ms / 1000)
    if (second !== lastSecond) {
      last = new Uint8Array(time(ms))
      lastSecond = second
    }
    return last
  }
}

/** @throws PkiError not_encodable */
export const createLeafTemplate = (options: LeafTemplateOptions): LeafTemplate => {
  const versionPart = explicit(0, integer(2))
  const algorithmAndIssuer = concatBytes([signatureAlgorithms[options.signatureAlgorithm].der, options.issuerDer])
  const fixedParts = concatBytes(fixedExtensions(options).map(ext.encodeExtension))
  const notBeforeBytes = createTimeCache()
  const notAfterBytes = createTimeCache()

  const encode = (fields: LeafFields): Uint8Array => {
    const { subjectCn, spkiDer, spiffeId = '', dnsNames = [], ipAddresses = [] } = fields
    if (subjectCn === '') throw new PkiError('not_encodable', 'CN is empty')
    const serial = integer(fields.serial)
    const notBefore = notBeforeBytes(fields.notBefore)
    const notAfter = notAfterBytes(fields.notAfter)
    const scopes = fields.scopesVersion === undefined ? noBytes : encodeScopes(fields.scopesVersion)

    const cnPair = cnOid.length + sizeOf(subjectCn.length)
    const rdn = sizeOf(cnPair)
    const name = sizeOf(rdn)
    let names = spiffeId === '' ? 0 : sizeOf(spiffeId.length)
    for (const dns of dnsNames) names += sizeOf(dns.length)
    for (const ip of ipAddresses) names += sizeOf(ip.length)
    const sanValue = sizeOf(names)
    const san = sanOid.length + sizeOf(sanValue)
    const list = fixedParts.length + (names === 0 ? 0 : sizeOf(san)) + scopes.length
    const validity = notBefore.length + notAfter.length
    const body =
      versionPart.length +
      serial.length +
      algorithmAndIssuer.length +
      sizeOf(validity) +
      sizeOf(name) +
      spkiDer.length +
      sizeOf(sizeOf(list))
    if (body > 0xffff) throw new PkiError('not_encodable', 'a leaf of more than 64 KiB')

    const filler = new Filler(sizeOf(body))
    filler.header(0x30, body)
    filler.bytes(versionPart)
    filler.bytes(serial)
    filler.bytes(algorithmAndIssuer)
    filler.header(0x30, validity)
    filler.bytes(notBefore)
    filler.bytes(notAfter)
    filler.header(0x30, name)
    filler.header(0x31, rdn)
    filler.header(0x30, cnPair)
    filler.bytes(cnOid)
    filler.ascii(0x0c, subjectCn)
    filler.bytes(spkiDer)
    filler.header(0xa3, sizeOf(list))
    filler.header(0x30, list)
    filler.bytes(fixedParts)
    if (names > 0) {
      filler.header(0x30, san)
      filler.bytes(sanOid)
      filler.header(0x04, sanValue)
      filler.header(0x30, names)
      if (spiffeId !== '') filler.ascii(0x86, spiffeId)
      for (const dns of dnsNames) filler.ascii(0x82, dns)
      for (const ip of ipAddresses) {
        filler.header(0x87, ip.length)
        filler.bytes(ip)
      }
    }
    filler.bytes(scopes)
    return filler.out
  }

  return { encode, draft: fields => draftOf(options, fields) }
}

const noBytes = new Uint8Array(0)
// Most registrations are of their first few versions. Owned by this module.
const scopesExtensions: Uint8Array[] = []
const maxKeptVersion = 256

const encodeScopes = (version: number): Uint8Array => {
  const known = scopesExtensions[version]
  if (known !== undefined) return known
  const encoded = ext.encodeExtension(ext.scopesVersion(version))
  if (version < maxKeptVersion) scopesExtensions[version] = encoded
  return encoded
}
