// Certificate extensions (RFC 5280 §4.2, RFC 9608, RFC 6960): from values to extensions and back. The extensions of CRLs are in
// crl.ts, except the issuing distribution point, which shares its shapes with what is here.
import {
  boolean,
  type DerElement,
  DerReader,
  derElement,
  explicit,
  implicitConstructed,
  implicitPrimitive,
  integer,
  namedBitString,
  nullValue,
  octetString,
  oid,
  sequence,
  sequenceOf,
} from './der.ts'
import { PkiError } from './errors.ts'
import {
  encodeGeneralName,
  encodeGeneralNames,
  type GeneralName,
  parseGeneralName,
  parseGeneralNames,
  uriName,
} from './general-names.ts'
import { oidName, oidOf } from './oid.ts'

export interface Extension {
  readonly oid: string
  readonly critical: boolean
  /** Content of extnValue. */
  readonly value: Uint8Array
}

export const encodeExtension = ({ oid: dotted, critical, value }: Extension): Uint8Array =>
  critical ? sequence(oid(dotted), boolean(true), octetString(value)) : sequence(oid(dotted), octetString(value))

export const encodeExtensions = (extensions: readonly Extension[]): Uint8Array =>
  sequenceOf(extensions.map(encodeExtension))

/** Nothing has a quarter of it; looking for duplicates costs the square. */
const maxExtensions = 64

/**
 * Extensions ::= SEQUENCE SIZE (1..MAX); no identifier twice (RFC 5280 §4.2).
 * @throws PkiError der_malformed, extension_malformed, extension_duplicate (facts.extension)
 */
export const parseExtensions = (reader: DerReader): Extension[] => {
  const list = reader.readSequence()
  if (list.atEnd) throw new PkiError('extension_malformed', 'extensions without an extension')
  const extensions: Extension[] = []
  while (!list.atEnd) {
    const item = list.readSequence()
    const dotted = item.readOid()
    const critical = item.readDefaultFalse()
    const value = item.readOctetString()
    item.end()
    for (const other of extensions)
      if (other.oid === dotted)
        throw new PkiError('extension_duplicate', `extension twice: ${oidName(dotted)}`, {
          facts: { extension: oidName(dotted) },
        })
    if (extensions.length === maxExtensions)
      throw new PkiError('extension_malformed', `more than ${maxExtensions} extensions`)
    extensions.push({ oid: dotted, critical, value })
  }
  return extensions
}

export const findExtension = (extensions: readonly Extension[], dotted: string): Extension | undefined =>
  extensions.find(extension => extension.oid === dotted)

const sequenceIn = (value: Uint8Array): DerReader => {
  const input = new DerReader(value)
  const body = input.readSequence()
  input.end()
  return body
}

const extension = (dotted: string, critical: boolean, value: Uint8Array): Extension => ({
  oid: dotted,
  critical,
  value,
})

// §4.2.1.9
export interface BasicConstraints {
  readonly isCa: boolean
  readonly pathLength: number | null
}

/** Always critical: CAs must (RFC 5280 §4.2.1.9), leaves may. */
export const basicConstraints = ({ isCa, pathLength }: BasicConstraints): Extension =>
  extension(
    oidOf.basicConstraints,
    true,
    sequence(...(isCa ? [boolean(true)] : []), ...(pathLength === null ? [] : [integer(pathLength)])),
  )

export const parseBasicConstraints = (value: Uint8Array): BasicConstraints => {
  const body = sequenceIn(value)
  const isCa = body.readDefaultFalse()
  const pathLength = body.atEnd ? null : body.readSmallInteger()
  body.end()
  return { isCa, pathLength }
}

// §4.2.1.3, in the order of the bits.
export const keyUsageNames = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const
export type KeyUsage = (typeof keyUsageNames)[number]

