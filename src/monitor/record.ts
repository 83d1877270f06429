// The rolling record: what every agent and instance did lately and what it usually does. Bounded: whoever was silent for longest leaves
// memory first, an agent with what was learned of it goes to the activity file and comes back from there. Bounded in bytes too: some agents
// have few habits and some have hundreds.
import type { ActivityPort, StoredAgent } from '../store/activity.ts'
import type { Activity } from './activity.ts'
import { createInstanceRecord, type Decision, type InstanceRecord } from './instance-record.ts'
import { type NetworkLengths, networkOf } from './networks.ts'
import { createSeconds, type Seconds } from './seconds.ts'
import { createPeaks, type Peaks } from './statistics.ts'
import { createUses, type Novelty, type Uses } from './uses.ts'
import { createWeights, type Weighed } from './weights.ts'

const hourMs = 3_600_000
const rateSeconds = 60
const hourStart = (at: number): number => at - (at % hourMs)
const maxNetworks = 64

export interface AgentRecord extends Weighed {
  readonly name: string
  readonly firstSeen: number
  lastSeen: number
  readonly seconds: Seconds
  readonly uses: Uses
  readonly networks: ReadonlyMap<string, { first: number; last: number }>
  /** The most calls in a minute of past hours, by the agent as a whole and by the busiest of its instances. */
  readonly peaks: { readonly agent: Peaks; readonly instance: Peaks }
  /** What happens in this hour is not usual: nothing is learned from it. */
  doNotLearn(at: number): void
}

/** What one decision told that was not known. */
export interface Sighting {
  readonly agent: AgentRecord
  readonly instance: InstanceRecord
  readonly decision: Decision
  readonly novelty: Novelty
  /** Null: the network was known, or the source is not. */
  readonly newNetwork: string | null
}

export interface RecordLimits {
  readonly agents: number
  readonly instances: number
  /** Of agents and instances together, about. */
  readonly bytes: number
}

export const usualLimits: RecordLimits = { agents: 10_000, instances: 20_000, bytes: 512 * 1024 * 1024 }

export interface RollingRecord extends Activity {
  add(decision: Decision): Sighting
  agents(): Iterable<AgentRecord>
  agent(name: string): AgentRecord | null
  instance(id: string): InstanceRecord | null
  instancesOf(agent: string): readonly InstanceRecord[]
  /** Writes some of the agents that changed since they were last written: at most so many, and none after `bytes` of them. @returns how many are left */
  save(limit: { readonly agents: number; readonly bytes: number }): number
  readonly size: { readonly agents: number; readonly instances: number; readonly bytes: number }
}

export interface RecordDeps {
  readonly store: Pick<ActivityPort, 'load' | 'save'>
  readonly now: () => number
  readonly networks: () => NetworkLengths
  readonly limits: RecordLimits
}

/** Rules that refuse because of what was done to the agent, or what the verifier itself lacks: no deed of the agent's own. */
export const isOwnDenial = ({ outcome, rule }: Pick<Decision, 'outcome' | 'rule'>): boolean =>
  outcome === 'deny' && !/^(?:certificate|principal|state)_/.test(rule)

interface Kept extends AgentRecord {
  readonly networks: Map<string, { first: number; last: number }>
  readonly instances: Set<string>
  learn(at: number, instance: Seconds): void
  stored(): StoredAgent
}

const createAgentRecord = (name: string, at: number, stored: StoredAgent | null): Kept => {
  const seconds = createSeconds()
  const uses = createUses(stored?.uses)
  const networks = new Map(stored?.networks.map(({ network, first, last }) => [network, { first, last }]))
  const peaks = { agent: createPeaks(stored?.peaks.agent), instance: createPeaks(stored?.peaks.instance) }
  // The hour that runs.
  let hour = { start: hourStart(at), agent: 0, instance: 0 }
  let unusualHour = Number.NaN

  return {
    name,
    firstSeen: stored?.firstSeen ?? at,
    lastSeen: stored?.lastSeen ?? at,
    seconds,
    uses,
    networks,
    peaks,
    instances: new Set(),
    get weight() {
      return 5000 + uses.weight + 200 * networks.size + 200 * (peaks.agent.size + peaks.instance.size)
    },
    doNotLearn: when => {
      unusualHour = hourStart(when)
    },
    learn: (when, instance) => {
      const start = hourStart(when)
      if (start < hour.start) return
      if (start > hour.start) {
        if (hour.agent > 0 && hour.start !== unusualHour) {
          peaks.agent.learn(hour.start, hour.agent)
          peaks.instance.learn(hour.start, hour.instance)
        }
        hour = { start, agent: 0, instance: 0 }
      }
      const total = (tally: { allowed: number; denied: number }): number => tally.allowed + tally.denied
      hour.agent = Math.max(hour.agent, total(seconds.sum(when, rateSeconds)))
      hour.instance = Math.max(hour.instance, total(instance.sum(when, rateSeconds)))
    },
    stored() {
      return {
        name,
        firstSeen: this.firstSeen,
        lastSeen: this.lastSeen,
        uses: uses.stored(),
        networks: [...networks].map(([network, seen]) => ({ network, ...seen })),
        peaks: { agent: peaks.agent.stored(), instance: peaks.instance.stored() },
      }
    },
  }
}

