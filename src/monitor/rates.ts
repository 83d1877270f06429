// Live rates, for `agentca top`: of all calls, of each service, of each agent.
import type { InstanceRecord } from './instance-record.ts'
import type { AgentRecord } from './record.ts'
import { createSeconds, type Seconds } from './seconds.ts'

const shortSeconds = 10
const longSeconds = 60
const maxServices = 1000

export interface Rates {
  readonly perMinute: number
  readonly deniedPerMinute: number
  /** Of the last ten seconds. */
  readonly perSecond: number
}

export interface AgentRate extends Rates {
  readonly agent: string
  /** Those that called within the last minute. */
  readonly instances: number
  readonly lastSeen: number
  /** Services that it called, the latest first. */
  readonly services: readonly string[]
}

export interface ServiceRates extends Rates {
  readonly service: string
}

const ratesOf = (seconds: Seconds, now: number): Rates => {
  const minute = seconds.sum(now, longSeconds)
  const moment = seconds.sum(now, shortSeconds)
  return {
    perMinute: minute.allowed + minute.denied,
    deniedPerMinute: minute.denied,
    perSecond: Math.round((moment.allowed + moment.denied) / shortSeconds),
  }
}

export const rateOf = (agent: AgentRecord, instances: readonly InstanceRecord[], now: number): AgentRate => {
  const since = now - longSeconds * 1000
  return {
    agent: agent.name,
    ...ratesOf(agent.seconds, now),
    instances: instances.filter(({ lastSeen }) => lastSeen > since).length,
    lastSeen: agent.lastSeen,
    services: [...new Set(agent.uses.since(since, now).map(use => use.service))].slice(0, 5),
  }
}

/** Of the last minute. Of most agents only the time of the last call is looked at. */
export const busiest = (agents: Iterable<AgentRecord>, now: number, limit: number): readonly AgentRecord[] => {
  const since = now - longSeconds * 1000
  const busy: (readonly [number, AgentRecord])[] = []
  for (const agent of agents) if (agent.lastSeen > since) busy.push([ratesOf(agent.seconds, now).perMinute, agent])
  return busy
    .filter(([calls]) => calls > 0)
    .sort(([a], [b]) => b - a)
    .slice(0, limit)
    .map(([, agent]) => agent)
}

export interface Totals {
  add(service: string, outcome: 'allow' | 'deny', count: number, at: number): void
  rates(now: number): Rates & { readonly services: readonly ServiceRates[] }
}

export const createTotals = (): Totals => {
  // Owned by this closure; services in the order of their last report.
  const all = createSeconds()
  const services = new Map<string, Seconds>()
  return {
    add: (service, outcome, count, at) => {
      const seconds = services.get(service) ?? createSeconds()
      services.delete(service)
      services.set(service, seconds)
      if (services.size > maxServices) services.delete(services.keys().next().value as string)
      const [allowed, denied] = outcome === 'allow' ? [count, 0] : [0, count]
      all.add(at, allowed, denied)
      seconds.add(at, allowed, denied)
    },
    rates: now => ({
      ...ratesOf(all, now),
      services: [...services]
        .map(([service, seconds]) => ({ service, ...ratesOf(seconds, now) }))
        .filter(({ perMinute }) => perMinute > 0)
        .sort((a, b) => b.perMinute - a.perMinute),
    }),
  }
}
