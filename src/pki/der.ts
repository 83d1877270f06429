// DER writer (X.690 §8, §10, §11): functions from values to bytes. The strict reader is der-reader.ts, re-exported here so that
// callers have one door. What the bytes mean is left to the files above.
import { concatBytes } from '../base/bytes.ts'
import { PkiError } from './errors.ts'

export { DerElement, DerReader, decodeAscii, decodeUtf8, maxDerDepth } from './der-reader.ts'

/** Identifier octets (class, constructed bit, number in one byte: high tag numbers do not occur in PKIX). */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  nullValue: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const

/** Identifier octet of `[n]` holding a primitive encoding (IMPLICIT over a primitive type). */
export const contextPrimitive = (n: number): number => 0x80 | n
/** Identifier octet of `[n]` holding a constructed encoding (EXPLICIT, or IMPLICIT over a SEQUENCE or SET). */
export const contextConstructed = (n: number): number => 0xa0 | n

/** Header bytes (identifier and minimal length) of an element with that many content bytes. */
export const derHeader = (tag: number, length: number): Uint8Array => {
  if (length < 0x80) return Uint8Array.of(tag, length)
  if (length < 0x100) return Uint8Array.of(tag, 0x81, length)
  if (length < 0x10000) return Uint8Array.of(tag, 0x82, length >> 8, length & 0xff)
  if (length < 0x1000000) return Uint8Array.of(tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff)
  return Uint8Array.of(tag, 0x84, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff)
}

/** One element from its parts; `parts` may be long (a CRL's entries), so it is an array and not rest arguments. */
export const derElement = (tag: number, parts: readonly Uint8Array[]): Uint8Array => {
  let length = 0
  for (const part of parts) length += part.length
  const header = derHeader(tag, length)
  const out = new Uint8Array(header.length + length)
  out.set(header, 0)
  let at = header.length
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

export const sequence = (...parts: readonly Uint8Array[]): Uint8Array => derElement(Tag.sequence, parts)

/** SEQUENCE OF any number of elements. */
export const sequenceOf = (parts: readonly Uint8Array[]): Uint8Array => derElement(Tag.sequence, parts)

const compareEncodings = (a: Uint8Array, b: Uint8Array): number => {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return a.length - b.length
}

/** SET OF: the elements are put into DER order (X.690 §11.6). */
export const set = (...parts: readonly Uint8Array[]): Uint8Array =>
  derElement(Tag.set, parts.length < 2 ? parts : [...parts].sort(compareEncodings))

/** Minimal two's complement of a number of any sign. */
const signedBytes = (value: bigint): Uint8Array => {
  const bytes: number[] = []
  let rest = value
  do {
    bytes.unshift(Number(rest & 0xffn))
    rest >>= 8n
  } while (!(rest === 0n && bytes[0]! < 0x80) && !(rest === -1n && bytes[0]! >= 0x80))
  return Uint8Array.from(bytes)
}

/** Content of an INTEGER; bytes are an unsigned big-endian magnitude, with or without leading zeros. */
const integerContent = (value: Uint8Array | bigint | number): Uint8Array => {
  if (typeof value === 'bigint') return signedBytes(value)
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new PkiError('not_encodable', `expected a safe integer, got ${value}`)
    return value >= 0 && value < 0x80 ? Uint8Array.of(value) : signedBytes(BigInt(value))
  }
  let start = 0
  while (start < value.length - 1 && value[start] === 0) start++
  const magnitude = value.subarray(start)
  if (magnitude.length === 0) throw new PkiError('not_encodable', 'an integer needs at least one byte')
  return magnitude[0]! < 0x80 ? magnitude : concatBytes([Uint8Array.of(0), magnitude])
}

/** INTEGER. Bytes are an unsigned big-endian magnitude: a leading zero is added where the sign bit needs it, surplus ones dropped. */
export const integer = (value: Uint8Array | bigint | number): Uint8Array =>
  derElement(Tag.integer, [integerContent(value)])

export const enumerated = (value: number): Uint8Array => derElement(Tag.enumerated, [integerContent(value)])

const oidContent = (dotted: string): number[] => {
  if (!/^[0-2](\.(0|[1-9][0-9]*))+$/.test(dotted))
    throw new PkiError('not_encodable', `not an object identifier: ${dotted}`)
  const [first, second, ...rest] = dotted.split('.').map(BigInt) as [bigint, bigint, ...bigint[]]
  if (first < 2n && second > 39n) throw new PkiError('not_encodable', `not an object identifier: ${dotted}`)
  const out: number[] = []
  for (const arc of [first * 40n + second, ...rest]) {
    const digits = [Number(arc & 0x7fn)]
    for (let left = arc >> 7n; left > 0n; left >>= 7n) digits.unshift(Number(left & 0x7fn) | 0x80)
    out.push(...digits)
  }
  return out
}

