// What a rule found, what came of it, and the command that undoes it.
import { createLeaf } from '../audit/leaf.ts'
import type { MonitorRule } from '../schema/monitor.ts'
import type { StoredFinding } from '../store/activity.ts'
import type { LeafDraft } from '../store/records.ts'
import type { Evidence } from './rules.ts'

/** `dry-run`, `braked`: it would have acted. `failed`: it tried, and the ledger said no. */
export type Outcome = 'alert' | 'hold' | 'revoke' | 'dry-run' | 'braked' | 'failed'

export interface Finding {
  readonly id: string
  readonly at: number
  readonly rule: string
  readonly when: MonitorRule['when']
  readonly action: MonitorRule['action']
  readonly on: MonitorRule['on']
  readonly agent: string
  /** Null: it is about the agent as a whole. */
  readonly instance: string | null
  readonly outcome: Outcome
  readonly evidence: Evidence
  /** The command that undoes what was done, or looks at what was found. */
  readonly cure: string
}

/** What is held or revoked. */
export type Target = { readonly by: 'agent' | 'instance'; readonly value: string }

export const targetOf = ({ on, agent, instance }: Pick<Finding, 'on' | 'agent' | 'instance'>): Target =>
  on === 'instance' && instance !== null ? { by: 'instance', value: instance } : { by: 'agent', value: agent }

export const cureOf = (outcome: Outcome, finding: Pick<Finding, 'on' | 'agent' | 'instance' | 'action'>): string => {
  const { by, value } = targetOf(finding)
  if (outcome === 'hold') return by === 'agent' ? `agentca agent release ${value}` : `agentca instance unlock ${value}`
  if (outcome === 'revoke') return `agentca token create --agent ${finding.agent}`
  if (outcome === 'braked') return 'agentca monitor release-brake'
  return `agentca activity ${finding.agent}`
}

/** One line, for whoever reads the change itself: `hold` and `revoke` carry it as their reason. */
export const whyOf = ({ rule, when, id, evidence }: Pick<Finding, 'rule' | 'when' | 'id' | 'evidence'>): string => {
  const facts = Object.entries(evidence)
    .filter(([, value]) => typeof value === 'string' || typeof value === 'number')
    .map(([key, value]) => `${key} ${value}`)
  return `rule ${rule} (${when}), finding ${id}: ${facts.join(', ')}`.slice(0, 500)
}

/** The actor of everything that a rule does. */
export const actorOf = (rule: string): string => `monitor:${rule}`

export const findingLeaf = (finding: Finding): LeafDraft => {
  const { at, rule, agent, instance, ...facts } = finding
  const subjects = instance === null ? `agent:${agent}` : [`agent:${agent}`, `instance:${instance}`]
  return createLeaf('monitor_finding', { at, who: actorOf(rule) }, subjects, {
    ...facts,
    rule,
    instance: instance ?? undefined,
  })
}

export const failureLeaf = ({ id, rule, agent }: Finding, at: number, reason: string): LeafDraft =>
  createLeaf('monitor_action_failed', { at, who: actorOf(rule) }, `agent:${agent}`, {
    id,
    reason: reason.slice(0, 300),
  })

export const storedFinding = (finding: Finding): StoredFinding => ({
  id: finding.id,
  at: finding.at,
  agent: finding.agent,
  body: JSON.stringify(finding),
})

export const readFinding = ({ body }: StoredFinding): Finding => JSON.parse(body) as Finding
