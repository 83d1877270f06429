// Leaves of one issuer and profile differ in a few places only. What was read strictly once is the measure for the next ones: bytes of the
// same length that are equal everywhere else have the very same structure, and only their places need reading. Which places there are is
// found here, and whether bytes fit; what may stand in them is the caller's to judge, by the same rules as for whole certificates.
import { DerReader, decodeAscii } from './der.ts'
import { PkiError } from './errors.ts'
import { oidOf } from './oid.ts'

/** Where something begins and where what follows it does. */
export interface Place {
  readonly from: number
  readonly to: number
}

/** Contents without their headers: no octet of a header is in a place, so that no length and no tag can differ. */
export interface LeafPlaces {
  readonly serial: Place
  readonly notBefore: Place
  readonly notAfter: Place
  readonly commonName: Place
  /** Both coordinates of a P-256 key. */
  readonly point: Place
  /** The only alternative name. */
  readonly uri: Place
}

export interface LeafShape {
  /** To-be-signed bytes that were read. */
  readonly tbs: Uint8Array
  readonly places: LeafPlaces
  /** SubjectPublicKeyInfo, whole. */
  readonly spki: Place
}

/** What is to be judged of bytes that fit a shape. */
export interface LeafValues {
  /** Content of the INTEGER. */
  readonly serial: Uint8Array
  readonly notBefore: number
  readonly notAfter: number
  readonly commonName: string
  readonly spkiDer: Uint8Array
  readonly uri: string
}

const p256Prefix = [48, 89, 48, 19, 6, 7, 42, 134, 72, 206, 61, 2, 1, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7, 3, 66, 0, 4]
const coordinates = 64
/** UTCTime of 13 octets, twice (RFC 5280 §4.1.2.5.1). */
const validityLength = 32
const timeLength = 13
/** Up to the text of a name that is one common name as UTF8String; the lengths are those of what they hold. */
const nameHeader = (length: number): readonly number[] => [
  48,
  length - 2,
  49,
  length - 4,
  48,
  length - 6,
  6,
  3,
  85,
  4,
  3,
  12,
  length - 13,
]

const beginsWith = (bytes: Uint8Array, octets: readonly number[]): boolean =>
  octets.every((octet, at) => bytes[at] === octet)

const uriIn = (names: Uint8Array, from: number): Place | null => {
  const length = names.length - 4
  const alone = length > 0 && length < 0x7e && beginsWith(names, [48, length + 2, 0x86, length])
  return alone ? { from: from + 4, to: from + names.length } : null
}

const placeOfUri = (extensions: DerReader, offsetOf: (view: Uint8Array) => number): Place | null => {
  let found: Place | null = null
  while (!extensions.atEnd) {
    const one = extensions.readSequence()
    const type = one.readOid()
    one.readDefaultFalse()
    const value = one.readOctetString()
    one.end()
    if (type === oidOf.subjectAltName) found = uriIn(value, offsetOf(value))
  }
  return found
}

const read = (tbs: Uint8Array): LeafShape | null => {
  // Views lie in the same memory: where they begin in it tells where they begin in the whole.
  const offsetOf = (view: Uint8Array): number => view.byteOffset - tbs.byteOffset
  const input = new DerReader(tbs)
  const body = input.readSequence()
  input.end()
  body.readTlv(0xa0)
  const serial = body.readInteger()
  body.readTlv(0x30)
  body.readTlv(0x30)
  const validity = body.readTlv(0x30).raw
  const subject = body.readTlv(0x30).raw
  const spkiDer = body.readTlv(0x30).raw
  const wrapper = body.readConstructed(0xa3)
  body.end()
  const extensions = wrapper.readSequence()
  wrapper.end()
  const uri = placeOfUri(extensions, offsetOf)
  const first = offsetOf(validity) + 4
  const second = first + timeLength + 2
  const timed = validity.length === validityLength && validity[2] === 0x17 && validity[4 + timeLength] === 0x17
  const named = subject.length > 13 && subject.length < 0x82 && beginsWith(subject, nameHeader(subject.length))
  const keyed = spkiDer.length === p256Prefix.length + coordinates && beginsWith(spkiDer, p256Prefix)
  if (uri === null || !timed || !named || !keyed) return null
  const [from, to] = [offsetOf(spkiDer), offsetOf(spkiDer) + spkiDer.length]
  return {
    tbs,
    spki: { from, to },
    places: {
      serial: { from: offsetOf(serial), to: offsetOf(serial) + serial.length },
      notBefore: { from: first, to: first + timeLength },
      notAfter: { from: second, to: second + timeLength },
      commonName: { from: offsetOf(subject) + 13, to: offsetOf(subject) + subject.length },
      point: { from: to - coordinates, to },
      uri,
    },
  }
}