export const keyUsage = (usages: readonly KeyUsage[]): Extension =>
  extension(oidOf.keyUsage, true, namedBitString(usages.map(usage => keyUsageNames.indexOf(usage))))

export const parseKeyUsage = (value: Uint8Array): KeyUsage[] => {
  const input = new DerReader(value)
  const bits = input.readNamedBits()
  input.end()
  return bits.map(bit => {
    const name = keyUsageNames[bit]
    if (name === undefined) throw new PkiError('extension_malformed', `key usage bit ${bit}`)
    return name
  })
}

/** §4.2.1.12. Dotted identifiers, see oidOf.clientAuth and its neighbours. */
export const extendedKeyUsage = (
  usages: readonly string[],
  critical: 'critical' | 'non-critical' = 'non-critical',
): Extension => extension(oidOf.extendedKeyUsage, critical === 'critical', sequenceOf(usages.map(oid)))

export const parseExtendedKeyUsage = (value: Uint8Array): string[] => {
  const body = sequenceIn(value)
  const usages: string[] = []
  while (!body.atEnd) usages.push(body.readOid())
  if (usages.length === 0) throw new PkiError('extension_malformed', 'extended key usage without a usage')
  return usages
}

/** §4.2.1.6. Critical exactly when the subject is empty. */
export const subjectAltName = (
  names: readonly GeneralName[],
  critical: 'critical' | 'non-critical' = 'non-critical',
): Extension => extension(oidOf.subjectAltName, critical === 'critical', encodeGeneralNames(names))

export const parseSubjectAltName = (value: Uint8Array): GeneralName[] => parseGeneralNames(sequenceIn(value))

/** §4.2.1.2 */
export const subjectKeyIdentifier = (id: Uint8Array): Extension =>
  extension(oidOf.subjectKeyIdentifier, false, octetString(id))

export const parseSubjectKeyIdentifier = (value: Uint8Array): Uint8Array => {
  const input = new DerReader(value)
  const id = input.readOctetString()
  input.end()
  return id
}

/** §4.2.1.1. Only the key identifier is written; issuer and serial of others are read over. */
export const authorityKeyIdentifier = (id: Uint8Array): Extension =>
  extension(oidOf.authorityKeyIdentifier, false, sequence(implicitPrimitive(0, id)))

export interface AuthorityKeyIdentifier {
  readonly keyId: Uint8Array | null
  readonly issuer: readonly GeneralName[] | null
  readonly serial: Uint8Array | null
}

export const parseAuthorityKeyIdentifier = (value: Uint8Array): AuthorityKeyIdentifier => {
  const body = sequenceIn(value)
  const keyId = body.readOptional(0x80)?.content ?? null
  const issuer = body.readOptionalConstructed(0xa1)
  const names = issuer === undefined ? null : parseGeneralNames(issuer)
  const serial = body.peekTag() === 0x82 ? body.readInteger(0x82) : null
  body.end()
  return { keyId, issuer: names, serial }
}

// §4.2.1.13
export interface DistributionPoint {
  /** Names of distributionPoint.fullName; null where it is absent or relative to the issuer. */
  readonly fullName: readonly GeneralName[] | null
  /** DER content of nameRelativeToCRLIssuer, for path validation. */
  readonly relativeName: Uint8Array | null
  /** Bits of ReasonFlags that are set; null for all reasons. */
  readonly reasons: readonly number[] | null
  readonly crlIssuer: readonly GeneralName[] | null
}

export const crlDistributionPoints = (uris: readonly string[]): Extension =>
  extension(
    oidOf.crlDistributionPoints,
    false,
    sequence(sequence(explicit(0, implicitConstructed(0, ...uris.map(uri => encodeGeneralName(uriName(uri))))))),
  )

