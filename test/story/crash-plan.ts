// Which kills a crash story plays, from a seed: every numbered step with the core and with both processes killed, those around a signature
// with the signer alone, the steps of issuance also while nobody but ACME clients is served, and moments that no step marks.
import type { Step } from '../../src/base/steps.ts'
import type { Ambush } from './crash-server.ts'

export interface PlannedKill {
  readonly ambush: Ambush
  /** ACME clients are served first, so that the step is one of an order's; the others begin when it is over. */
  readonly ordersFirst: boolean
}

/** Uniform in [0, 1). */
export type Random = () => number

/** Mulberry32: small, and the same everywhere for a seed. */
export const createRandom = (seed: number): Random => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const below = (random: Random, bound: number): number => Math.floor(random() * bound)

const issuanceSteps = ([1, 2, 3, 4, 5, 6] as const).map(n => `issuance ${n}` as const)
const acmeSteps = ([1, 2, 3, 4] as const).map(n => `acme ${n}` as const)
export const allSteps: readonly Step[] = [
  ...issuanceSteps,
  ...acmeSteps,
  ...([1, 2] as const).map(n => `revocation ${n}` as const),
  ...([1, 2, 3, 4, 5] as const).map(n => `crl ${n}` as const),
]

/** What is lost when the signer dies alone: signatures that were just asked for, or just made. */
const signerSteps: readonly Step[] = ['issuance 4', 'issuance 5', 'crl 2', 'crl 3']

/** ACME clients of a story, each with so many orders a round; every second one makes an account of its own. */
export const orderClients = 4
export const ordersPerClient = 2

/** One account may be revoked before it has ordered anything. */
const certainOrders = (orderClients - 1) * ordersPerClient

/** How often a step is certain to be reached while everybody is served once. */
const certainTimes = (step: Step, ordersFirst: boolean): number => {
  if (step === 'acme 1') return orderClients / 2
  if (step.startsWith('acme') || ordersFirst) return certainOrders
  return step.startsWith('issuance') ? 30 : step.startsWith('revocation') ? 3 : 1
}

interface Kind {
  readonly step: Step | null
  readonly kill: Ambush['kill']
  readonly ordersFirst: boolean
}

const at = (kill: Ambush['kill'], steps: readonly (Step | null)[], ordersFirst = false): readonly Kind[] =>
  steps.map(step => ({ step, kill, ordersFirst }))

/** The first tier, which thirty kills have room for, meets every step once. */
const tiers: readonly (readonly Kind[])[] = [
  [
    ...at('core', allSteps),
    ...at('signer', signerSteps),
    ...at('core', ['issuance 4', 'issuance 5', 'issuance 6'], true),
    ...at('signer', ['issuance 4'], true),
    ...at('core', [null]),
    ...at('signer', [null]),
  ],
  [
    ...at('both', allSteps),
    ...at('core', ['issuance 1', 'issuance 2', 'issuance 3'], true),
    ...at('both', ['issuance 4', 'issuance 6'], true),
    ...at('signer', ['issuance 5'], true),
    ...at('both', [null, null]),
    ...at('core', [null]),
  ],
]

/** About as long as a round lasts on a quiet machine. */
const momentMs = 1200

const shuffled = <T>(values: readonly T[], random: Random): readonly T[] => {
  const left = [...values]
  return values.map(() => left.splice(below(random, left.length), 1)[0]!)
}

/** Without end; after all tiers everything has been met once. */
export function* planKills(random: Random): Generator<PlannedKill, never> {
  for (;;)
    for (const { step, kill, ordersFirst } of tiers.flatMap(kinds => shuffled(kinds, random))) {
      const when =
        step === null
          ? { afterMs: below(random, momentMs) }
          : { step, nth: 1 + below(random, certainTimes(step, ordersFirst)) }
      yield { ambush: { ...when, kill }, ordersFirst }
    }
}

/** `core at issuance 4, time 7, in an order`. */
export const killText = ({ ambush, ordersFirst }: PlannedKill): string => {
  const where = 'step' in ambush ? `at ${ambush.step}, time ${ambush.nth}` : `after ${ambush.afterMs} ms`
  return `${ambush.kill} ${where}${ordersFirst ? ', in an order' : ''}`
}
