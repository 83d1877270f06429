// The global brake: rules may hold or revoke so many different agents within a window and no more, so that a wrong rule, or a service
// that lies, does not stop the fleet.
import type { MonitorRules } from '../schema/monitor.ts'

export interface BrakeState {
  /** Different agents that rules acted on within the window. */
  readonly acted: number
  readonly allowed: number
  /** The last action that it stopped within the window; null: none. */
  readonly brakedAt: number | null
}

export interface Brake {
  /** @returns null: the action may not go on; otherwise it counts, and this takes it back where it came to nothing after all */
  take(agent: string, at: number, fleet: number): (() => void) | null
  state(at: number, fleet: number): BrakeState
  /** Somebody looked: the window begins anew. */
  release(): void
}

export const createBrake = (rules: () => MonitorRules['brake']): Brake => {
  // Owned by this closure: agents in the order of the last action. Never more of them than are allowed at once.
  // `actions`: those that stand; another rule's failure must not erase an agent that is held.
  const acted = new Map<string, { at: number; actions: number }>()
  let brakedAt: number | null = null

  const expire = (at: number): void => {
    const since = at - rules().window * 1000
    for (const [agent, last] of acted) {
      if (last.at > since) break
      acted.delete(agent)
    }
    if (brakedAt !== null && brakedAt <= since) brakedAt = null
  }
  const allowedOf = (fleet: number): number => {
    const { percent, atLeast } = rules()
    return Math.max(atLeast, Math.floor((fleet * percent) / 100))
  }
  return {
    take: (agent, at, fleet) => {
      expire(at)
      if (!acted.has(agent) && acted.size >= allowedOf(fleet)) {
        brakedAt = at
        return null
      }
      const entry = acted.get(agent) ?? { at, actions: 0 }
      entry.at = at
      entry.actions++
      acted.delete(agent)
      acted.set(agent, entry)
      return () => {
        if (--entry.actions === 0 && acted.get(agent) === entry) acted.delete(agent)
      }
    },
    state: (at, fleet) => {
      expire(at)
      return { acted: acted.size, allowed: allowedOf(fleet), brakedAt }
    },
    release: () => {
      acted.clear()
      brakedAt = null
    },
  }
}