/** DistributionPointName ::= CHOICE { fullName [0], nameRelativeToCRLIssuer [1] }, inside its explicit tag. */
const parseDistributionPointName = (choice: DerReader): Pick<DistributionPoint, 'fullName' | 'relativeName'> => {
  const relative = choice.readOptional(0xa1)
  const fullName = relative === undefined ? parseGeneralNames(choice.readConstructed(0xa0)) : null
  choice.end()
  return { fullName, relativeName: relative?.content ?? null }
}

/** Also the syntax of freshestCRL (§4.2.1.15). */
export const parseCrlDistributionPoints = (value: Uint8Array): DistributionPoint[] => {
  const body = sequenceIn(value)
  const points: DistributionPoint[] = []
  while (!body.atEnd) {
    const point = body.readSequence()
    const choice = point.readOptionalConstructed(0xa0)
    const name = choice === undefined ? { fullName: null, relativeName: null } : parseDistributionPointName(choice)
    const reasons = point.peekTag() === 0x81 ? point.readNamedBits(0x81) : null
    const issuer = point.readOptionalConstructed(0xa2)
    const crlIssuer = issuer === undefined ? null : parseGeneralNames(issuer)
    point.end()
    points.push({ ...name, reasons, crlIssuer })
  }
  if (points.length === 0) throw new PkiError('extension_malformed', 'distribution points without a point')
  return points
}

// §4.2.2.1
export interface AccessDescription {
  readonly method: string
  readonly location: GeneralName
}

export interface AuthorityInfoAccess {
  readonly ocsp: readonly string[]
  readonly caIssuers: readonly string[]
}

export const authorityInfoAccess = ({ ocsp, caIssuers }: AuthorityInfoAccess): Extension => {
  const access = (method: string) => (uri: string) => sequence(oid(method), encodeGeneralName(uriName(uri)))
  return extension(
    oidOf.authorityInfoAccess,
    false,
    sequenceOf([...ocsp.map(access(oidOf.ocspAccess)), ...caIssuers.map(access(oidOf.caIssuersAccess))]),
  )
}

/** URIs of the two methods we know; other methods and other kinds of names are read over. */
export const parseAuthorityInfoAccess = (value: Uint8Array): AuthorityInfoAccess => {
  const body = sequenceIn(value)
  const ocsp: string[] = []
  const caIssuers: string[] = []
  while (!body.atEnd) {
    const item = body.readSequence()
    const method = item.readOid()
    const location = parseGeneralName(item.readTlv())
    item.end()
    if (location.kind !== 'uri') continue
    if (method === oidOf.ocspAccess) ocsp.push(location.value)
    if (method === oidOf.caIssuersAccess) caIssuers.push(location.value)
  }
  return { ocsp, caIssuers }
}

// §4.2.1.10
export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

export const nameConstraints = ({ permitted, excluded }: NameConstraints): Extension => {
  const subtrees = (n: number, names: readonly GeneralName[]) =>
    names.length === 0 ? [] : [implicitConstructed(n, ...names.map(name => sequence(encodeGeneralName(name))))]
  return extension(oidOf.nameConstraints, true, sequence(...subtrees(0, permitted), ...subtrees(1, excluded)))
}

const parseSubtrees = (reader: DerReader | undefined): GeneralName[] => {
  if (reader === undefined) return []
  const names: GeneralName[] = []
  while (!reader.atEnd) {
    const subtree = reader.readSequence()
    names.push(parseGeneralName(subtree.readTlv()))
    // minimum must be 0 and maximum absent (RFC 5280 §4.2.1.10): both are absent in DER then.
    subtree.end()
  }
  if (names.length === 0) throw new PkiError('extension_malformed', 'subtrees without a subtree')
  return names
}

export const parseNameConstraints = (value: Uint8Array): NameConstraints => {
  const body = sequenceIn(value)
  const permitted = parseSubtrees(body.readOptionalConstructed(0xa0))
  const excluded = parseSubtrees(body.readOptionalConstructed(0xa1))
  body.end()
  return { permitted, excluded }
}

