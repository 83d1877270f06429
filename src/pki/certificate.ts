// X.509 certificates (RFC 5280 §4.1): bytes to a Certificate, a draft to to-be-signed bytes, both to a certificate.
// Parsing checks the syntax only; whether a certificate is to be believed is decided in `verify`.
import { equalBytes } from '../base/bytes.ts'
import { parseSignatureAlgorithm, type SignatureAlgorithm, signatureAlgorithms } from './algorithms.ts'
import { bitString, DerReader, explicit, integer, sequence, time } from './der.ts'
import { PkiError } from './errors.ts'
import * as ext from './extensions.ts'
import type { GeneralName } from './general-names.ts'
import { comparableName, type Name, parseName } from './names.ts'
import { oidOf } from './oid.ts'
import {
  type PolicyConstraints,
  type PolicyMapping,
  parseInhibitAnyPolicy,
  parsePolicyConstraints,
  parsePolicyMappings,
} from './policy-extensions.ts'
import { serialHex } from './serial.ts'
import { parseSpiffeId, type SpiffeId } from './spiffe.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo, spkiHashHex } from './spki.ts'

/** Larger than any certificate with a purpose here; PKITS' largest has 1.2 KiB. */
export const maxCertificateBytes = 65_536

interface TbsFields {
  readonly der: Uint8Array
  readonly version: 1 | 2 | 3
  readonly serial: Uint8Array
  readonly signatureAlgorithmDer: Uint8Array
  readonly issuerDer: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  readonly subjectDer: Uint8Array
  readonly spkiDer: Uint8Array
  readonly extensions: readonly ext.Extension[]
}

// Certificates of one issuer and profile have most extensions in common, octet by octet: the last value of each kind, and what it says.
// Owned by this module; one entry for each extension that TbsCertificate asks for in this way.
const parsedLast = new Map<string, { readonly value: Uint8Array; readonly parsed: unknown }>()

const lastParsed = <T>(dotted: string, value: Uint8Array, parse: (value: Uint8Array) => T): T => {
  const last = parsedLast.get(dotted)
  if (last !== undefined && equalBytes(last.value, value)) return last.parsed as T
  // What is read may be a view into what it was read from.
  const kept = value.slice()
  const parsed = parse(kept)
  parsedLast.set(dotted, { value: kept, parsed })
  return parsed
}

/**
 * The fields of TBSCertificate. What costs or what may be refused by itself (names, key, algorithm, extensions' values) is parsed
 * when asked for, once; those getters throw PkiError.
 */
export class TbsCertificate {
  readonly #fields: TbsFields
  readonly #parsed = new Map<string, unknown>()

  constructor(fields: TbsFields) {
    this.#fields = fields
  }

  get tbs(): Uint8Array {
    return this.#fields.der
  }
  get version(): 1 | 2 | 3 {
    return this.#fields.version
  }
  /** Content of the INTEGER. */
  get serial(): Uint8Array {
    return this.#fields.serial
  }
  get serialHex(): string {
    return this.#once('serialHex', () => serialHex(this.#fields.serial))
  }
  get issuerDer(): Uint8Array {
    return this.#fields.issuerDer
  }
  get subjectDer(): Uint8Array {
    return this.#fields.subjectDer
  }
  /** Milliseconds since the epoch. */
  get notBefore(): number {
    return this.#fields.notBefore
  }
  /** Milliseconds since the epoch; the last second is part of the validity (RFC 5280 §4.1.2.5). */
  get notAfter(): number {
    return this.#fields.notAfter
  }
  get spkiDer(): Uint8Array {
    return this.#fields.spkiDer
  }
  get extensions(): readonly ext.Extension[] {
    return this.#fields.extensions
  }
  get signatureAlgorithmDer(): Uint8Array {
    return this.#fields.signatureAlgorithmDer
  }
  get signatureAlgorithm(): SignatureAlgorithm {
    return this.#once('signatureAlgorithm', () => parseSignatureAlgorithm(this.#fields.signatureAlgorithmDer))
  }
  get issuer(): Name {
    return this.#once('issuer', () => parseName(this.#fields.issuerDer))
  }
  get subject(): Name {
    return this.#once('subject', () => parseName(this.#fields.subjectDer))
  }
  /** Texts that are equal exactly when the names are (RFC 5280 §7.1), for looking issuers up. */
  get comparableIssuer(): string {
    return this.#once('comparableIssuer', () => comparableName(this.#fields.issuerDer))
  }
  get comparableSubject(): string {
    return this.#once('comparableSubject', () => comparableName(this.#fields.subjectDer))
  }
  get spki(): SubjectPublicKeyInfo {
    return this.#once('spki', () => parseSubjectPublicKeyInfo(this.#fields.spkiDer))
  }
  get spkiHashHex(): string {
    return this.#once('spkiHashHex', () => spkiHashHex(this.#fields.spkiDer))
  }

