// The rules over what the CA itself recorded: an event in, whom it is about and the evidence out, or null. Pure but for what it looks up.
import type { MonitorRule } from '../schema/monitor.ts'
import type { Enrolments } from './enrolments.ts'
import type { LedgerEvent } from './ledger-events.ts'
import { concerns, type Evidence } from './rules.ts'

export interface LedgerFound {
  /** null: it is about the agent as a whole. */
  readonly instance: string | null
  readonly evidence: Evidence
}

type Seen = Pick<Enrolments, 'count' | 'byToken'>

const judgeEnrolment = (rule: MonitorRule, event: LedgerEvent, seen: Seen): LedgerFound | null => {
  if (rule.when !== 'enrolments' || event.type !== 'enrolled') return null
  const enrolments = seen.count(event.agent, event.at - rule.window * 1000)
  if (enrolments < rule.count) return null
  const evidence = { enrolments, windowSeconds: rule.window, limit: rule.count, source: event.source }
  return { instance: null, evidence }
}

const judgeTokenReuse = (rule: MonitorRule, event: LedgerEvent, seen: Seen): LedgerFound | null => {
  if (rule.when !== 'token-reuse' || event.type !== 'token-reuse') return null
  const instances = seen.byToken(event.tokenId)
  return {
    instance: instances.at(-1) ?? null,
    evidence: { token: event.tokenId ?? 'unknown', source: event.source, instances },
  }
}

const judgeConflict = (rule: MonitorRule, event: LedgerEvent): LedgerFound | null => {
  if (rule.when !== 'lineage-conflict' || event.type !== 'lineage-conflict') return null
  const { instance, reason, source } = event
  return { instance, evidence: { conflict: reason, source, instance } }
}

/** @returns null where the rule has nothing to say of this event */
export const judgeEvent = (rule: MonitorRule, event: LedgerEvent, seen: Seen): LedgerFound | null =>
  concerns(rule, event.agent)
    ? (judgeEnrolment(rule, event, seen) ?? judgeTokenReuse(rule, event, seen) ?? judgeConflict(rule, event))
    : null