// Encoded ones by their text: a few dozen, and each of them goes into every certificate. Bounded, so that nobody can make it grow.
const knownOids = new Map<string, Uint8Array>()
const maxKnownOids = 256

export const oid = (dotted: string): Uint8Array => {
  const known = knownOids.get(dotted)
  if (known !== undefined) return known
  const encoded = derElement(Tag.oid, [Uint8Array.from(oidContent(dotted))])
  if (knownOids.size < maxKnownOids) knownOids.set(dotted, encoded)
  return encoded
}

export const octetString = (content: Uint8Array): Uint8Array => derElement(Tag.octetString, [content])

/** BIT STRING; the unused bits must be zero already (X.690 §11.2.1). */
export const bitString = (content: Uint8Array, unusedBits = 0): Uint8Array => {
  const last = content.at(-1) ?? 0
  if (
    unusedBits < 0 ||
    unusedBits > 7 ||
    (content.length === 0 && unusedBits > 0) ||
    (last & ((1 << unusedBits) - 1)) !== 0
  )
    throw new PkiError('not_encodable', `a bit string cannot have ${unusedBits} unused bits here`)
  return derElement(Tag.bitString, [Uint8Array.of(unusedBits), content])
}

/** BIT STRING with named bits: trailing zero bits are dropped (X.690 §11.2.2). `bits` are the numbers of the set bits. */
export const namedBitString = (bits: readonly number[]): Uint8Array => {
  if (bits.length === 0) return bitString(new Uint8Array(0))
  const highest = Math.max(...bits)
  const content = new Uint8Array((highest >> 3) + 1)
  for (const bit of bits) content[bit >> 3]! |= 0x80 >> (bit & 7)
  return bitString(content, 7 - (highest & 7))
}

export const utf8String = (text: string): Uint8Array => {
  if (!text.isWellFormed()) throw new PkiError('not_encodable', 'a lone surrogate has no UTF-8 form')
  return derElement(Tag.utf8String, [new TextEncoder().encode(text)])
}

export const printableString = (text: string): Uint8Array => {
  if (!/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)) throw new PkiError('not_encodable', 'not a PrintableString')
  return derElement(Tag.printableString, [new TextEncoder().encode(text)])
}

/** Bytes of ASCII text, for IA5String and the implicit forms of it. @throws not_encodable */
export const asciiBytes = (text: string): Uint8Array => {
  const out = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > 0x7f) throw new PkiError('not_encodable', 'expected ASCII text')
    out[i] = unit
  }
  return out
}

export const ia5String = (text: string): Uint8Array => derElement(Tag.ia5String, [asciiBytes(text)])

const trueElement = Uint8Array.of(Tag.boolean, 1, 0xff)
const falseElement = Uint8Array.of(Tag.boolean, 1, 0x00)
export const boolean = (value: boolean): Uint8Array => (value ? trueElement : falseElement).slice()

export const nullValue = (): Uint8Array => Uint8Array.of(Tag.nullValue, 0)

const timeBytes = (ms: number, generalized: boolean): Uint8Array => {
  const date = new Date(ms)
  const year = date.getUTCFullYear()
  if (!(year >= 0 && year <= 9999)) throw new PkiError('not_encodable', `no time: ${ms}`)
  const digits = (value: number) => String(value).padStart(2, '0')
  const clock = [
    date.getUTCMonth() + 1,
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
    date.getUTCSeconds(),
  ]
  const head = generalized ? String(year).padStart(4, '0') : digits(year % 100)
  return asciiBytes(`${head}${clock.map(digits).join('')}Z`)
}

/** GeneralizedTime without fractions (RFC 5280 §4.1.2.5.2); milliseconds since the epoch, cut to the second. */
export const generalizedTime = (ms: number): Uint8Array => derElement(Tag.generalizedTime, [timeBytes(ms, true)])

/** Time: UTCTime from 1950 through 2049, else GeneralizedTime (RFC 5280 §4.1.2.5); cut to the second. */
export const time = (ms: number): Uint8Array => {
  const year = new Date(ms).getUTCFullYear()
  return year >= 1950 && year < 2050 ? derElement(Tag.utcTime, [timeBytes(ms, false)]) : generalizedTime(ms)
}

export const explicit = (n: number, content: Uint8Array): Uint8Array => derElement(contextConstructed(n), [content])
export const implicitPrimitive = (n: number, content: Uint8Array): Uint8Array =>
  derElement(contextPrimitive(n), [content])
export const implicitConstructed = (n: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  derElement(contextConstructed(n), parts)