  get basicConstraints(): ext.BasicConstraints | null {
    return this.#sharedExtension(oidOf.basicConstraints, ext.parseBasicConstraints)
  }
  get keyUsage(): readonly ext.KeyUsage[] | null {
    return this.#sharedExtension(oidOf.keyUsage, ext.parseKeyUsage)
  }
  /** Dotted identifiers. */
  get extendedKeyUsage(): readonly string[] | null {
    return this.#sharedExtension(oidOf.extendedKeyUsage, ext.parseExtendedKeyUsage)
  }
  get subjectAltName(): readonly GeneralName[] | null {
    return this.#extension(oidOf.subjectAltName, ext.parseSubjectAltName)
  }
  get subjectKeyIdentifier(): Uint8Array | null {
    return this.#extension(oidOf.subjectKeyIdentifier, ext.parseSubjectKeyIdentifier)
  }
  get authorityKeyIdentifier(): ext.AuthorityKeyIdentifier | null {
    return this.#sharedExtension(oidOf.authorityKeyIdentifier, ext.parseAuthorityKeyIdentifier)
  }
  get crlDistributionPoints(): readonly ext.DistributionPoint[] | null {
    return this.#sharedExtension(oidOf.crlDistributionPoints, ext.parseCrlDistributionPoints)
  }
  get authorityInfoAccess(): ext.AuthorityInfoAccess | null {
    return this.#sharedExtension(oidOf.authorityInfoAccess, ext.parseAuthorityInfoAccess)
  }
  get nameConstraints(): ext.NameConstraints | null {
    return this.#extension(oidOf.nameConstraints, ext.parseNameConstraints)
  }
  get certificatePolicies(): readonly ext.PolicyInformation[] | null {
    return this.#extension(oidOf.certificatePolicies, ext.parseCertificatePolicies)
  }
  get policyMappings(): readonly PolicyMapping[] | null {
    return this.#extension(oidOf.policyMappings, parsePolicyMappings)
  }
  get policyConstraints(): PolicyConstraints | null {
    return this.#extension(oidOf.policyConstraints, parsePolicyConstraints)
  }
  get inhibitAnyPolicy(): number | null {
    return this.#extension(oidOf.inhibitAnyPolicy, parseInhibitAnyPolicy)
  }
  get scopesVersion(): number | null {
    return this.#extension(oidOf.agentScopesVersion, ext.parseScopesVersion)
  }
  get hasNoRevAvail(): boolean {
    return this.extension(oidOf.noRevAvail) !== undefined
  }
  get hasOcspNoCheck(): boolean {
    return this.extension(oidOf.ocspNoCheck) !== undefined
  }

  /**
   * The SPIFFE ID: exactly one URI SAN (X509-SVID §2). null when there is no URI at all.
   * @throws PkiError certificate_malformed for several URIs, spiffe_id_malformed
   */
  get spiffeId(): SpiffeId | null {
    return this.#once('spiffeId', () => {
      const uris = (this.subjectAltName ?? []).filter(name => name.kind === 'uri')
      if (uris.length > 1) throw new PkiError('certificate_malformed', 'more than one URI in subjectAltName')
      return uris[0] === undefined ? null : parseSpiffeId(uris[0].value)
    })
  }
  get dnsNames(): readonly string[] {
    return (this.subjectAltName ?? []).filter(name => name.kind === 'dns').map(name => name.value)
  }

  extension(dotted: string): ext.Extension | undefined {
    return ext.findExtension(this.#fields.extensions, dotted)
  }

  #extension<T>(dotted: string, parse: (value: Uint8Array) => T): T | null {
    return this.#once(dotted, () => {
      const found = this.extension(dotted)
      return found === undefined ? null : parse(found.value)
    })
  }

  #sharedExtension<T>(dotted: string, parse: (value: Uint8Array) => T): T | null {
    return this.#extension(dotted, value => lastParsed(dotted, value, parse))
  }

  #once<T>(key: string, make: () => T): T {
    if (this.#parsed.has(key)) return this.#parsed.get(key) as T
    const value = make()
    this.#parsed.set(key, value)
    return value
  }
}

export class Certificate extends TbsCertificate {
  readonly der: Uint8Array
  readonly signature: Uint8Array

  constructor(fields: TbsFields, der: Uint8Array, signature: Uint8Array) {
    super(fields)
    this.der = der
    this.signature = signature
  }
}

