// Who used to call and calls no more: looked for now and then, told once for each silence.
import type { MonitorRule, RuleOf } from '../schema/monitor.ts'
import type { ActivityPort } from '../store/activity.ts'
import type { RollingRecord } from './record.ts'
import { concerns, type Evidence } from './rules.ts'

export interface SilentAgent {
  readonly agent: string
  readonly evidence: Evidence
}

export interface Silence {
  /** Those whose silence has become too long since the last look. */
  look(rule: RuleOf<'silence'>, now: number): readonly SilentAgent[]
}

export const isSilenceRule = (rule: MonitorRule): rule is RuleOf<'silence'> => rule.when === 'silence'

const perLook = 10_000
const maxTold = 20_000
/** After a start: whoever fell silent while nobody looked. */
const firstLookBackMs = 86_400_000
/** The last call of an agent is written a little later than it was made. */
const writtenLateMs = 300_000

export const createSilence = (
  store: Pick<ActivityPort, 'lastSeenIn'>,
  record: Pick<RollingRecord, 'agent'>,
): Silence => {
  // Owned by this closure: of each rule up to where it looked, and the last call of those that were told.
  const lookedUntil = new Map<string, number>()
  const told = new Map<string, number>()

  const isNew = (rule: RuleOf<'silence'>, agent: string, lastSeen: number): boolean => {
    const key = `${rule.name} ${agent}`
    if (told.get(key) === lastSeen) return false
    told.set(key, lastSeen)
    if (told.size > maxTold) told.delete(told.keys().next().value as string)
    return true
  }
  return {
    look: (rule, now) => {
      const before = now - rule.after * 1000
      const after = (lookedUntil.get(rule.name) ?? before - firstLookBackMs) - writtenLateMs
      lookedUntil.set(rule.name, before)
      return store.lastSeenIn(after, before, perLook).flatMap(stored => {
        const lastSeen = Math.max(stored.lastSeen, record.agent(stored.name)?.lastSeen ?? 0)
        if (lastSeen >= before || !concerns(rule, stored.name) || !isNew(rule, stored.name, lastSeen)) return []
        const silentSeconds = Math.round((now - lastSeen) / 1000)
        const evidence = { lastCall: Math.round(lastSeen), silentSeconds, limitSeconds: rule.after }
        return [{ agent: stored.name, evidence }]
      })
    },
  }
}