const seeNetwork = (agent: Kept, network: string | null, { outcome, first, last }: Decision): string | null => {
  if (network === null) return null
  const known = agent.networks.get(network)
  // Whoever was refused must not make the place known that it comes from.
  if (outcome === 'deny') return known === undefined ? network : null
  if (known !== undefined) {
    known.last = Math.max(known.last, last)
    return null
  }
  agent.networks.set(network, { first, last })
  if (agent.networks.size > maxNetworks) agent.networks.delete(agent.networks.keys().next().value as string)
  return network
}

export const createRecord = ({ store, now, networks, limits }: RecordDeps): RollingRecord => {
  // Owned by this closure; agents and instances in the order of their last call.
  const agents = new Map<string, Kept>()
  const instances = new Map<string, InstanceRecord>()
  const unsaved = new Set<string>()
  const weights = createWeights()

  const touchAgent = (name: string, at: number): Kept => {
    const agent = agents.get(name) ?? createAgentRecord(name, at, store.load(name))
    agents.delete(name)
    agents.set(name, agent)
    if (agents.size > limits.agents) forgetAgent(agents.values().next().value as Kept)
    return agent
  }
  const forgetAgent = (agent: Kept): void => {
    if (unsaved.delete(agent.name)) store.save([agent.stored()])
    for (const id of [...agent.instances]) forgetInstance(agent, instances.get(id))
    agents.delete(agent.name)
    weights.drop(agent)
  }
  const forgetInstance = (agent: Kept | undefined, instance: InstanceRecord | undefined): void => {
    if (instance === undefined) return
    instances.delete(instance.id)
    agent?.instances.delete(instance.id)
    weights.drop(instance)
  }
  const touchInstance = (agent: Kept, id: string): InstanceRecord => {
    const instance = instances.get(id) ?? createInstanceRecord(id, agent.name)
    instances.delete(id)
    instances.set(id, instance)
    agent.instances.add(id)
    if (instances.size > limits.instances) {
      const oldest = instances.values().next().value as InstanceRecord
      forgetInstance(agents.get(oldest.agent), oldest)
    }
    return instance
  }

  return {
    add: decision => {
      const { outcome, count, first, last } = decision
      const agent = touchAgent(decision.agent, first)
      const instance = touchInstance(agent, decision.instance)
      const own = isOwnDenial(decision)
      const counted = { allowed: outcome === 'allow' ? count : 0, denied: own ? count : 0 }
      agent.lastSeen = Math.max(agent.lastSeen, last)
      agent.seconds.add(last, counted.allowed, counted.denied)
      instance.add(decision, own)
      agent.learn(last, instance.seconds)
      unsaved.add(agent.name)
      const denied = outcome === 'deny' ? count : 0
      const sighting = {
        agent,
        instance,
        decision,
        novelty: agent.uses.add(decision, { allowed: counted.allowed, denied }, first, last),
        newNetwork: seeNetwork(agent, networkOf(decision.source, networks()), decision),
      }
      weights.weigh(agent)
      weights.weigh(instance)
      while (weights.total > limits.bytes && agents.size > 1) forgetAgent(agents.values().next().value as Kept)
      return sighting
    },
    agents: () => agents.values(),
    agent: name => agents.get(name) ?? null,
    instance: id => instances.get(id) ?? null,
    instancesOf: name =>
      [...(agents.get(name)?.instances ?? [])].flatMap(id => {
        const instance = instances.get(id)
        return instance === undefined ? [] : [instance]
      }),
    activityOf: (name, since) => {
      const known = agents.get(name)
      if (known !== undefined) return known.uses.since(since, now())
      const stored = store.load(name)
      return stored === null ? [] : createUses(stored.uses).since(since, now())
    },
    save: limit => {
      const some: Kept[] = []
      let bytes = 0
      for (const name of unsaved) {
        if (some.length >= limit.agents || bytes >= limit.bytes) break
        unsaved.delete(name)
        const agent = agents.get(name)
        if (agent === undefined) continue
        some.push(agent)
        bytes += agent.weight
      }
      store.save(some.map(agent => agent.stored()))
      return unsaved.size
    },
    get size() {
      return { agents: agents.size, instances: instances.size, bytes: weights.total }
    },
  }
}
