// An audit leaf written along the frame of one before it: leaves of one kind follow each other, and to find the frame of each anew costs
// three times as much. What does not fit is left to leaf-codec.ts, which finds frames.
import {
  atColumn,
  eventColumn,
  hexPlaces,
  ipv4Place,
  isIpv4,
  isPlain,
  isWhole,
  type LeafColumns,
  maxWord,
  numberPlace,
  numberRoom,
  placeOfHex,
  places,
  putNumber,
  putText,
  quote,
  room,
  subjectColumn,
  textPlace,
  type Writing,
  wordPlace,
} from './leaf-values.ts'
import type { Words } from './words.ts'

export interface KnownFrame {
  readonly text: string
  /** What stands before each place, and behind the last. */
  readonly literals: readonly string[]
  readonly places: readonly string[]
  /** For each place, how many octets the next one has that stands right behind it; 0: something else does. */
  readonly octetsBehind: readonly number[]
}

interface Position {
  readonly json: string
  readonly at: number
  readonly octetsBehind: number
}

const octetsOfPlace = new Map(hexPlaces)

export const knownFrame = (text: string): KnownFrame => {
  const literals = text.split(places)
  const found = [...text].filter(each => places.test(each))
  const octetsBehind = found.map((_, i) => (literals[i + 1] === '' ? (octetsOfPlace.get(found[i + 1] ?? '') ?? 0) : 0))
  return { text, literals, places: found, octetsBehind }
}

// The last frames of each event. Owned by this module.
const lastFrames = new Map<string, KnownFrame[]>()
const maxEvents = 200
export const maxFramesOfEvent = 3

export const framesOf = (event: string): KnownFrame[] => {
  const found = lastFrames.get(event)
  if (found !== undefined) return found
  if (lastFrames.size >= maxEvents) lastFrames.clear()
  const made: KnownFrame[] = []
  lastFrames.set(event, made)
  return made
}

const nibbles = new Int8Array(128).fill(-1)
for (const [value, digit] of [...'0123456789abcdef'].entries()) nibbles[digit.charCodeAt(0)] = value
const nibbleAt = (json: string, at: number): number => nibbles[json.charCodeAt(at)] ?? -1

/** @returns where the value ends in the text; -1: this is none */
const putHexAlong = (writing: Writing, json: string, from: number, octets: number): number => {
  // Read once: what is imported is looked up with each use.
  const values = room
  let put = writing.end
  for (let at = from; at < from + 2 * octets; at += 2) {
    const octet = (nibbleAt(json, at) << 4) | nibbleAt(json, at + 1)
    if (octet < 0) return -1
    values[put++] = octet
  }
  writing.end = put
  return from + 2 * octets
}

/** Where the value ends that stands between quotation marks from here on, needs no escape, and is followed by so many octets in hex. */
const endOfValue = (json: string, from: number, octetsBehind: number): number => {
  const end = json.indexOf('"', from) - 2 * octetsBehind
  return end >= from && isPlain.test(json.slice(from, end)) ? end : -1
}

/** An identifier behind a name: it gets a place of its own, or the dictionary would have a word for each. */
const endsWithIdentifier = (text: string): boolean => {
  const at = Math.max(text.lastIndexOf('/'), text.lastIndexOf(':'))
  return at >= 0 && placeOfHex(text.slice(at + 1)) !== null
}

const putWordAlong = (writing: Writing, { json, at, octetsBehind }: Position, words: Pick<Words, 'id'>): number => {
  const end = endOfValue(json, at, octetsBehind)
  if (end < 0) return -1
  const text = json.slice(at, end)
  if (text.length > maxWord || endsWithIdentifier(text)) return -1
  putNumber(writing, words.id(text))
  return end
}

const putTextAlong = (writing: Writing, { json, at, octetsBehind }: Position): number => {
  const end = json.charCodeAt(at - 1) === quote ? endOfValue(json, at, octetsBehind) : -1
  if (end >= 0) putText(writing, json.slice(at, end))
  return end
}

const putNumberAlong = (writing: Writing, json: string, from: number): number => {
  let end = from
  while (nibbleAt(json, end) >= 0 && nibbleAt(json, end) < 10) end++
  const text = json.slice(from, end)
  if (!isWhole.test(text)) return -1
  putNumber(writing, Number(text))
  return end
}

const putIpv4Along = (writing: Writing, json: string, from: number): number => {
  const end = json.indexOf('"', from)
  const text = json.slice(from, end)
  if (!isIpv4.test(text)) return -1
  for (const part of text.split('.')) room[writing.end++] = Number(part)
  return end
}

const behind = (json: string, text: string | null, at: number): number =>
  text !== null && json.startsWith(text, at) ? at + text.length : -1

const putPlace = (
  writing: Writing,
  place: string,
  position: Position,
  columns: LeafColumns,
  words: Pick<Words, 'id'>,
): number => {
  const { json, at } = position
  switch (place) {
    case atColumn:
      return behind(json, String(columns.at), at)
    case eventColumn:
      return behind(json, columns.event, at)
    case subjectColumn:
      return behind(json, columns.subject, at)
    case wordPlace:
      return putWordAlong(writing, position, words)
    case textPlace:
      return putTextAlong(writing, position)
    case numberPlace:
      return putNumberAlong(writing, json, at)
    case ipv4Place:
      return putIpv4Along(writing, json, at)
    default:
      return putHexAlong(writing, json, at, octetsOfPlace.get(place) ?? 0)
  }
}

/**
 * Whatever is written along a frame comes back by it: a literal is compared, and each value is of its place. @returns the end of the values
 * in `room`; -1: the leaf does not fit
 */
export const putAlong = (frame: KnownFrame, json: string, columns: LeafColumns, words: Pick<Words, 'id'>): number => {
  const writing = { frame: '', end: numberRoom }
  const { literals, places, octetsBehind } = frame
  let at = 0
  for (let i = 0; i < places.length; i++) {
    at = behind(json, literals[i]!, at)
    if (at >= 0) at = putPlace(writing, places[i]!, { json, at, octetsBehind: octetsBehind[i]! }, columns, words)
    if (at < 0) return -1
  }
  return behind(json, literals[places.length]!, at) === json.length ? writing.end : -1
}
