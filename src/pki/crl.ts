// Certificate revocation lists, RFC 5280 §5: from entries to the to-be-signed bytes and on to the list. One call for small lists;
// for large ones a writer that is fed in slices, so that the caller can give the event loop back in between.
// Reading is crl-reader.ts, re-exported here. Numbers, times and what belongs on a list are decided by the authority.
import { concatBytes } from '../base/bytes.ts'
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts'
import { type RevocationReason, revocationReasons } from './crl-reasons.ts'
import { bitString, derHeader, enumerated, explicit, integer, sequence, Tag, time } from './der.ts'
import { PkiError } from './errors.ts'
import { authorityKeyIdentifier, type Extension, encodeExtensions, issuingDistributionPoint } from './extensions.ts'
import { uriName } from './general-names.ts'
import { oidOf } from './oid.ts'

export { type Crl, type ParsedRevokedEntry, parseCrl, parseCrlInSlices, parseCrlNumberOf } from './crl-reader.ts'
export {
  isRevocationReason,
  type RevocationReason,
  revocationReasonOf,
  revocationReasons,
} from './crl-reasons.ts'

export interface RevokedEntry {
  /** Content of the serial's INTEGER, or its magnitude. */
  readonly serial: Uint8Array
  /** Milliseconds since the epoch; cut to the second. */
  readonly revokedAt: number
  readonly reason?: RevocationReason
}

export interface CrlFields {
  /** DER of the issuer's Name, byte for byte as in its certificate. */
  readonly issuerName: Uint8Array
  readonly signatureAlgorithm: SignatureAlgorithm
  /** The issuer's subject key identifier. */
  readonly authorityKeyId: Uint8Array
  /** 0 up to 2^159 - 1: at most 20 octets (§5.2.3). */
  readonly crlNumber: bigint
  readonly thisUpdate: number
  readonly nextUpdate: number
  /** For a shard: what it covers, as a critical issuing distribution point (§5.2.5). */
  readonly distributionPoint?: DistributionPointScope
}

/** What a shard covers. Without `onlyContains`: certificates of every kind. */
export interface DistributionPointScope {
  /** Where the list is published: the same text as in the certificates it covers. */
  readonly uris: readonly string[]
  readonly onlyContains?: 'user-certificates' | 'ca-certificates'
}

// §5.3.1: an unspecified reason is left out rather than written.
const reasonExtensions = new Map<RevocationReason, Uint8Array>(
  (Object.keys(revocationReasons) as RevocationReason[]).map(reason => [
    reason,
    reason === 'unspecified'
      ? new Uint8Array(0)
      : encodeExtensions([{ oid: oidOf.reasonCode, critical: false, value: enumerated(revocationReasons[reason]) }]),
  ]),
)

const reasonExtension = (reason: RevocationReason): Uint8Array => {
  const encoded = reasonExtensions.get(reason)
  if (encoded === undefined) throw new PkiError('not_encodable', `no revocation reason: ${reason}`)
  return encoded
}

/**
 * One element of revokedCertificates. The bytes never change for an entry, so a caller may keep them from list to list and hand
 * them to the writer's `addEncoded`.
 * @throws PkiError not_encodable
 */
export const encodeRevokedEntry = (entry: RevokedEntry): Uint8Array =>
  sequence(integer(entry.serial), time(entry.revokedAt), reasonExtension(entry.reason ?? 'unspecified'))

const significant = (serial: Uint8Array): Uint8Array => {
  let start = 0
  while (start < serial.length - 1 && serial[start] === 0) start++
  return start === 0 ? serial : serial.subarray(start)
}

/** Order of the entries of our lists: by number. For serials of one length this is the order of their bytes and of their hex. */
export const compareSerials = (a: Uint8Array, b: Uint8Array): number => {
  const left = significant(a)
  const right = significant(b)
  return left.length - right.length || Buffer.compare(left, right)
}

