// The values of audit leaves in their rows: which places a frame has for them (leaf-codec.ts), and how each is written.
import type { LeafDraft } from '../records.ts'
import type { Words } from './words.ts'

/** What the row says beside the bytes: a leaf repeats it. */
export type LeafColumns = Pick<LeafDraft, 'event' | 'at' | 'subject'>

// Places in a frame, one letter each. Everything else in a frame is ASCII.
export const atColumn = 'τ'
export const eventColumn = 'ε'
export const subjectColumn = 'σ'
export const wordPlace = 'ω'
export const textPlace = 'λ'
export const numberPlace = 'ν'
export const ipv4Place = 'ι'
export const hexPlaces: readonly (readonly [place: string, octets: number])[] = [
  ['α', 8],
  ['β', 16],
  ['γ', 20],
  ['δ', 32],
]
export const places = /[αβγδειλνστω]/

/** Values of these are the same ones again and again: the profile's hash too. */
export const repeated = new Set([
  'attestor',
  'audience',
  'code',
  'op',
  'profile',
  'profileHash',
  'reason',
  'type',
  'what',
])
/** A dictionary is for what repeats: what people write at length does not. */
export const maxWord = 160
/** Longer leaves are rare, and of those that list things. */
export const maxFramed = 4_000

const isHex = /^[0-9a-f]+$/
export const isPlain = /^[ !#-[\]-~]*$/
export const isWhole = /^(?:0|[1-9][0-9]{0,14})$/
export const isIpv4 = /^(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}$/
export const holder = /^[a-z]{1,16}:(?=[0-9a-f]+$)/

// Owned by this module, used by one call at a time.
export const room = Buffer.alloc(maxFramed + 16)

export interface Writing {
  frame: string
  end: number
}

export const putNumber = (writing: Writing, value: number): void => {
  let rest = value
  while (rest >= 128) {
    room[writing.end++] = (rest % 128) + 128
    rest = Math.floor(rest / 128)
  }
  room[writing.end++] = rest
}

export const placeOfHex = (text: string): string | null => {
  const found = hexPlaces.find(([, octets]) => text.length === 2 * octets)
  return found !== undefined && isHex.test(text) ? found[0] : null
}

export const putHex = (writing: Writing, place: string, text: string): void => {
  writing.frame += place
  writing.end += room.write(text, writing.end, 'hex')
}

export const putText = (writing: Writing, text: string): void => {
  writing.frame += textPlace
  putNumber(writing, text.length)
  writing.end += room.write(text, writing.end, 'latin1')
}

export const putWord = (writing: Writing, text: string, words: Pick<Words, 'id'>): void => {
  writing.frame += wordPlace
  putNumber(writing, words.id(text))
}

export const quote = 0x22
/** Values are written from here on, so that there is room for the frame's number before them. */
export const numberRoom = 10
