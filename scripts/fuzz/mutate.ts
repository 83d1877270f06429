// From known inputs to new ones: bits, bytes, ranges, words, crossing of two inputs; of DER also its elements, with the lengths around them put
// right again, because hardly anything that is read deep inside survives a wrong length outside. Pure: chance is an argument.
import { below, oneOf, type Random } from './chance.ts'
import { mutateDer } from './mutate-der.ts'

export interface MutationSource {
  readonly random: Random
  readonly form: 'der' | 'text' | 'binary'
  readonly words: readonly Uint8Array[]
  readonly maxLength: number
}

const interesting = [0, 1, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x2f, 0x30, 0x3a, 0x5c, 0x7f, 0x80, 0x81, 0x84, 0xa0, 0xff]

type Mutation = (bytes: Buffer, source: MutationSource, other: Uint8Array) => Uint8Array

const spliced = (bytes: Uint8Array, from: number, to: number, inserted: Uint8Array): Uint8Array =>
  Buffer.concat([bytes.subarray(0, from), inserted, bytes.subarray(to)])

/** Short ones more often: most limits are near. */
const lengthUpTo = (random: Random, bound: number): number => 1 + below(random, Math.min(bound, 1 << below(random, 11)))

const rangeIn = ({ length }: Uint8Array, random: Random): readonly [number, number] => {
  const from = below(random, length)
  return [from, Math.min(length, from + lengthUpTo(random, length - from))]
}

const atAnyByte = (change: (byte: number, random: Random) => number): Mutation => {
  return (bytes, { random }) => {
    const at = below(random, bytes.length)
    bytes[at] = change(bytes[at] as number, random)
    return bytes
  }
}

const insertAt = (bytes: Buffer, random: Random, inserted: Uint8Array): Uint8Array => {
  const at = below(random, bytes.length + 1)
  return spliced(bytes, at, at, inserted)
}

const mutations: readonly Mutation[] = [
  atAnyByte((byte, random) => byte ^ (1 << below(random, 8))),
  atAnyByte((_, random) => oneOf(random, interesting)),
  atAnyByte((_, random) => below(random, 256)),
  atAnyByte((byte, random) => byte + oneOf(random, [1, -1, 2, -2, 16])),
  // Left out, doubled, repeated many times, cut off.
  (bytes, { random }) => spliced(bytes, ...rangeIn(bytes, random), new Uint8Array(0)),
  (bytes, { random }) => insertAt(bytes, random, bytes.subarray(...rangeIn(bytes, random))),
  (bytes, { random, maxLength }) => {
    const [from, to] = rangeIn(bytes, random)
    const times = Math.min(1 << below(random, 9), Math.ceil(maxLength / (to - from)))
    return spliced(bytes, to, to, Buffer.concat(Array.from({ length: times }, () => bytes.subarray(from, to))))
  },
  (bytes, { random }) => bytes.subarray(0, below(random, bytes.length + 1)),
  // A piece of another input, in place of one or between two.
  (bytes, { random }, other) =>
    other.length === 0 ? bytes : insertAt(bytes, random, other.subarray(...rangeIn(other, random))),
  (bytes, { random }, other) =>
    other.length === 0 ? bytes : spliced(bytes, ...rangeIn(bytes, random), other.subarray(...rangeIn(other, random))),
]

const withWord: Mutation = (bytes, { random, words }) => {
  if (words.length === 0) return bytes
  const word = oneOf(random, words)
  return random() < 0.5 || bytes.length === 0
    ? insertAt(bytes, random, word)
    : spliced(bytes, ...rangeIn(bytes, random), word)
}

const mutateOnce: Mutation = (bytes, source, other) => {
  const { random, form } = source
  if (bytes.length === 0) return withWord(Buffer.from([0x30]), source, other)
  if (form === 'der' && random() < 0.6) return mutateDer(bytes, other, random) ?? bytes
  if (form !== 'der' && random() < 0.35) return withWord(bytes, source, other)
  return oneOf(random, mutations)(bytes, source, other)
}

/** A few changes at once; one alone most often. */
export const mutate = (input: Uint8Array, other: Uint8Array, source: MutationSource): Uint8Array => {
  let bytes: Uint8Array = input
  const times = 1 + below(source.random, 1 << below(source.random, 4))
  for (let i = 0; i < times; i++) bytes = mutateOnce(Buffer.from(bytes), source, other)
  return new Uint8Array(bytes.subarray(0, source.maxLength))
}