/**
 * @param tbs of a certificate that was judged whole; kept, and not to be changed
 * @returns null for one of another kind: another key, several alternative names, another form of subject or time
 */
export const leafShapeOf = (tbs: Uint8Array): LeafShape | null => {
  try {
    return read(tbs)
  } catch (error) {
    if (error instanceof PkiError) return null
    throw error
  }
}

/** Equal outside of the places, octet by octet. */
export const fitsShape = ({ tbs: known, places }: LeafShape, tbs: Uint8Array): boolean => {
  if (tbs.length !== known.length) return false
  const { serial, notBefore, notAfter, commonName, point, uri } = places
  return (
    isSame(known, tbs, 0, serial.from) &&
    isSame(known, tbs, serial.to, notBefore.from) &&
    isSame(known, tbs, notBefore.to, notAfter.from) &&
    isSame(known, tbs, notAfter.to, commonName.from) &&
    isSame(known, tbs, commonName.to, point.from) &&
    isSame(known, tbs, point.to, uri.from) &&
    isSame(known, tbs, uri.to, tbs.length)
  )
}

const isSame = (a: Uint8Array, b: Uint8Array, from: number, to: number): boolean => {
  for (let at = from; at < to; at++) if (a[at] !== b[at]) return false
  return true
}

// Certificates of one second have the same times: the last ones read, as they stand there. Owned by this module.
const createTimeReader = () => {
  let last = ''
  let value = 0
  return (tbs: Uint8Array, { from, to }: Place): number => {
    const text = decodeAscii(tbs.subarray(from, to))
    if (text !== last) {
      // With its header, by the strict reader.
      value = new DerReader(tbs.subarray(from - 2, to)).readTime()
      last = text
    }
    return value
  }
}
const readNotBefore = createTimeReader()
const readNotAfter = createTimeReader()

/**
 * Of bytes that fit. What no strict reader would take is an error here too.
 * @throws PkiError der_malformed
 */
export const leafValues = ({ places, spki }: LeafShape, tbs: Uint8Array): LeafValues => {
  const { serial, notBefore, notAfter, commonName, uri } = places
  const content = tbs.subarray(serial.from, serial.to)
  // Minimal, and positive: a first octet of zero could be either.
  if (content[0]! < 0x01 || content[0]! > 0x7f) throw new PkiError('der_malformed', 'not a minimal positive integer')
  return {
    serial: content,
    notBefore: readNotBefore(tbs, notBefore),
    notAfter: readNotAfter(tbs, notAfter),
    commonName: decodeAscii(tbs.subarray(commonName.from, commonName.to)),
    spkiDer: tbs.subarray(spki.from, spki.to),
    uri: decodeAscii(tbs.subarray(uri.from, uri.to)),
  }
}

/** Profiles, and lengths of names. A full memory starts anew. */
const maxShapes = 64

export interface KnownShape<Facts> {
  readonly shape: LeafShape
  /** What else the verdict depended on. */
  readonly facts: Facts
}

export interface KnownShapes<Facts> {
  /** @returns the last one of this length, if the bytes fit it; null: they have to be judged whole */
  find(tbs: Uint8Array): KnownShape<Facts> | null
  /** Bytes that were judged whole and found good. */
  add(tbs: Uint8Array, facts: Facts): void
}

export const createKnownShapes = <Facts>(): KnownShapes<Facts> => {
  // By length, owned by this closure.
  const known = new Map<number, KnownShape<Facts>>()
  return {
    find: tbs => {
      const found = known.get(tbs.length)
      return found !== undefined && fitsShape(found.shape, tbs) ? found : null
    },
    add: (tbs, facts) => {
      const shape = leafShapeOf(tbs.slice())
      if (shape === null) return
      if (known.size >= maxShapes) known.clear()
      known.set(tbs.length, { shape, facts })
    },
  }
}