const readVersion = (body: DerReader): 1 | 2 | 3 => {
  const wrapper = body.readOptionalConstructed(0xa0)
  if (wrapper === undefined) return 1
  const value = wrapper.readSmallInteger()
  wrapper.end()
  // v1 is the default and must not be encoded (X.690 §11.5).
  if (value !== 1 && value !== 2) throw new PkiError('certificate_malformed', `certificate version ${value + 1}`)
  return value === 1 ? 2 : 3
}

const readTbs = (body: DerReader): TbsFields => {
  const version = readVersion(body)
  const serial = body.readInteger()
  const signatureAlgorithmDer = body.readTlv(0x30).raw
  const issuerDer = body.readTlv(0x30).raw
  const validity = body.readSequence()
  const notBefore = validity.readTime()
  const notAfter = validity.readTime()
  validity.end()
  const subjectDer = body.readTlv(0x30).raw
  const spkiDer = body.readTlv(0x30).raw
  // Unique identifiers (RFC 5280 §4.1.2.8): not generated, but to be parsed.
  if (version > 1) for (const tag of [0x81, 0x82]) if (body.peekTag() === tag) body.readBitString(tag)
  let extensions: ext.Extension[] = []
  const wrapper = version === 3 ? body.readOptionalConstructed(0xa3) : undefined
  if (wrapper !== undefined) {
    extensions = ext.parseExtensions(wrapper)
    wrapper.end()
  }
  body.end()
  return {
    der: body.raw,
    version,
    serial,
    signatureAlgorithmDer,
    issuerDer,
    notBefore,
    notAfter,
    subjectDer,
    spkiDer,
    extensions,
  }
}

/** @throws PkiError der_malformed, certificate_malformed, extension_malformed, extension_duplicate, input_too_large */
export const parseTbsCertificate = (tbs: Uint8Array): TbsCertificate => {
  const input = new DerReader(tbs)
  const body = input.readSequence()
  input.end()
  return new TbsCertificate(readTbs(body))
}

export interface SignedCertificate {
  readonly tbs: Uint8Array
  readonly signatureAlgorithmDer: Uint8Array
  readonly signature: Uint8Array
}

/** The three parts, not looked into: for whoever knows what the first one must be, octet by octet. @throws PkiError der_malformed */
export const readSignedCertificate = (der: Uint8Array): SignedCertificate => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const tbs = body.readTlv(0x30).raw
  const signatureAlgorithmDer = body.readTlv(0x30).raw
  const signature = body.readOctetAlignedBitString()
  body.end()
  return { tbs, signatureAlgorithmDer, signature }
}

/** Keeps views into `der`: do not change it afterwards. @throws as parseTbsCertificate */
export const parseCertificate = (der: Uint8Array): Certificate => {
  if (der.length > maxCertificateBytes)
    throw new PkiError('input_too_large', `a certificate of at most ${maxCertificateBytes} bytes, got ${der.length}`)
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const fields = readTbs(body.readSequence())
  const outerAlgorithm = body.readTlv(0x30).raw
  const signature = body.readOctetAlignedBitString()
  body.end()
  // RFC 5280 §4.1.1.2: both must be the same, or the signed one does not bind.
  if (!equalBytes(outerAlgorithm, fields.signatureAlgorithmDer))
    throw new PkiError('certificate_malformed', 'signatureAlgorithm differs from the signed one')
  return new Certificate(fields, der, signature)
}

export interface CertificateDraft {
  /** Content of the INTEGER, as encodeSerial makes it. */
  readonly serial: Uint8Array
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly issuerDer: Uint8Array
  /** Milliseconds since the epoch, cut to the second. */
  readonly notBefore: number
  readonly notAfter: number
  readonly subjectDer: Uint8Array
  readonly spkiDer: Uint8Array
  /** In the order they are to have. */
  readonly extensions: readonly ext.Extension[]
}

/** TBSCertificate v3. @throws PkiError not_encodable */
export const encodeTbsCertificate = (draft: CertificateDraft): Uint8Array =>
  sequence(
    explicit(0, integer(2)),
    integer(draft.serial),
    signatureAlgorithms[draft.signatureAlgorithm].der,
    draft.issuerDer,
    sequence(time(draft.notBefore), time(draft.notAfter)),
    draft.subjectDer,
    draft.spkiDer,
    explicit(3, ext.encodeExtensions(draft.extensions)),
  )

/** Signature: DER for ECDSA. Works for every SIGNED{} of PKIX: CRLs and requests have the same frame. */
export const assembleCertificate = (
  tbs: Uint8Array,
  signatureAlgorithm: SignatureAlgorithm,
  signature: Uint8Array,
): Uint8Array => sequence(tbs, signatureAlgorithms[signatureAlgorithm].der, bitString(signature))
