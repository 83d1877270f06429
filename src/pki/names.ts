// X.501 names: encode, parse, compare (RFC 5280 §7.1), print (RFC 4514); and the common names agentca gives its principals.
// Names in certificates of others are read, never trusted to mean anything here.
import { equalBytes, toHex } from '../base/bytes.ts'
import {
  DerReader,
  decodeAscii,
  decodeUtf8,
  ia5String,
  oid,
  printableString,
  sequence,
  sequenceOf,
  set,
  utf8String,
} from './der.ts'
import { PkiError } from './errors.ts'
import { oidOf } from './oid.ts'

export interface NameAttribute {
  /** Dotted form. */
  readonly type: string
  /** Text of the value; `#` and hex of its DER where it is no string (RFC 4514 §2.4). */
  readonly value: string
}

export interface Name {
  readonly der: Uint8Array
  /** In the order of the encoding: most significant first. */
  readonly rdns: readonly (readonly NameAttribute[])[]
}

export const shortNames = {
  CN: oidOf.commonName,
  O: oidOf.organizationName,
  OU: oidOf.organizationalUnitName,
  C: oidOf.countryName,
  L: oidOf.localityName,
  ST: oidOf.stateOrProvinceName,
  STREET: oidOf.streetAddress,
  DC: oidOf.domainComponent,
  UID: oidOf.userId,
  serialNumber: oidOf.serialNumber,
} as const
export type ShortName = keyof typeof shortNames

const labels = new Map<string, string>(Object.entries(shortNames).map(([label, dotted]) => [dotted, label]))

const encodeValue = (type: string, value: string): Uint8Array => {
  // RFC 5280 appendix A: these three have a fixed type.
  if (type === oidOf.countryName || type === oidOf.serialNumber || type === oidOf.dnQualifier)
    return printableString(value)
  if (type === oidOf.domainComponent || type === oidOf.emailAddress) return ia5String(value)
  return utf8String(value)
}

/** One attribute per RDN, in the order given: `encodeName([['O', 'Example'], ['CN', 'root']])`. @throws PkiError not_encodable */
export const encodeName = (attributes: readonly (readonly [ShortName, string])[]): Uint8Array =>
  sequenceOf(
    attributes.map(([label, value]) => {
      if (value === '') throw new PkiError('not_encodable', `${label} is empty`)
      const type = shortNames[label]
      return set(sequence(oid(type), encodeValue(type, value)))
    }),
  )

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

const decodeValue = (value: {
  readonly tag: number
  readonly content: Uint8Array
  readonly raw: Uint8Array
}): string => {
  switch (value.tag) {
    case 0x0c:
      return decodeUtf8(value.content)
    case 0x13:
    case 0x16:
      return decodeAscii(value.content)
    case 0x14:
      // TeletexString: what everybody writes into it is Latin-1.
      return latin1(value.content)
    case 0x1e:
      if (value.content.length % 2 !== 0) throw new PkiError('name_malformed', 'BMPString of odd length')
      return Buffer.from(value.content).swap16().toString('utf16le')
    default:
      // RFC 4514 §2.4. What OpenSSL takes for a value beside these; SET, times and numbers it refuses, and so does this reader.
      if (![0x03, 0x12, 0x1c, 0x30].includes(value.tag))
        throw new PkiError('name_malformed', `no value of a name has tag 0x${value.tag.toString(16)}`)
      return `#${toHex(value.raw)}`
  }
}

/** @throws PkiError der_malformed, name_malformed */
export const parseName = (der: Uint8Array): Name => {
  const input = new DerReader(der)
  const body = input.readSequence()
  input.end()
  const rdns: NameAttribute[][] = []
  while (!body.atEnd) {
    const rdn = body.readSet()
    if (rdn.atEnd) throw new PkiError('name_malformed', 'relative distinguished name without attributes')
    const attributes: NameAttribute[] = []
    while (!rdn.atEnd) {
      const pair = rdn.readSequence()
      const type = pair.readOid()
      const value = pair.readTlv()
      pair.end()
      attributes.push({ type, value: decodeValue(value) })
    }
    rdns.push(attributes)
  }
  return { der, rdns }
}

/** The last common name, which is the most specific one; null when there is none. */
export const commonNameOf = (name: Name): string | null => {
  const all = name.rdns.flat().filter(attribute => attribute.type === oidOf.commonName)
  return all.at(-1)?.value ?? null
}

const normalized = (text: string): string => text.normalize('NFKC').toLowerCase().replace(/\s+/g, ' ').trim()

/** One text for each RDN; two are equal exactly when the RDNs are (RFC 5280 §7.1). Order is that of the encoding. */
export const comparableRdns = (name: Name): readonly string[] =>
  name.rdns.map(rdn => JSON.stringify(rdn.map(({ type, value }) => `${type}=${normalized(value)}`).sort()))

const comparable = (name: Name): string => comparableRdns(name).join()

/** A text that is equal for equal names, as `equalNames` has it, for comparing one name with many. */
export const comparableName = (der: Uint8Array): string => {
  try {
    return comparable(parseName(der))
  } catch {
    return `#${toHex(der)}`
  }
}

/**
 * RFC 5280 §7.1: equal bytes are equal names; else strings compare without regard to case, type of string and runs of white space.
 * Names whose bytes do not parse are equal only to the same bytes.
 */
export const equalNames = (a: Uint8Array, b: Uint8Array): boolean => {
  if (equalBytes(a, b)) return true
  try {
    return comparable(parseName(a)) === comparable(parseName(b))
  } catch {
    return false
  }
}

const escapeValue = (value: string): string =>
  value
    .replace(/[\\"+,;<>]/g, '\\$&')
    .replaceAll('\u0000', '\\00')
    .replace(/^[ #]/, '\\$&')
    .replace(/ $/, '\\ ')

/** RFC 4514: most specific first. */
export const nameToString = (name: Name): string =>
  name.rdns
    .toReversed()
    .map(rdn =>
      rdn
        .map(({ type, value }) => `${labels.get(type) ?? type}=${value.startsWith('#') ? value : escapeValue(value)}`)
        .join('+'),
    )
    .join(',')

export type PrincipalKind = 'agent' | 'service' | 'operator'

/** A fixed prefix per kind: PostgreSQL, Redis and Kafka map the CN to an account, and no agent may become `postgres`. */
const commonNamePrefixes: Readonly<Record<PrincipalKind, string>> = {
  agent: 'agent-',
  service: 'svc-',
  operator: 'op-',
}

/** ub-common-name, RFC 5280 appendix A.1. */
const maxCommonName = 64

export const maxNameLength = (kind: PrincipalKind): number => maxCommonName - commonNamePrefixes[kind].length

/** Grammar of registered names: `[a-z0-9-]`, no dash at either end, short enough for the CN. */
export const isRegisteredName = (kind: PrincipalKind, name: string): boolean =>
  name.length <= maxNameLength(kind) && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(name)

/** @throws PkiError agent_name_malformed */
export const checkRegisteredName = (kind: PrincipalKind, name: string): void => {
  if (!isRegisteredName(kind, name))
    throw new PkiError(
      'agent_name_malformed',
      `expected a name of 1 to ${maxNameLength(kind)} of a-z, 0-9 and dash, without a dash at either end`,
      { facts: { kind } },
    )
}

/** @throws PkiError agent_name_malformed */
export const commonNameFor = (kind: PrincipalKind, name: string): string => {
  checkRegisteredName(kind, name)
  return commonNamePrefixes[kind] + name
}
