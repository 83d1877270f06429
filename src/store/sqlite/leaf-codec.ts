// Audit leaves as rows hold them. A leaf is canonical JSON whose members are the same for each event: what repeats, the text between the
// values, is kept once in the dictionary as a frame, and a leaf is the number of its frame and its values, hashes and identifiers as
// octets. It works on the text alone: the same octets come back whatever they say, and what does not fit is kept as it is. Nothing else
// sees this form: the chain, exports and checkpoints are over the canonical bytes.
import type { LeafDraft } from '../records.ts'
import { framesOf, knownFrame, maxFramesOfEvent, putAlong } from './leaf-along.ts'
import {
  atColumn,
  eventColumn,
  hexPlaces,
  holder,
  ipv4Place,
  isIpv4,
  isPlain,
  isWhole,
  type LeafColumns,
  maxFramed,
  maxWord,
  numberPlace,
  numberRoom,
  placeOfHex,
  places,
  putHex,
  putNumber,
  putText,
  putWord,
  quote,
  repeated,
  room,
  subjectColumn,
  textPlace,
  type Writing,
  wordPlace,
} from './leaf-values.ts'
import type { Words } from './words.ts'

/** The first octet of a framed leaf. JSON begins with none of these two. */
const framed = 1
/** The first octet before a whole leaf that would be taken for another form. */
const whole = 2

/** Who: `token:<id>`, an instance by its SPIFFE ID, whose beginning is its registration's, or one of the few. */
const putHolder = (writing: Writing, text: string, words: Pick<Words, 'id'>): void => {
  const [kind = ''] = holder.exec(text) ?? []
  const id = kind === '' ? null : placeOfHex(text.slice(kind.length))
  const end = text.lastIndexOf('/') + 1
  const instance = end === 0 ? null : placeOfHex(text.slice(end))
  if (id !== null) {
    writing.frame += kind
    putHex(writing, id, text.slice(kind.length))
  } else if (instance !== null && end <= maxWord && isPlain.test(text)) {
    putWord(writing, text.slice(0, end), words)
    putHex(writing, instance, text.slice(end))
  } else if (text.length <= maxWord && isPlain.test(text)) putWord(writing, text, words)
  else putText(writing, text)
}

/** What stands between quotation marks, as it stands there. */
const putString = (
  writing: Writing,
  member: string,
  text: string,
  columns: LeafColumns,
  words: Pick<Words, 'id'>,
): void => {
  if (member === 'event' && text === columns.event) writing.frame += eventColumn
  else if (member === 'sub' && text === columns.subject) writing.frame += subjectColumn
  else if (member === 'who') putHolder(writing, text, words)
  else if (repeated.has(member) && text.length <= maxWord && isPlain.test(text)) putWord(writing, text, words)
  else if (member === 'src' && isIpv4.test(text)) {
    writing.frame += ipv4Place
    for (const part of text.split('.')) room[writing.end++] = Number(part)
  } else {
    const place = placeOfHex(text)
    if (place !== null) putHex(writing, place, text)
    else putText(writing, text)
  }
}

/** Number, true, false or null. */
const putScalar = (writing: Writing, member: string, text: string, columns: LeafColumns): void => {
  if (member === 'at' && text === String(columns.at)) writing.frame += atColumn
  else if (isWhole.test(text)) {
    writing.frame += numberPlace
    putNumber(writing, Number(text))
  } else if (text === 'null' || text === 'true' || text === 'false') writing.frame += text
  else putText(writing, text)
}

/** Where the text that begins here ends; -1: not in this one. */
const endOfString = (json: string, from: number): number => {
  for (let at = json.indexOf('"', from); at >= 0; at = json.indexOf('"', at + 1)) {
    let escapes = 0
    while (json.charCodeAt(at - 1 - escapes) === 0x5c) escapes++
    if (escapes % 2 === 0) return at
  }
  return -1
}

/** Takes one flat object apart. @returns whether it is one */
const putMembers = (writing: Writing, json: string, columns: LeafColumns, words: Pick<Words, 'id'>): boolean => {
  let at = 0
  do {
    const keyEnd = json.charCodeAt(at + 1) === quote ? json.indexOf('":', at + 2) : -1
    if (keyEnd < 0) return false
    const member = json.slice(at + 2, keyEnd)
    if (!isPlain.test(member)) return false
    writing.frame += json.slice(at, keyEnd + 2)
    at = keyEnd + 2
    if (json.charCodeAt(at) === quote) {
      const end = endOfString(json, at + 1)
      if (end < 0) return false
      writing.frame += '"'
      putString(writing, member, json.slice(at + 1, end), columns, words)
      writing.frame += '"'
      at = end + 1
    } else {
      const [scalar] = scalarAt(json, at)
      if (scalar === undefined) return false
      putScalar(writing, member, scalar, columns)
      at += scalar.length
    }
  } while (json[at] === ',')
  writing.frame += '}'
  return json[at] === '}' && at === json.length - 1
}

