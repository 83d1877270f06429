// What a torture came to, added up over its worlds, and as the lines it ends with.
import type { PlannedKill } from '../../test/story/crash-plan.ts'
import type { Evidence } from '../../test/story/invariants.ts'

export interface Tally {
  readonly kills: Map<string, number>
  readonly steps: Map<string, number>
  worlds: number
  certificates: number
  orders: number
  revocations: number
  lists: number
  judged: number
  rounds: number
}

export const createTally = (): Tally => ({
  kills: new Map(),
  steps: new Map(),
  worlds: 0,
  certificates: 0,
  orders: 0,
  revocations: 0,
  lists: 0,
  judged: 0,
  rounds: 0,
})

const add = (to: Map<string, number>, name: string): void => void to.set(name, (to.get(name) ?? 0) + 1)

export const countKill = (tally: Tally, { ambush, ordersFirst }: PlannedKill): void => {
  tally.rounds++
  tally.judged++
  add(tally.kills, ambush.kill)
  add(tally.steps, 'step' in ambush ? `${ambush.step}${ordersFirst ? ' in an order' : ''}` : 'any moment')
}

/** Of a world that is over. */
export const countWorld = (tally: Tally, { received, ordered, acknowledged, crls }: Evidence): void => {
  tally.worlds++
  tally.certificates += received.length
  tally.orders += ordered.length
  tally.revocations += acknowledged.length
  tally.lists += crls.length
}

const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')

export interface Outcome {
  readonly seed: number
  readonly minutes: number
  readonly invariants: number
  /** What broke; null: nothing. */
  readonly broken: string | null
}

/** The last one says all that is compared from run to run. */
export const summary = (tally: Tally, { seed, minutes, invariants, broken }: Outcome): readonly string[] => [
  `by step: ${listed(tally.steps)}`,
  `torture: seed ${seed}, ${minutes.toFixed(1)} min, ${tally.rounds} kills (${listed(tally.kills)}) in ${tally.worlds} worlds, ` +
    `${tally.certificates} certificates received, ${tally.orders} of them ordered, ${tally.revocations} revocations, ${tally.lists} lists, ` +
    `${invariants} invariants judged ${tally.judged} times: ${broken === null ? 'none broken' : `BROKEN: ${broken}`}`,
]
