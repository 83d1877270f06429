// The rules over one decision: what was seen in, evidence out, or null. Pure; times are the decision's own, so that a digest that came
// late is judged as of when it happened. Whole numbers only: evidence goes into the audit log.
import type { LeafValue } from '../audit/leaf.ts'
import { matchesWildcard, type Star } from '../base/wildcard.ts'
import type { MonitorRule, RuleKind, RuleOf } from '../schema/monitor.ts'
import type { Decision, SourceRun } from './instance-record.ts'
import { isKnownSource, type NetworkLengths, networkOf } from './networks.ts'
import { isOwnDenial, type Sighting } from './record.ts'
import type { Tally } from './seconds.ts'
import { upperLimit, usualRate } from './statistics.ts'

export type Evidence = { readonly [key: string]: LeafValue }

const minuteSeconds = 60
const maxExamples = 5
/** Digests of two verifiers may be dated apart by as much as they took on their way. */
const overlapMs = 1000

const total = ({ allowed, denied }: Tally): number => allowed + denied

/** `*` stands for anything. */
const star: Star = { atLeast: 0, never: null }
export const matches = (pattern: string, text: string): boolean => matchesWildcard(pattern, text, star)
const matchesAny = (patterns: readonly string[], text: string): boolean => patterns.some(each => matches(each, text))

export const concerns = ({ agents, except }: MonitorRule, agent: string): boolean =>
  matchesAny(agents, agent) && !matchesAny(except, agent)

const exampleOf = ({ service, action, resourceClass, outcome, rule, source, count, last }: Decision): LeafValue => ({
  service,
  action,
  resourceClass,
  outcome,
  ...(rule === '' ? {} : { rule }),
  source,
  count,
  at: Math.round(last),
})
export const examplesOf = (decisions: readonly Decision[]): readonly LeafValue[] =>
  decisions.slice(-maxExamples).map(exampleOf)

const rate = (rule: RuleOf<'rate'>, { agent, instance, decision }: Sighting): Evidence | null => {
  const seconds = rule.on === 'agent' ? agent.seconds : instance.seconds
  const calls = total(seconds.sum(decision.last, minuteSeconds))
  if (calls <= rule.floor) return null
  const usual = usualRate(agent.peaks[rule.on].like(decision.last), rule.history)
  const limit = usual === null ? rule.ceiling : upperLimit(usual, rule.deviations, rule.floor)
  if (calls <= limit) return null
  return {
    calls,
    windowSeconds: minuteSeconds,
    limit,
    baseline:
      usual === null
        ? 'too little history: the ceiling'
        : {
            hours: usual.samples,
            median: Math.round(usual.median),
            deviation: Math.round(usual.deviation),
            deviations: Math.round(rule.deviations),
          },
    examples: examplesOf(instance.examples()),
  }
}

const thingOf = ({ service, action, resourceClass }: Decision): string => `${service} ${action} ${resourceClass}`

const denials = (rule: RuleOf<'denials'>, { agent, instance, decision }: Sighting): Evidence | null => {
  if (!isOwnDenial(decision)) return null
  const seconds = rule.on === 'agent' ? agent.seconds : instance.seconds
  const { denied } = seconds.sum(decision.last, rule.window)
  if (denied < rule.count) return null
  const since = decision.last - rule.window * 1000
  const recent = instance.denials().filter(({ last }) => last > since)
  const distinct = new Set(recent.map(thingOf)).size
  if (distinct < rule.distinct) return null
  return { denied, distinct, windowSeconds: rule.window, limit: rule.count, examples: examplesOf(recent) }
}

const isLearned = (learnSeconds: number, { agent, decision }: Sighting): boolean =>
  agent.firstSeen <= decision.first - learnSeconds * 1000

const firstUse = (rule: RuleOf<'first-use'>, sighting: Sighting): Evidence | null => {
  const { novelty, decision, agent } = sighting
  const isNew = rule.of === 'service' ? novelty.service : novelty.action
  if (!isNew || !isLearned(rule.learn, sighting)) return null
  return { of: rule.of, knownSince: Math.round(agent.firstSeen), examples: examplesOf([decision]) }
}

const newNetwork = (rule: RuleOf<'new-network'>, sighting: Sighting): Evidence | null => {
  const { newNetwork: network, decision, agent } = sighting
  if (network === null || !isLearned(rule.learn, sighting)) return null
  return {
    network,
    known: [...agent.networks.keys()].filter(each => each !== network).slice(-10),
    examples: examplesOf([decision]),
  }
}