/** §4.2.1.4: policy identifiers and their qualifiers as they are. */
export interface PolicyInformation {
  readonly policy: string
  readonly qualifiersDer: Uint8Array | null
}

export const parseCertificatePolicies = (value: Uint8Array): PolicyInformation[] => {
  const body = sequenceIn(value)
  const policies: PolicyInformation[] = []
  const seen = new Set<string>()
  while (!body.atEnd) {
    const item = body.readSequence()
    const policy = item.readOid()
    const qualifiers: DerElement | undefined = item.readOptional(0x30)
    item.end()
    if (seen.has(policy)) throw new PkiError('extension_malformed', `policy twice: ${policy}`)
    seen.add(policy)
    policies.push({ policy, qualifiersDer: qualifiers?.raw ?? null })
  }
  if (policies.length === 0) throw new PkiError('extension_malformed', 'certificate policies without a policy')
  return policies
}

/** RFC 9608: this certificate has no revocation information, by design. */
export const noRevAvail = (): Extension => extension(oidOf.noRevAvail, false, nullValue())

/** RFC 6960 §4.2.2.2.1: do not ask for the status of this responder certificate. */
export const ocspNoCheck = (): Extension => extension(oidOf.ocspNoCheck, false, nullValue())

/** Version of the scopes that the registration had at issuance; see architecture, identities. */
export const scopesVersion = (version: number): Extension =>
  extension(oidOf.agentScopesVersion, false, integer(version))

export const parseScopesVersion = (value: Uint8Array): number => {
  const input = new DerReader(value)
  const version = input.readBigInteger()
  input.end()
  if (version < 0n || version > BigInt(Number.MAX_SAFE_INTEGER))
    throw new PkiError('extension_malformed', 'scopes version out of range')
  return Number(version)
}

// §5.2.5, a CRL extension: critical.
export interface IssuingDistributionPoint {
  readonly fullName: readonly GeneralName[] | null
  readonly relativeName: Uint8Array | null
  readonly onlyContainsUserCerts: boolean
  readonly onlyContainsCaCerts: boolean
  readonly onlySomeReasons: readonly number[] | null
  readonly indirectCrl: boolean
  readonly onlyContainsAttributeCerts: boolean
}

export const issuingDistributionPoint = (
  point: Partial<Omit<IssuingDistributionPoint, 'relativeName' | 'onlySomeReasons'>>,
): Extension => {
  const flag = (n: number, value: boolean | undefined) =>
    value === true ? [implicitPrimitive(n, Uint8Array.of(0xff))] : []
  const name = point.fullName == null ? [] : [explicit(0, encodeGeneralNames(point.fullName, 0xa0))]
  return extension(
    oidOf.issuingDistributionPoint,
    true,
    derElement(0x30, [
      ...name,
      ...flag(1, point.onlyContainsUserCerts),
      ...flag(2, point.onlyContainsCaCerts),
      ...flag(4, point.indirectCrl),
      ...flag(5, point.onlyContainsAttributeCerts),
    ]),
  )
}

export const parseIssuingDistributionPoint = (value: Uint8Array): IssuingDistributionPoint => {
  const body = sequenceIn(value)
  const choice = body.readOptionalConstructed(0xa0)
  const name = choice === undefined ? { fullName: null, relativeName: null } : parseDistributionPointName(choice)
  const onlyContainsUserCerts = body.readDefaultFalse(0x81)
  const onlyContainsCaCerts = body.readDefaultFalse(0x82)
  const onlySomeReasons = body.peekTag() === 0x83 ? body.readNamedBits(0x83) : null
  const indirectCrl = body.readDefaultFalse(0x84)
  const onlyContainsAttributeCerts = body.readDefaultFalse(0x85)
  body.end()
  return {
    ...name,
    onlyContainsUserCerts,
    onlyContainsCaCerts,
    onlySomeReasons,
    indirectCrl,
    onlyContainsAttributeCerts,
  }
}
