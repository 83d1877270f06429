// Reads certificate revocation lists (RFC 5280 §5) of anybody, strictly: the header as values, the entries where they lie, found by
// serial through an index of four bytes each. Extensions that the verifier has to judge (delta, indirect, unknown critical
// ones) are shown, not judged; signatures are checked by the caller.
import { equalBytes } from '../base/bytes.ts'
import { parseSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts'
import { type RevocationReason, revocationReasonOf } from './crl-reasons.ts'
import { contextConstructed, DerReader, Tag } from './der.ts'
import { PkiError } from './errors.ts'
import {
  type AuthorityKeyIdentifier,
  type Extension,
  findExtension,
  type IssuingDistributionPoint,
  parseAuthorityKeyIdentifier,
  parseExtensions,
  parseIssuingDistributionPoint,
} from './extensions.ts'
import { parseGeneralNames } from './general-names.ts'
import { comparableName, equalNames, parseName } from './names.ts'
import { oidName, oidOf } from './oid.ts'

export interface ParsedRevokedEntry {
  /** Content of the INTEGER. */
  readonly serial: Uint8Array
  readonly revokedAt: number
  /** `unspecified` when the list gives none (§5.3.1). */
  readonly reason: RevocationReason
  /** When the key is believed to have been lost (§5.3.2); null when the list does not say. */
  readonly invalidityDate: number | null
  /** DER of the certificate issuer's Name, which in an indirect list may be another than the list's issuer (§5.3.3). */
  readonly certificateIssuer: Uint8Array
}

export interface Crl {
  readonly der: Uint8Array
  readonly tbs: Uint8Array
  readonly version: 1 | 2
  readonly signatureAlgorithm: SignatureAlgorithm
  readonly signature: Uint8Array
  /** DER of the issuer's Name. */
  readonly issuerName: Uint8Array
  /** The same in the form of `comparableName`. */
  readonly comparableIssuer: string
  readonly thisUpdate: number
  /** null when absent, which RFC 5280 §5.1.2.5 forbids but old lists do. */
  readonly nextUpdate: number | null
  readonly crlNumber: bigint | null
  /** The base's number: this is a delta CRL (§5.2.4). */
  readonly deltaCrlIndicator: bigint | null
  readonly authorityKeyId: AuthorityKeyIdentifier | null
  readonly distributionPoint: IssuingDistributionPoint | null
  readonly extensions: readonly Extension[]
  /** Critical extensions of the list or of any entry that this reader does not know: the list must not be relied upon (§5.2, §5.3). */
  readonly unknownCritical: readonly string[]
  readonly size: number
  entries(): IterableIterator<ParsedRevokedEntry>
  /**
   * The entry for a serial (content of the INTEGER). `certificateIssuer` is the DER of the name that issued the certificate; without
   * it, the list's own issuer.
   */
  findRevoked(serial: Uint8Array, certificateIssuer?: Uint8Array): ParsedRevokedEntry | undefined
}

const malformed = (message: string): PkiError => new PkiError('crl_malformed', message)

/** Larger than any list's extensions; looking for duplicates costs the square of their number. */
const maxCrlExtensionsBytes = 16_384
const maxEntryExtensionsBytes = 4_096

/**
 * Keeps views into `der`: do not change it afterwards.
 * @throws PkiError crl_malformed, der_malformed, name_malformed, extension_malformed, extension_duplicate, algorithm_malformed,
 * algorithm_not_allowed
 */
export const parseCrl = (der: Uint8Array): Crl => {
  const steps = parseCrlInSlices(der, Number.POSITIVE_INFINITY)
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** The same with a pause after every `entriesPerSlice` entries. @throws as parseCrl */
export function* parseCrlInSlices(der: Uint8Array, entriesPerSlice: number = 4_000): Generator<void, Crl> {
  const input = new DerReader(der)
  const list = input.readSequence()
  input.end()
  const tbs = list.readSequence()
  const outerAlgorithm = list.readTlv(Tag.sequence).raw
  const signature = list.readOctetAlignedBitString()
  list.end()

  const head = readHead(tbs)
  // §5.1.1.2: the same algorithm inside and outside, or the outside could be exchanged.
  if (!equalBytes(outerAlgorithm, head.algorithmDer)) throw malformed('the two signature algorithms differ')
  const revoked = tbs.readOptionalConstructed(Tag.sequence)
  const index = createEntryIndex(der, head.issuerName)
  if (revoked !== undefined) {
    if (revoked.atEnd) throw malformed('an empty list of entries must be absent (RFC 5280 §5.1.2.6)')
    for (let count = 1; !revoked.atEnd; count++) {
      index.add(revoked, head.version)
      if (count % entriesPerSlice === 0) yield
    }
  }
  const extensions = readListExtensions(tbs, head.version)
  tbs.end()
  return {
    der,
    tbs: tbs.raw,
    version: head.version,
    signatureAlgorithm: parseSignatureAlgorithm(outerAlgorithm),
    signature,
    issuerName: head.issuerName,
    comparableIssuer: comparableName(head.issuerName),
    thisUpdate: head.thisUpdate,
    nextUpdate: head.nextUpdate,
    ...parseListExtensions(extensions),
    extensions,
    unknownCritical: [...unknownCriticalOf(extensions, knownListExtensions), ...index.unknownCritical],
    get size() {
      return index.size
    },
    entries: () => index.entries(),
    findRevoked: (serial, certificateIssuer) => index.find(serial, certificateIssuer ?? head.issuerName),
  }
}

/**
 * Whose list, and which, without a look at its entries: what a list says of itself, which nobody has checked yet.
 * @throws PkiError as parseCrl, but for what is wrong with an entry
 */
export const parseCrlNumberOf = (der: Uint8Array): Pick<Crl, 'issuerName' | 'crlNumber'> => {
  const tbs = new DerReader(der).readSequence().readSequence()
  const { issuerName, version } = readHead(tbs)
  tbs.readOptionalConstructed(Tag.sequence)
  return { issuerName, crlNumber: parseListExtensions(readListExtensions(tbs, version)).crlNumber }
}

interface CrlHead {
  readonly version: 1 | 2
  readonly algorithmDer: Uint8Array
  readonly issuerName: Uint8Array
  readonly thisUpdate: number
  readonly nextUpdate: number | null
}

const readHead = (tbs: DerReader): CrlHead => {
  let version: 1 | 2 = 1
  if (tbs.peekTag() === Tag.integer) {
    if (tbs.readSmallInteger() !== 1) throw malformed('expected version 2')
    version = 2
  }
  const algorithmDer = tbs.readTlv(Tag.sequence).raw
  const issuerName = tbs.readTlv(Tag.sequence).raw
  // §5.1.2.3: the issuer must not be empty.
  if (parseName(issuerName).rdns.length === 0) throw malformed('empty issuer name')
  const thisUpdate = tbs.readTime()
  const next = tbs.peekTag()
  const nextUpdate = next === Tag.utcTime || next === Tag.generalizedTime ? tbs.readTime() : null
  return { version, algorithmDer, issuerName, thisUpdate, nextUpdate }
}

const readListExtensions = (tbs: DerReader, version: 1 | 2): readonly Extension[] => {
  const wrapper = tbs.readOptionalConstructed(contextConstructed(0))
  if (wrapper === undefined) return []
  if (version === 1) throw malformed('extensions in a list of version 1')
  if (wrapper.content.length > maxCrlExtensionsBytes) throw malformed('extensions too large')
  const extensions = parseExtensions(wrapper)
  wrapper.end()
  return extensions
}

const knownListExtensions: ReadonlySet<string> = new Set([
  oidOf.authorityKeyIdentifier,
  oidOf.crlNumber,
  oidOf.deltaCrlIndicator,
  oidOf.issuingDistributionPoint,
])
const knownEntryExtensions: ReadonlySet<string> = new Set([
  oidOf.reasonCode,
  oidOf.invalidityDate,
  oidOf.certificateIssuer,
])

const unknownCriticalOf = (extensions: readonly Extension[], known: ReadonlySet<string>): string[] =>
  extensions.filter(extension => extension.critical && !known.has(extension.oid)).map(extension => extension.oid)

const extensionValue = <T>(
  extensions: readonly Extension[],
  dotted: string,
  read: (value: Uint8Array) => T,
): T | null => {
  const found = findExtension(extensions, dotted)
  return found === undefined ? null : read(found.value)
}

const parseListExtensions = (extensions: readonly Extension[]) => ({
  crlNumber: extensionValue(extensions, oidOf.crlNumber, parseCrlNumber),
  deltaCrlIndicator: extensionValue(extensions, oidOf.deltaCrlIndicator, parseCrlNumber),
  authorityKeyId: extensionValue(extensions, oidOf.authorityKeyIdentifier, parseAuthorityKeyIdentifier),
  distributionPoint: extensionValue(extensions, oidOf.issuingDistributionPoint, parseIssuingDistributionPoint),
})

/** §5.2.3: not negative, at most 20 octets. */
const parseCrlNumber = (value: Uint8Array): bigint => {
  const input = new DerReader(value)
  if (value.length > 22) throw malformed('CRL number of more than 20 octets')
  const number = input.readBigInteger()
  input.end()
  if (number < 0n) throw malformed('negative CRL number')
  return number
}

const parseReason = (value: Uint8Array): RevocationReason => {
  const input = new DerReader(value)
  const number = input.readEnumerated()
  input.end()
  const reason = revocationReasonOf(number)
  if (reason === undefined) throw malformed(`unknown revocation reason ${number}`)
  return reason
}

const parseInvalidityDate = (value: Uint8Array): number => {
  const input = new DerReader(value)
  const at = input.readGeneralizedTime()
  input.end()
  return at
}

const parseCertificateIssuer = (value: Uint8Array): Uint8Array => {
  const input = new DerReader(value)
  const names = parseGeneralNames(input.readSequence())
  input.end()
  for (const name of names)
    if (name.kind === 'directory') {
      parseName(name.nameDer)
      return name.nameDer
    }
  throw malformed(`${oidName(oidOf.certificateIssuer)} without a directory name`)
}

interface RawEntry {
  readonly serial: Uint8Array
  readonly revokedAt: number
  readonly extensions: readonly Extension[]
}

const readEntry = (entry: DerReader): RawEntry => {
  const serial = entry.readInteger()
  const revokedAt = entry.readTime()
  if (entry.atEnd) return { serial, revokedAt, extensions: [] }
  if (entry.content.length > maxEntryExtensionsBytes) throw malformed('entry extensions too large')
  const extensions = parseExtensions(entry)
  entry.end()
  return { serial, revokedAt, extensions }
}

/** Order for searching; that of RFC numbers for non-negative ones, and some total order for the rest. */
const compareContents = (a: Uint8Array, b: Uint8Array): number => a.length - b.length || Buffer.compare(a, b)

/**
 * Where the entries begin, checked one by one while they are added. Offsets, not objects: a million entries cost 4 MB.
 * Our own lists and most others come sorted and are searched as they are; others get a permutation at the first search.
 */
const createEntryIndex = (der: Uint8Array, listIssuer: Uint8Array) => {
  let offsets = new Uint32Array(64)
  let size = 0
  let sorted = true
  let previous: Uint8Array | undefined
  const unknownCritical = new Set<string>()
  // Names that certificateIssuer extensions put in force from an entry on (§5.3.3), by position.
  const issuers: { readonly from: number; readonly name: Uint8Array }[] = [{ from: 0, name: listIssuer }]
  let order: Uint32Array | undefined

  const rawEntryAt = (position: number): RawEntry =>
    readEntry(new DerReader(der.subarray(offsets[position]!)).readSequence())
  const serialAt = (position: number): Uint8Array =>
    new DerReader(der.subarray(offsets[position]!)).readSequence().readInteger()
  const issuerAt = (position: number): Uint8Array => {
    let low = 0
    let high = issuers.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (issuers[middle]!.from <= position) low = middle
      else high = middle - 1
    }
    return issuers[low]!.name
  }
  const entryAt = (position: number): ParsedRevokedEntry => {
    const { serial, revokedAt, extensions } = rawEntryAt(position)
    return {
      serial,
      revokedAt,
      reason: extensionValue(extensions, oidOf.reasonCode, parseReason) ?? 'unspecified',
      invalidityDate: extensionValue(extensions, oidOf.invalidityDate, parseInvalidityDate),
      certificateIssuer: issuerAt(position),
    }
  }
  /** Position of the entry that is the n-th in order. */
  const nth = (n: number): number => {
    if (sorted) return n
    order ??= offsets
      .slice(0, size)
      .map((_, position) => position)
      .sort((a, b) => compareContents(serialAt(a), serialAt(b)) || a - b)
    return order[n]!
  }

  return {
    unknownCritical,
    get size() {
      return size
    },
    add(list: DerReader, version: 1 | 2): void {
      const body = list.readSequence()
      const entry = readEntry(body)
      if (entry.extensions.length > 0) {
        if (version === 1) throw malformed('entry extensions in a list of version 1')
        checkEntryExtensions(entry.extensions)
        const issuer = extensionValue(entry.extensions, oidOf.certificateIssuer, parseCertificateIssuer)
        if (issuer !== null) issuers.push({ from: size, name: issuer })
        for (const dotted of unknownCriticalOf(entry.extensions, knownEntryExtensions)) unknownCritical.add(dotted)
      }
      if (size === offsets.length) {
        const larger = new Uint32Array(size * 2)
        larger.set(offsets)
        offsets = larger
      }
      offsets[size++] = body.raw.byteOffset - der.byteOffset
      if (previous !== undefined && compareContents(previous, entry.serial) > 0) sorted = false
      previous = entry.serial
    },
    *entries(): IterableIterator<ParsedRevokedEntry> {
      for (let position = 0; position < size; position++) yield entryAt(position)
    },
    find(serial: Uint8Array, issuer: Uint8Array): ParsedRevokedEntry | undefined {
      let low = 0
      let high = size
      while (low < high) {
        const middle = (low + high) >> 1
        if (compareContents(serialAt(nth(middle)), serial) < 0) low = middle + 1
        else high = middle
      }
      // Several entries may share a serial in an indirect list, or in a careless one; the last word counts.
      let found: ParsedRevokedEntry | undefined
      for (; low < size && equalBytes(serialAt(nth(low)), serial); low++)
        if (equalNames(issuerAt(nth(low)), issuer)) found = entryAt(nth(low))
      return found
    },
  }
}

/** Reasons and dates are read when asked for; that they can be read is checked here, so that asking never throws. */
const checkEntryExtensions = (extensions: readonly Extension[]): void => {
  extensionValue(extensions, oidOf.reasonCode, parseReason)
  extensionValue(extensions, oidOf.invalidityDate, parseInvalidityDate)
}