export interface TbsCertListWriter {
  /** The next entry; serials strictly ascending, so that one set of entries has one encoding. @throws PkiError not_encodable */
  add(entry: RevokedEntry): void
  /** The next entry in the form `encodeRevokedEntry` gave it. @throws PkiError not_encodable */
  addEncoded(serial: Uint8Array, encoded: Uint8Array): void
  readonly entries: number
  /** The to-be-signed bytes. Once; the writer is used up afterwards. */
  finish(): Uint8Array
  /** The same in steps of at most `sliceBytes` copied bytes: drive it with `next()` and pause in between. */
  finishInSlices(sliceBytes?: number): Generator<void, Uint8Array>
}

// Entries are gathered in blocks: a million small arrays would cost more memory than the list itself.
const blockBytes = 1 << 20

const createBlocks = () => {
  const blocks: Uint8Array[] = []
  let block = new Uint8Array(Math.min(blockBytes, 4096))
  let used = 0
  return {
    push(bytes: Uint8Array): void {
      if (used + bytes.length > block.length) {
        if (used > 0) blocks.push(block.subarray(0, used))
        block = new Uint8Array(Math.max(blockBytes, bytes.length))
        used = 0
      }
      block.set(bytes, used)
      used += bytes.length
    },
    take: (): Uint8Array[] => (used > 0 ? [...blocks, block.subarray(0, used)] : [...blocks]),
  }
}

/**
 * @example
 * const writer = createTbsCertListWriter(fields)
 * for (const slice of slices) { for (const entry of slice) writer.add(entry); await pause() }
 * const tbs = writer.finish()
 * @throws PkiError not_encodable
 */
export const createTbsCertListWriter = (fields: CrlFields): TbsCertListWriter => {
  const head = encodeHead(fields)
  const tail = explicit(0, encodeCrlExtensions(fields))
  const blocks = createBlocks()
  let previous: Uint8Array | undefined
  let entries = 0
  let finished = false

  const addEncoded = (serial: Uint8Array, encoded: Uint8Array): void => {
    if (finished) throw new PkiError('not_encodable', 'the list is finished')
    if (previous !== undefined && compareSerials(previous, serial) >= 0)
      throw new PkiError('not_encodable', 'expected serials in strictly ascending order')
    blocks.push(encoded)
    previous = serial
    entries++
  }
  const parts = (): Uint8Array[] => {
    if (finished) throw new PkiError('not_encodable', 'the list is finished')
    finished = true
    const list = blocks.take()
    // §5.1.2.6: without revoked certificates the list is absent, not empty.
    if (entries > 0) list.unshift(derHeader(Tag.sequence, byteLength(list)))
    const body = [head, ...list, tail]
    return [derHeader(Tag.sequence, byteLength(body)), ...body]
  }
  return {
    add: entry => addEncoded(entry.serial, encodeRevokedEntry(entry)),
    addEncoded,
    get entries() {
      return entries
    },
    finish: () => concatBytes(parts()),
    finishInSlices: sliceBytes => concatInSlices(parts(), sliceBytes),
  }
}

/** A whole list at once; entries in any order. @throws PkiError not_encodable (also for a serial that occurs twice) */
export const encodeTbsCertList = (fields: CrlFields & { readonly entries: readonly RevokedEntry[] }): Uint8Array => {
  const writer = createTbsCertListWriter(fields)
  for (const entry of fields.entries.toSorted((a, b) => compareSerials(a.serial, b.serial))) writer.add(entry)
  return writer.finish()
}

/** `signature` is the content of the BIT STRING: ECDSA-Sig-Value for ECDSA. */
export const assembleCrl = (tbs: Uint8Array, algorithm: SignatureAlgorithm, signature: Uint8Array): Uint8Array =>
  concatBytes(assembleCrlParts(tbs, algorithm, signature))

/** What stands around the entries of a to-be-signed list. */
export interface CrlFrame {
  /** From the header of the whole to that of the entries. */
  readonly before: Uint8Array
  readonly after: Uint8Array
}

