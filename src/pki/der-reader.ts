// Strict DER reader (X.690 §10, §11) over one buffer: offsets instead of copies, so that a certificate costs microseconds.
// Everything that is not the one canonical encoding is `der_malformed`; what the values mean is left to the callers.
import { PkiError } from './errors.ts'

/** Deeper than anything PKIX defines; a bound on recursion for hostile input. */
export const maxDerDepth = 24

const malformed = (message: string): PkiError => new PkiError('der_malformed', message)

const hexTag = (tag: number): string => `0x${tag.toString(16).padStart(2, '0')}`

const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** One element: identifier octet, full encoding, content. Views are made only when asked for; they share the input's memory. */
export class DerElement {
  readonly tag: number
  readonly #bytes: Uint8Array
  readonly #start: number
  readonly #contentStart: number
  readonly #end: number
  readonly #depth: number

  // Positions, not a record: this constructor runs some forty times per certificate.
  constructor(bytes: Uint8Array, position: { start: number; contentStart: number; end: number; depth: number }) {
    this.tag = bytes[position.start]!
    this.#bytes = bytes
    this.#start = position.start
    this.#contentStart = position.contentStart
    this.#end = position.end
    this.#depth = position.depth
  }

  /** Identifier, length and content. */
  get raw(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end)
  }

  get content(): Uint8Array {
    return this.#bytes.subarray(this.#contentStart, this.#end)
  }

  get length(): number {
    return this.#end - this.#contentStart
  }

  /** Content as an object identifier, whatever the tag says: for IMPLICIT ones. */
  asOid(): string {
    return dottedOid(this.#bytes, this.#contentStart, this.#end)
  }

  /** A reader over the content of a constructed element. */
  reader(): DerReader {
    if ((this.tag & 0x20) === 0) throw malformed(`tag ${hexTag(this.tag)} is primitive`)
    return new DerReader(this.#bytes, {
      at: this.#contentStart,
      end: this.#end,
      depth: this.#depth + 1,
      start: this.#start,
    })
  }
}

interface Range {
  readonly at: number
  readonly end: number
  readonly depth: number
  /** Where the element that encloses the range begins, for `raw`. */
  readonly start: number
}

/**
 * Reads elements one after the other. `new DerReader(bytes)` reads a whole input; end with `end()`, which refuses trailing bytes.
 * @throws PkiError der_malformed from every method
 */
export class DerReader {
  readonly #bytes: Uint8Array
  #at: number
  readonly #contentStart: number
  readonly #end: number
  readonly #depth: number
  readonly #start: number

