// Every parser against damaged inputs: cut off at every offset, one byte flipped at every offset, and what fast-check makes of both. Each must
// be refused with a typed error or read; what was read must be written again, where there is a writer (target.ts). The coverage-guided loop
// over the same targets is fuzz.test.ts.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inputsOf } from './corpus.ts'
import { type FuzzTarget, tryInput } from './target.ts'
import { targets } from './targets.ts'

/** Inputs of one target that are tried at every offset; the dear ones have fewer. */
const maxOffsets = 600
const dear = [
  'policies',
  'cedar-attributes',
  'backup',
  'configuration',
  'profile',
  'monitor',
  'attestor',
  'declared',
  'ceremony',
]

/** At even distances where there are too many. */
const offsetsOf = ({ name }: FuzzTarget, length: number): readonly number[] => {
  const most = dear.includes(name) ? 25 : maxOffsets
  const step = Math.max(1, Math.ceil(length / most))
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step)
}

const chosen = (target: FuzzTarget): readonly Uint8Array[] => {
  const inputs = inputsOf(target)
  const most = dear.includes(target.name) ? 2 : 4
  return inputs.filter((_, at) => at % Math.ceil(inputs.length / most) === 0)
}

/** The input is named by what it was made of, so that a failure can be repeated. */
const tried = async (target: FuzzTarget, bytes: Uint8Array, how: string): Promise<void> => {
  try {
    await tryInput(target, bytes)
  } catch (cause) {
    throw new Error(`${target.name}, ${how}: ${Buffer.from(bytes).toString('base64')}`, { cause })
  }
}

const edits = fc.array(
  fc.record({ at: fc.nat(), byte: fc.nat(255), how: fc.constantFrom('set', 'drop', 'double', 'cut') }),
  { minLength: 1, maxLength: 4 },
)

const edited = (input: Uint8Array, changes: readonly { at: number; byte: number; how: string }[]): Uint8Array => {
  let bytes = [...input]
  for (const { at, byte, how } of changes) {
    const place = bytes.length === 0 ? 0 : at % bytes.length
    if (how === 'set') bytes[place] = byte
    else if (how === 'drop') bytes.splice(place, 1)
    else if (how === 'double') bytes.splice(place, 0, ...bytes.slice(place, place + 1 + (byte % 16)))
    else bytes = bytes.slice(0, place)
  }
  return Uint8Array.from(bytes)
}

describe.each(targets)('$name', target => {
  it('reads or refuses everything in its corpus', async () => {
    for (const [i, input] of inputsOf(target).entries()) await tried(target, input, `input ${i}`)
  })

  it('refuses with a typed error, or reads, what is cut off at any offset or has a flipped byte there', async () => {
    for (const input of chosen(target))
      for (const at of offsetsOf(target, input.length)) {
        await tried(target, input.slice(0, at), `cut at ${at}`)
        await tried(target, input.with(at, (input[at] as number) ^ (1 << (at % 8))), `flipped at ${at}`)
      }
  })

  it('refuses with a typed error, or reads, whatever a few edits make of its inputs', async () => {
    const inputs = inputsOf(target)
    await fc.assert(
      fc.asyncProperty(fc.nat(inputs.length - 1), edits, async (at, changes) => {
        await tried(target, edited(inputs[at] as Uint8Array, changes), 'edited')
      }),
      { numRuns: dear.includes(target.name) ? 20 : 150 },
    )
  })
})

it('every target has an input that it reads, so that its properties say something', async () => {
  const readless: string[] = []
  for (const target of targets) {
    const outcomes = []
    for (const input of inputsOf(target)) outcomes.push(await tryInput(target, input))
    if (!outcomes.some(outcome => 'read' in outcome)) readless.push(target.name)
  }
  expect(readless).toEqual([])
})