/**
 * For entries that are written in place, as `encodeRevokedEntry` gives them and by ascending serials: the to-be-signed bytes are
 * `before`, entries, `after`.
 * @param entriesLength octets of all entries together
 * @throws PkiError not_encodable
 */
export const encodeCrlFrame = (fields: CrlFields, entriesLength: number): CrlFrame => {
  const head = encodeHead(fields)
  const after = explicit(0, encodeCrlExtensions(fields))
  const list = entriesLength === 0 ? new Uint8Array(0) : derHeader(Tag.sequence, entriesLength)
  const total = head.length + list.length + entriesLength + after.length
  return { before: concatBytes([derHeader(Tag.sequence, total), head, list]), after }
}

/** crlEntryExtensions with the reason alone; empty for `unspecified`. @throws PkiError not_encodable */
export const encodeReason = (reason: RevocationReason): Uint8Array => reasonExtension(reason).slice()

/** The list as the pieces that lie one after the other, for lists too large to copy again in one go. */
export const assembleCrlParts = (
  tbs: Uint8Array,
  algorithm: SignatureAlgorithm,
  signature: Uint8Array,
): readonly Uint8Array[] => {
  const body = [tbs, encodeSignatureAlgorithm(algorithm), bitString(signature)]
  return [derHeader(Tag.sequence, byteLength(body)), ...body]
}

/** `concatBytes` with a pause after every `sliceBytes` copied bytes. */
export function* concatInSlices(
  parts: readonly Uint8Array[],
  sliceBytes: number = blockBytes,
): Generator<void, Uint8Array> {
  const out = new Uint8Array(byteLength(parts))
  let at = 0
  let sinceYield = 0
  for (const part of parts)
    for (let from = 0; from < part.length; ) {
      const piece = part.subarray(from, from + sliceBytes - sinceYield)
      out.set(piece, at)
      from += piece.length
      at += piece.length
      sinceYield += piece.length
      if (sinceYield >= sliceBytes) {
        sinceYield = 0
        yield
      }
    }
  return out
}

const byteLength = (parts: readonly Uint8Array[]): number => parts.reduce((sum, part) => sum + part.length, 0)

const maxCrlNumber = 2n ** 159n

/** version, signature, issuer, thisUpdate, nextUpdate: everything before the entries. */
const encodeHead = (fields: CrlFields): Uint8Array => {
  if (Math.floor(fields.nextUpdate / 1000) <= Math.floor(fields.thisUpdate / 1000))
    throw new PkiError('not_encodable', 'expected nextUpdate after thisUpdate')
  return concatBytes([
    integer(1),
    encodeSignatureAlgorithm(fields.signatureAlgorithm),
    fields.issuerName,
    time(fields.thisUpdate),
    time(fields.nextUpdate),
  ])
}

const encodeCrlExtensions = (fields: CrlFields): Uint8Array => {
  if (fields.crlNumber < 0n || fields.crlNumber >= maxCrlNumber)
    throw new PkiError('not_encodable', 'expected a CRL number of at most 20 octets (RFC 5280 §5.2.3)')
  if (fields.authorityKeyId.length === 0) throw new PkiError('not_encodable', 'expected an authority key identifier')
  const extensions: Extension[] = [
    authorityKeyIdentifier(fields.authorityKeyId),
    { oid: oidOf.crlNumber, critical: false, value: integer(fields.crlNumber) },
  ]
  if (fields.distributionPoint !== undefined) {
    const { uris, onlyContains } = fields.distributionPoint
    if (uris.length === 0 || uris.includes('')) throw new PkiError('not_encodable', 'a distribution point needs a URI')
    extensions.push(
      issuingDistributionPoint({
        fullName: uris.map(uriName),
        onlyContainsUserCerts: onlyContains === 'user-certificates',
        onlyContainsCaCerts: onlyContains === 'ca-certificates',
      }),
    )
  }
  return encodeExtensions(extensions)
}
