// The loop: mutate what is known, try it, keep what reached a part of src that nothing reached before, or reached it much more often. What a
// target must hold is its own (test/fuzz/target.ts); here work and memory are bounded too.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { messageOf } from '../../src/base/errors.ts'
import { bytesOf, type FuzzTarget, type Outcome, tryInput } from '../../test/fuzz/target.ts'
import { below, oneOf, type Random } from './chance.ts'
import type { Coverage } from './coverage.ts'
import { mutate } from './mutate.ts'

export interface Finding {
  readonly problem: string
  readonly input: Uint8Array
}

export interface Fuzzed {
  readonly runs: number
  readonly parts: number
  readonly corpus: readonly Uint8Array[]
  /** A sample of what was accepted. */
  readonly accepted: readonly Uint8Array[]
  readonly findings: readonly Finding[]
  /** The dearest input: parts run per byte. */
  readonly workPerByte: number
}

export interface EngineOptions {
  readonly random: Random
  readonly coverage: Coverage
  readonly inputs: readonly Uint8Array[]
  readonly milliseconds: number
  /** Told before each input. */
  readonly pulse: (input: Uint8Array) => void
}

/** Between two looks at the clock. */
const roundSize = 64
const maxAccepted = 150
const maxFindings = 20
/**
 * Parts of src that may run for one byte of input, over what any input costs: the dearest readers take some hundred; what grows with the
 * square of the length passes this with the first kilobyte.
 */
const workPerByte = 2_500
const freeWork = 400_000
const maxGrowthBytes = 96 * 2 ** 20

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const heapUsed = (): number => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

/** Where it was thrown stands for what it is: one fault has many inputs. */
const signatureOf = (error: unknown): string => {
  const stack = error instanceof Error ? (error.stack ?? '') : ''
  const frame = stack.split('\n').find(line => line.includes('/src/') || line.includes('/test/fuzz/'))
  const name = error instanceof Error ? error.name : typeof error
  return `${name} ${/[^/]+:\d+/.exec(frame ?? '')?.[0] ?? ''}`
}

class Loop {
  readonly #target: FuzzTarget
  readonly #options: EngineOptions
  readonly #words: readonly Uint8Array[]
  readonly #found = new Map<string, Finding>()
  readonly corpus: Uint8Array[] = []
  readonly accepted: Uint8Array[] = []
  runs = 0
  dearest = 0

  constructor(target: FuzzTarget, options: EngineOptions) {
    this.#target = target
    this.#options = options
    this.#words = (target.words ?? []).map(bytesOf)
  }

  get findings(): readonly Finding[] {
    return [...this.#found.values()]
  }

  async #try(input: Uint8Array): Promise<Outcome | null> {
    this.#options.pulse(input)
    this.runs++
    try {
      return await tryInput(this.#target, input)
    } catch (error) {
      const signature = signatureOf(error)
      const before = this.#found.get(signature)
      // Of several the shortest is easiest to read.
      if (this.#found.size < maxFindings && (before === undefined || before.input.length > input.length))
        this.#found.set(signature, { problem: `${signature}: ${messageOf(error)}`.slice(0, 600), input })
      return null
    }
  }

  #keepAccepted(input: Uint8Array): void {
    const { random } = this.#options
    if (this.accepted.length < maxAccepted) this.accepted.push(input)
    else if (random() < maxAccepted / this.runs) this.accepted[below(random, maxAccepted)] = input
  }

  #judgeWork(input: Uint8Array, runs: number): void {
    this.dearest = Math.max(this.dearest, Math.max(0, runs - freeWork / 10) / (input.length + 64))
    if (runs > freeWork + workPerByte * input.length)
      this.#found.set('work', { problem: `${runs} parts run for ${input.length} bytes`, input })
  }

  async next(input: Uint8Array): Promise<void> {
    const { coverage } = this.#options
    coverage.begin()
    const outcome = await this.#try(input)
    const { isNew, work } = coverage.end()
    this.#judgeWork(input, work)
    if (outcome !== null && 'read' in outcome && outcome.isWhole) this.#keepAccepted(input)
    if (isNew && outcome !== null) this.corpus.push(input)
  }

  async round(): Promise<void> {
    const { random, inputs } = this.#options
    const known = this.corpus.length === 0 ? inputs : this.corpus
    const { form, maxLength } = this.#target
    const source = { random, form, maxLength, words: this.#words }
    for (let i = 0; i < roundSize; i++) {
      // New ones more often: what they lead to is not known yet.
      const input = known[known.length - 1 - Math.floor(known.length * random() ** 2)] as Uint8Array
      await this.next(mutate(input, oneOf(random, known), source))
    }
  }
}

/** Tries a target for so long. Its findings are not shrunk here. */
export const fuzz = async (target: FuzzTarget, options: EngineOptions): Promise<Fuzzed> => {
  const loop = new Loop(target, options)
  const { inputs, milliseconds, random } = options
  options.coverage.forget()
  for (const input of inputs) await loop.next(input)
  const warmUntil = performance.now() + milliseconds / 4
  const end = performance.now() + milliseconds
  let heapBefore: number | null = null
  while (performance.now() < end) {
    await loop.round()
    if (heapBefore === null && performance.now() > warmUntil) heapBefore = heapUsed()
  }
  const growth = heapBefore === null ? 0 : heapUsed() - heapBefore
  const findings = [...loop.findings]
  if (growth > maxGrowthBytes)
    findings.push({ problem: `memory grew by ${growth} bytes`, input: oneOf(random, loop.corpus) })
  const { runs, corpus, accepted, dearest } = loop
  return { runs, parts: options.coverage.parts(), corpus, accepted, findings, workPerByte: dearest }
}

const maxTries = 400

/** Shorter while it fails in the same way. */
export const shrink = async (target: FuzzTarget, { problem, input }: Finding): Promise<Uint8Array> => {
  const [wanted] = problem.split(':')
  const fails = async (bytes: Uint8Array): Promise<boolean> => {
    try {
      await tryInput(target, bytes)
      return false
    } catch (error) {
      return signatureOf(error).split(':')[0] === wanted
    }
  }
  let best = input
  let tries = 0
  for (let size = best.length >> 1; size > 0 && tries < maxTries; size >>= 1)
    for (let at = 0; at + size <= best.length && tries < maxTries; tries++) {
      const shorter = new Uint8Array(Buffer.concat([best.subarray(0, at), best.subarray(at + size)]))
      if (await fails(shorter)) best = shorter
      else at += size
    }
  return best
}

/** The shortest inputs that together reach every part that all of them reach, without those that `seeds` reach. */
export const minimise = async (
  target: FuzzTarget,
  {
    corpus,
    seeds,
    coverage,
    most,
  }: { corpus: readonly Uint8Array[]; seeds: readonly Uint8Array[]; coverage: Coverage; most: number },
): Promise<readonly Uint8Array[]> => {
  const reached = async (input: Uint8Array): Promise<readonly number[]> => {
    coverage.begin()
    await tryInput(target, input).catch(() => {})
    return coverage.reached()
  }
  const seen = new Set<number>()
  for (const seed of seeds) for (const part of await reached(seed)) seen.add(part)
  const kept: Uint8Array[] = []
  for (const input of corpus.toSorted((a, b) => a.length - b.length)) {
    const before = seen.size
    for (const part of await reached(input)) seen.add(part)
    if (seen.size > before && kept.length < most) kept.push(input)
  }
  return kept
}
