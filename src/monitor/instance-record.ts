// What one instance did in the last minutes: its rate, where it called from, what it was denied. Bounded in every part.
import { isKnownSource } from './networks.ts'
import { createSeconds, type Seconds } from './seconds.ts'
import type { Weighed } from './weights.ts'

const maxSources = 8
const maxDenials = 64
const maxExamples = 8

/** One digest, as the monitor takes it: equal decisions of a short time at one service, with their number. */
export interface Decision {
  readonly agent: string
  readonly instance: string
  readonly service: string
  readonly action: string
  readonly resourceClass: string
  readonly outcome: 'allow' | 'deny'
  /** Code of the rule that refused; empty where it was allowed. */
  readonly rule: string
  /** Address that the call came from; anything else: it is not known. */
  readonly source: string
  readonly count: number
  /** Milliseconds since the epoch, by this machine's clock. */
  readonly first: number
  readonly last: number
  readonly maxLatencyMs: number
}

/** One address in use: since when without a pause, and until when. */
export interface SourceRun {
  readonly source: string
  first: number
  last: number
}

export interface InstanceRecord extends Weighed {
  readonly id: string
  readonly agent: string
  readonly seconds: Seconds
  lastSeen: number
  /** Addresses, in the order of their last use. */
  sources(): readonly SourceRun[]
  /** Newest last. */
  denials(): readonly Decision[]
  /** The last decisions, newest last: examples for whoever asks why. */
  examples(): readonly Decision[]
  add(decision: Decision, isOwnDenial: boolean): void
}

/** So long without a call from an address ends its run there. */
export const sourcePauseMs = 60_000

export const createInstanceRecord = (id: string, agent: string): InstanceRecord => {
  // Owned by this closure.
  const runs = new Map<string, SourceRun>()
  const denials: Decision[] = []
  const examples: Decision[] = []
  const seconds = createSeconds()

  const follow = ({ source, first, last }: Decision): void => {
    if (!isKnownSource(source)) return
    const run = runs.get(source)
    runs.delete(source)
    if (run === undefined || first - run.last > sourcePauseMs) runs.set(source, { source, first, last })
    else {
      run.first = Math.min(run.first, first)
      run.last = Math.max(run.last, last)
      runs.set(source, run)
    }
    if (runs.size > maxSources) runs.delete(runs.keys().next().value as string)
  }
  const keep = (list: Decision[], decision: Decision, bound: number): void => {
    list.push(decision)
    if (list.length > bound) list.shift()
  }

  return {
    id,
    agent,
    seconds,
    lastSeen: 0,
    sources: () => [...runs.values()],
    denials: () => denials,
    examples: () => examples,
    get weight() {
      return 4000 + 700 * (denials.length + examples.length)
    },
    add(decision, isOwnDenial) {
      const { outcome, count, last } = decision
      this.lastSeen = Math.max(this.lastSeen, last)
      seconds.add(last, outcome === 'allow' ? count : 0, isOwnDenial ? count : 0)
      follow(decision)
      if (isOwnDenial) keep(denials, decision, maxDenials)
      keep(examples, decision, maxExamples)
    },
  }
}