const clocks = new Map<string, Intl.DateTimeFormat>()
/** @returns `mon`, `08:30` */
export const localTime = (at: number, timezone: string): readonly [day: string, time: string] => {
  let clock = clocks.get(timezone)
  if (clock === undefined) {
    const parts = { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const
    clock = new Intl.DateTimeFormat('en-GB', { ...parts, timeZone: timezone })
    clocks.set(timezone, clock)
  }
  const found = Object.fromEntries(clock.formatToParts(at).map(({ type, value }) => [type, value]))
  return [(found.weekday as string).slice(0, 3).toLowerCase(), `${found.hour}:${found.minute}`]
}

const dayMs = 86_400_000
/** After midnight the night belongs to the day it began on. */
export const isWithinHours = (
  rule: Pick<RuleOf<'hours'>, 'days' | 'from' | 'until' | 'timezone'>,
  at: number,
): boolean => {
  const { days, from, until, timezone } = rule
  const [day, time] = localTime(at, timezone)
  const has = (each: string): boolean => days.some(known => known === each)
  if (from <= until) return has(day) && from <= time && time < until
  if (time >= from) return has(day)
  return time < until && has(localTime(at - dayMs, timezone)[0])
}

const hours = (rule: RuleOf<'hours'>, { decision }: Sighting): Evidence | null => {
  if (isWithinHours(rule, decision.last)) return null
  const [day, time] = localTime(decision.last, rule.timezone)
  const { days, from, until, timezone } = rule
  return { day, time, timezone, allowed: `${days.join(',')} ${from}-${until}`, examples: examplesOf([decision]) }
}

const twoAddresses = (
  rule: RuleOf<'two-addresses'>,
  { instance, decision }: Sighting,
  networks: NetworkLengths,
): Evidence | null => {
  const runs = instance.sources()
  if (runs.length < 2 || !isKnownSource(decision.source)) return null
  const placeOf = (source: string): string | null => (rule.by === 'network' ? networkOf(source, networks) : source)
  const here = runs.at(-1) as SourceRun
  const since = decision.last - rule.window * 1000
  const other = runs.find(
    run =>
      placeOf(run.source) !== placeOf(here.source) &&
      run.last > since &&
      Math.min(run.last, here.last) - Math.max(run.first, here.first) > overlapMs,
  )
  if (other === undefined) return null
  const told = ({ source, first, last }: SourceRun) => ({ source, from: Math.round(first), until: Math.round(last) })
  return { addresses: [told(other), told(here)], windowSeconds: rule.window, examples: examplesOf(instance.examples()) }
}

const decoy = (rule: RuleOf<'decoy'>, { decision }: Sighting): Evidence | null => {
  const given: readonly (readonly [readonly string[] | undefined, string])[] = [
    [rule.services, decision.service],
    [rule.actions, decision.action],
    [rule.resourceClasses, decision.resourceClass],
  ]
  const isTouched = given.every(([patterns, value]) => patterns === undefined || matchesAny(patterns, value))
  return isTouched ? { decoy: thingOf(decision), examples: examplesOf([decision]) } : null
}

type DecisionRuleKind = Exclude<RuleKind, 'enrolments' | 'lineage-conflict' | 'token-reuse' | 'silence'>

const judges: {
  readonly [K in DecisionRuleKind]: (rule: RuleOf<K>, sighting: Sighting, networks: NetworkLengths) => Evidence | null
} = {
  rate,
  denials,
  'first-use': firstUse,
  'new-network': newNetwork,
  hours,
  'two-addresses': twoAddresses,
  decoy,
}

const isDecisionRule = (rule: MonitorRule): rule is RuleOf<DecisionRuleKind> => Object.hasOwn(judges, rule.when)

/** @returns null where the rule has nothing to say of this decision */
export const judge = (rule: MonitorRule, sighting: Sighting, networks: NetworkLengths): Evidence | null => {
  if (!isDecisionRule(rule) || !concerns(rule, sighting.agent.name)) return null
  const { decision } = sighting
  if (decision.outcome === 'deny' && !isOwnDenial(decision)) return null
  const judged = judges[rule.when] as (
    rule: MonitorRule,
    sighting: Sighting,
    networks: NetworkLengths,
  ) => Evidence | null
  return judged(rule, sighting, networks)
}
