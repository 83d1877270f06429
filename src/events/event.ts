// One leaf of the audit log as an event for other systems: the same facts under names that do not change, with how much it matters. Pure.
// Which systems get it, and in which shape, is the sinks' business.
import { fromUtf8 } from '../base/bytes.ts'
import type { Leaf } from '../store/records.ts'

export const severities = ['info', 'low', 'medium', 'high', 'critical'] as const
export type Severity = (typeof severities)[number]

export interface AuditEvent {
  /** `<CA id>/<position in the log>`: the same event has the same id however often it arrives. */
  readonly id: string
  /** Position in the audit log. */
  readonly sequence: number
  /** RFC 3339. */
  readonly time: string
  readonly kind: string
  readonly severity: Severity
  /** `agent:billing`, `issuer:issuing-1`, `owner:finance`. */
  readonly subject: string | null
  /** Who did it: `operator:alice`, a SPIFFE ID, `token:<id>`, `system`. */
  readonly actor: string
  readonly requestId: string | null
  /** Address that the request came from. */
  readonly source: string | null
  readonly facts: Readonly<Record<string, unknown>>
}

/** What is not here is `info`: the daily work of a CA. A kind that is new here must not raise an alarm by itself. */
const severityByKind: Readonly<Record<string, Severity>> = {
  request_refused: 'low',
  evidence_refused: 'low',
  refusals_summary: 'low',
  release_refused: 'low',
  certificate_orphaned: 'low',
  profile_reloaded: 'low',
  orphan_warned: 'low',
  token_revoked: 'low',
  instance_unlocked: 'medium',
  registration_changed: 'low',
  registration_retired: 'medium',
  owner_gone: 'medium',
  leaver_unknown: 'low',
  revoked: 'medium',
  issuer_added: 'medium',
  issuer_state_changed: 'medium',
  ceremony_performed: 'medium',
  clock_accepted: 'medium',
  feed_epoch_changed: 'medium',
  policy_activated: 'medium',
  scopes_changed: 'low',
  signer_gap_settled: 'medium',
  operator_recovered: 'high',
  ledger_restored: 'high',
  maintenance_ended: 'medium',
  token_reuse: 'high',
  lineage_locked: 'high',
  instance_locked: 'high',
  clock_jump: 'high',
  monitor_finding: 'high',
  monitor_action_failed: 'high',
  signer_counts_mismatch: 'critical',
}

export const severityOf = (kind: string): Severity => severityByKind[kind] ?? 'info'

interface LeafContent extends Readonly<Record<string, unknown>> {
  readonly who?: unknown
  readonly req?: unknown
  readonly src?: unknown
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null)

/** @param caId whose log it is */
export const eventOf = (leaf: Pick<Leaf, 'index' | 'event' | 'at' | 'subject' | 'bytes'>, caId: string): AuditEvent => {
  const { who, req, src, at: _at, event: _event, sub: _sub, ...facts } = JSON.parse(fromUtf8(leaf.bytes)) as LeafContent
  return {
    id: `${caId}/${leaf.index}`,
    sequence: leaf.index,
    time: new Date(leaf.at).toISOString(),
    kind: leaf.event,
    severity: severityOf(leaf.event),
    subject: leaf.subject,
    actor: textOrNull(who) ?? 'unknown',
    requestId: textOrNull(req),
    source: textOrNull(src),
    facts,
  }
}