  constructor(bytes: Uint8Array, range?: Range) {
    this.#bytes = bytes
    this.#at = range?.at ?? 0
    this.#contentStart = this.#at
    this.#end = range?.end ?? bytes.length
    this.#depth = range?.depth ?? 0
    this.#start = range?.start ?? this.#at
    if (this.#depth > maxDerDepth) throw malformed(`nested deeper than ${maxDerDepth}`)
  }

  /** The full encoding of the element this reader is inside of (the whole input at the top). */
  get raw(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#end)
  }

  /** The content this reader goes through, from its beginning. */
  get content(): Uint8Array {
    return this.#bytes.subarray(this.#contentStart, this.#end)
  }

  get atEnd(): boolean {
    return this.#at >= this.#end
  }

  /** Identifier octet of the next element, or -1 at the end. */
  peekTag(): number {
    return this.#at < this.#end ? this.#bytes[this.#at]! : -1
  }

  /** Refuses trailing bytes. */
  end(): void {
    if (this.#at !== this.#end) throw malformed(`${this.#end - this.#at} trailing bytes`)
  }

  /** Moves past the next element and returns where its content begins. Lengths: definite and minimal (X.690 §10.1). */
  #advance(tag: number | undefined): number {
    const bytes = this.#bytes
    const start = this.#at
    if (start >= this.#end)
      throw malformed(
        tag === undefined ? 'expected an element, got the end' : `expected tag ${hexTag(tag)}, got the end`,
      )
    const found = bytes[start]!
    if (tag !== undefined && found !== tag) throw malformed(`expected tag ${hexTag(tag)}, got ${hexTag(found)}`)
    if ((found & 0x1f) === 0x1f) throw malformed('high tag numbers are not used here')
    if (found === 0) throw malformed('tag 0x00 is reserved')
    if (start + 1 >= this.#end) throw malformed('truncated: no length')
    let length = bytes[start + 1]!
    let contentStart = start + 2
    if (length >= 0x80) {
      const octets = length & 0x7f
      if (octets === 0) throw malformed('indefinite length')
      if (octets > 4) throw malformed('length of more than four octets')
      if (contentStart + octets > this.#end) throw malformed('truncated: length cut off')
      length = 0
      for (let i = 0; i < octets; i++) length = length * 256 + bytes[contentStart + i]!
      if (length < 0x80 || (octets > 1 && length < 2 ** (8 * (octets - 1)))) throw malformed('non-minimal length')
      contentStart += octets
    }
    if (length > this.#end - contentStart)
      throw malformed(`truncated: ${length} bytes announced, ${this.#end - contentStart} left`)
    this.#at = contentStart + length
    return contentStart
  }

  /** The next element, of any tag or of the one given. */
  readTlv(tag?: number): DerElement {
    const start = this.#at
    const contentStart = this.#advance(tag)
    return new DerElement(this.#bytes, { start, contentStart, end: this.#at, depth: this.#depth })
  }

  /** The next element when it has that tag, else undefined and nothing is consumed. */
  readOptional(tag: number): DerElement | undefined {
    return this.peekTag() === tag ? this.readTlv(tag) : undefined
  }

  /** A reader over the content of the next, constructed element. */
  readConstructed(tag: number): DerReader {
    const start = this.#at
    const at = this.#advance(tag)
    return new DerReader(this.#bytes, { at, end: this.#at, depth: this.#depth + 1, start })
  }

  readOptionalConstructed(tag: number): DerReader | undefined {
    return this.peekTag() === tag ? this.readConstructed(tag) : undefined
  }

  readSequence(): DerReader {
    return this.readConstructed(0x30)
  }

  /** SET OF: order of the elements checked (X.690 §11.6). */
  readSet(tag = 0x31): DerReader {
    const set = this.readConstructed(tag)
    const order = new DerReader(set.#bytes, { at: set.#at, end: set.#end, depth: set.#depth, start: set.#start })
    let previous: Uint8Array | undefined
    while (!order.atEnd) {
      const { raw } = order.readTlv()
      if (previous !== undefined && Buffer.compare(previous, raw) > 0) throw malformed('SET OF out of order')
      previous = raw
    }
    return set
  }

  /** Content of an INTEGER, two's complement, checked to be minimal (X.690 §8.3.2). */
  readInteger(tag = 0x02): Uint8Array {
    const from = this.#advance(tag)
    const length = this.#at - from
    if (length === 0) throw malformed('integer without content')
    if (length > 1) {
      const first = this.#bytes[from]!
      const signBit = this.#bytes[from + 1]! & 0x80
      if ((first === 0 && signBit === 0) || (first === 0xff && signBit !== 0)) throw malformed('non-minimal integer')
    }
    return this.#bytes.subarray(from, this.#at)
  }

  /** Magnitude of an INTEGER that must not be negative, without a leading zero octet (zero itself is one 00 octet). */
  readUnsignedInteger(): Uint8Array {
    const content = this.readInteger()
    if (content[0]! >= 0x80) throw malformed('negative integer')
    return content.length > 1 && content[0] === 0 ? content.subarray(1) : content
  }

  readBigInteger(): bigint {
    const content = this.readInteger()
    let value = content[0]! >= 0x80 ? -1n : 0n
    for (const byte of content) value = (value << 8n) | BigInt(byte)
    return value
  }

  /** A small non-negative INTEGER (versions, path lengths), below 2^31. */
  readSmallInteger(tag = 0x02): number {
    const content = this.readInteger(tag)
    if (content[0]! >= 0x80 || content.length > 4) throw malformed('integer out of range')
    let value = 0
    for (const byte of content) value = value * 256 + byte
    return value
  }

  readEnumerated(): number {
    return this.readSmallInteger(0x0a)
  }

  /** Dotted form. Arcs of any size are accepted within 64 content octets. */
  readOid(tag = 0x06): string {
    const from = this.#advance(tag)
    return dottedOid(this.#bytes, from, this.#at)
  }

  readBoolean(tag = 0x01): boolean {
    const from = this.#advance(tag)
    const value = this.#bytes[from]
    if (this.#at - from !== 1 || (value !== 0 && value !== 0xff)) throw malformed('BOOLEAN must be one octet 00 or FF')
    return value === 0xff
  }

  /** BOOLEAN DEFAULT FALSE: absent is false; an encoded FALSE is not DER (X.690 §11.5). */
  readDefaultFalse(tag = 0x01): boolean {
    if (this.peekTag() !== tag) return false
    if (!this.readBoolean(tag)) throw malformed('a default value must not be encoded')
    return true
  }

  readNull(): void {
    if (this.readTlv(0x05).length !== 0) throw malformed('NULL with content')
  }

  readOctetString(tag = 0x04): Uint8Array {
    const from = this.#advance(tag)
    return this.#bytes.subarray(from, this.#at)
  }

  /** Bits and the number of unused ones, whose value is checked to be zero (X.690 §11.2.1). */
  readBitString(tag = 0x03): { readonly bytes: Uint8Array; readonly unusedBits: number } {
    const from = this.#advance(tag)
    const length = this.#at - from
    const unusedBits = this.#bytes[from] ?? 0
    if (length === 0 || unusedBits > 7 || (length === 1 && unusedBits > 0))
      throw malformed('bit string without content')
    if (unusedBits > 0 && (this.#bytes[this.#at - 1]! & ((1 << unusedBits) - 1)) !== 0)
      throw malformed('bit string padding is not zero')
    return { bytes: this.#bytes.subarray(from + 1, this.#at), unusedBits }
  }

  /** BIT STRING of whole octets: keys and signatures. */
  readOctetAlignedBitString(): Uint8Array {
    const { bytes, unusedBits } = this.readBitString()
    if (unusedBits !== 0) throw malformed('expected a bit string of whole octets')
    return bytes
  }

  /** Numbers of the set bits of a named bit list: no trailing zero bits (X.690 §11.2.2). */
  readNamedBits(tag = 0x03): number[] {
    const { bytes, unusedBits } = this.readBitString(tag)
    const count = bytes.length * 8 - unusedBits
    const bits: number[] = []
    for (let i = 0; i < count; i++) if ((bytes[i >> 3]! & (0x80 >> (i & 7))) !== 0) bits.push(i)
    if (count > 0 && bits.at(-1) !== count - 1) throw malformed('named bit list with trailing zero bits')
    return bits
  }

  readUtf8String(tag = 0x0c): string {
    return decodeUtf8(this.readOctetString(tag))
  }

  /** ASCII text: IA5String and its implicit forms. */
  readIa5String(tag = 0x16): string {
    return decodeAscii(this.readOctetString(tag))
  }

  /** Milliseconds since the epoch from UTCTime or GeneralizedTime, both `...SSZ` without fractions (RFC 5280 §4.1.2.5). */
  readTime(): number {
    const tag = this.peekTag()
    if (tag !== 0x17 && tag !== 0x18)
      throw malformed(`expected a time, got ${tag < 0 ? 'the end' : `tag ${hexTag(tag)}`}`)
    const from = this.#advance(tag)
    return parseTime(this.#bytes, from, { length: this.#at - from, generalized: tag === 0x18 })
  }

  readGeneralizedTime(): number {
    const from = this.#advance(0x18)
    return parseTime(this.#bytes, from, { length: this.#at - from, generalized: true })
  }
}

/** Strict UTF-8 (RFC 3629). */
export const decodeUtf8 = (bytes: Uint8Array): string => {
  try {
    return utf8Decoder.decode(bytes)
  } catch {
    throw malformed('text is not UTF-8')
  }
}

export const decodeAscii = (bytes: Uint8Array): string => {
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! > 0x7f) throw malformed('text is not ASCII')
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

const parseTime = (bytes: Uint8Array, from: number, form: { length: number; generalized: boolean }): number => {
  const yearDigits = form.generalized ? 4 : 2
  const total = yearDigits + 11
  if (form.length !== total || bytes[from + total - 1] !== 0x5a)
    throw malformed('time is not in the form with seconds and Z')
  let at = from
  const number = (digits: number): number => {
    let value = 0
    for (const stop = at + digits; at < stop; at++) {
      const digit = bytes[at]! - 0x30
      if (digit < 0 || digit > 9) throw malformed('time with something that is no digit')
      value = value * 10 + digit
    }
    return value
  }
  let year = number(yearDigits)
  // RFC 5280 §4.1.2.5.1: 50 to 99 are 19YY, 00 to 49 are 20YY.
  if (!form.generalized) year += year >= 50 ? 1900 : 2000
  const month = number(2)
  const day = number(2)
  const hours = number(2)
  const minutes = number(2)
  const seconds = number(2)
  if (month < 1 || month > 12 || day < 1 || hours > 23 || minutes > 59 || seconds > 59) throw malformed('no such time')
  // Date.UTC takes years 0 to 99 for 19YY: shift by 400 years, a whole cycle of the calendar.
  const ms = Date.UTC(year + 400, month - 1, day, hours, minutes, seconds) - gregorianCycleMs
  if (day > 28 && new Date(ms).getUTCDate() !== day) throw malformed('no such day')
  return ms
}

const gregorianCycleMs = 146_097 * 86_400_000

// Decoded OIDs by content: a certificate has a dozen and they repeat. Owned by this module; bounded, so hostile input cannot grow it.
const knownOids = new Map<number, { readonly content: Uint8Array; readonly dotted: string }>()
const maxKnownOids = 256

const dottedOid = (bytes: Uint8Array, from: number, to: number): string => {
  let hash = to - from
  for (let i = from; i < to; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0
  const known = knownOids.get(hash)
  if (known !== undefined && sameRange(known.content, bytes, from, to)) return known.dotted
  const dotted = decodeOid(bytes, from, to)
  if (known === undefined && knownOids.size < maxKnownOids)
    knownOids.set(hash, { content: bytes.slice(from, to), dotted })
  return dotted
}

const sameRange = (content: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean => {
  if (content.length !== to - from) return false
  for (let i = 0; i < content.length; i++) if (content[i] !== bytes[from + i]) return false
  return true
}

const decodeOid = (bytes: Uint8Array, from: number, to: number): string => {
  if (to === from || to - from > 64) throw malformed('object identifier of impossible length')
  if (bytes[to - 1]! >= 0x80) throw malformed('object identifier cut off')
  let dotted = ''
  for (let at = from; at < to; at++) {
    if (bytes[at] === 0x80) throw malformed('non-minimal object identifier')
    let arc = 0n
    for (; bytes[at]! >= 0x80; at++) arc = (arc << 7n) | BigInt(bytes[at]! & 0x7f)
    arc = (arc << 7n) | BigInt(bytes[at]!)
    if (dotted !== '') dotted += `.${arc}`
    else dotted = arc < 80n ? `${arc / 40n}.${arc % 40n}` : `2.${arc - 80n}`
  }
  return dotted
}