const scalar = /[-+.0-9a-zA-Z]+/y
const scalarAt = (json: string, at: number): readonly string[] => {
  scalar.lastIndex = at
  return scalar.exec(json) ?? []
}

const storeWhole = (bytes: Uint8Array): Uint8Array => {
  if (bytes[0] !== framed && bytes[0] !== whole) return bytes
  const escaped = new Uint8Array(bytes.length + 1)
  escaped[0] = whole
  escaped.set(bytes, 1)
  return escaped
}

/** Only inside a transaction: the dictionary may grow. */
export const storedLeaf = (draft: LeafColumns & Pick<LeafDraft, 'bytes'>, words: Pick<Words, 'id'>): Uint8Array => {
  const { bytes } = draft
  if (bytes.length > maxFramed || bytes[0] !== 0x7b) return storeWhole(bytes)
  const json = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  const frames = framesOf(draft.event)
  for (const frame of frames) {
    const end = putAlong(frame, json, draft, words)
    if (end >= 0) return storedIn(frame.text, end, words)
  }
  // Values first, at a place that leaves room for the frame's number before them.
  const writing = { frame: '', end: numberRoom }
  if (!putMembers(writing, json, draft, words)) return storeWhole(bytes)
  frames.unshift(knownFrame(writing.frame))
  if (frames.length > maxFramesOfEvent) frames.pop()
  return storedIn(writing.frame, writing.end, words)
}

/** What stands in `room` up to here, behind the number of its frame. */
const storedIn = (frame: string, end: number, words: Pick<Words, 'id'>): Uint8Array => {
  const head = { frame: '', end: 0 }
  const number = words.id(frame)
  room[head.end++] = framed
  putNumber(head, number)
  const stored = new Uint8Array(head.end + end - numberRoom)
  stored.set(room.subarray(0, head.end))
  stored.set(room.subarray(numberRoom, end), head.end)
  return stored
}

interface Reading {
  readonly stored: Buffer
  at: number
}

const takeNumber = (reading: Reading): number => {
  let value = 0
  for (let scale = 1; ; scale *= 128) {
    const octet = reading.stored[reading.at++]
    if (octet === undefined || scale > Number.MAX_SAFE_INTEGER) throw new RangeError('the stored leaf ends too early')
    value += (octet % 128) * scale
    if (octet < 128) return value
  }
}

const takeHex = (reading: Reading, octets: number): string => {
  reading.at += octets
  return reading.stored.toString('hex', reading.at - octets, reading.at)
}

const taken = (reading: Reading, place: string, columns: LeafColumns, words: Pick<Words, 'text'>): string => {
  switch (place) {
    case atColumn:
      return String(columns.at)
    case eventColumn:
      return columns.event
    case subjectColumn:
      return String(columns.subject)
    case wordPlace:
      return words.text(takeNumber(reading))
    case numberPlace:
      return String(takeNumber(reading))
    case textPlace: {
      const length = takeNumber(reading)
      reading.at += length
      return reading.stored.toString('latin1', reading.at - length, reading.at)
    }
    case ipv4Place:
      reading.at += 4
      return reading.stored.subarray(reading.at - 4, reading.at).join('.')
    default:
      return takeHex(reading, hexPlaces.find(([each]) => each === place)?.[1] ?? 0)
  }
}

/** The canonical bytes. What was changed on disk gives other ones: the chain shows it. */
export const leafFromStored = (stored: Uint8Array, columns: LeafColumns, words: Pick<Words, 'text'>): Uint8Array => {
  if (stored[0] === whole) return stored.subarray(1)
  if (stored[0] !== framed) return stored
  try {
    return unframed(stored, columns, words)
  } catch {
    return stored
  }
}

const unframed = (stored: Uint8Array, columns: LeafColumns, words: Pick<Words, 'text'>): Uint8Array => {
  const reading = { stored: Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength), at: 1 }
  let json = ''
  let rest = words.text(takeNumber(reading))
  for (let at = rest.search(places); at >= 0; at = rest.search(places)) {
    json += rest.slice(0, at) + taken(reading, rest[at] as string, columns, words)
    rest = rest.slice(at + 1)
  }
  if (reading.at !== stored.length) throw new RangeError('the stored leaf has another length than its frame')
  return new Uint8Array(Buffer.from(json + rest, 'latin1'))
}
