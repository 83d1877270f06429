// The metrics port. Label values come from closed sets (codes, purposes, states): never names, serials or addresses, because every
// new value is a new time series for ever.

export type Labels = Readonly<Record<string, string>>

export interface Metrics {
  /** Adds 1, or `by`, to a counter. */
  count(name: CounterName, labels?: Labels, by?: number): void
  /** Seconds into a histogram. */
  observe(name: HistogramName, seconds: number, labels?: Labels): void
  /** A gauge that is read when metrics are collected. Registering a name again replaces its reader. */
  gauge(name: GaugeName, read: () => readonly GaugeSample[]): void
}

export interface GaugeSample {
  readonly value: number
  readonly labels?: Labels
}

export type CounterName =
  | 'agentca_certificates_issued_total'
  | 'agentca_requests_refused_total'
  | 'agentca_revocations_total'
  | 'agentca_http_requests_total'
  | 'agentca_ocsp_answers_total'
  | 'agentca_crl_published_total'
  | 'agentca_lineage_locks_total'
  | 'agentca_decisions_total'
  | 'agentca_decisions_dropped_total'
  | 'agentca_monitor_findings_total'
  | 'agentca_leavers_total'
  | 'agentca_evidence_total'

export type HistogramName =
  | 'agentca_issuance_seconds'
  | 'agentca_http_request_seconds'
  | 'agentca_crl_build_seconds'
  | 'agentca_feed_applied_seconds'
  | 'agentca_monitor_action_seconds'

export type GaugeName =
  | 'agentca_ledger_writable'
  | 'agentca_signer_ready'
  | 'agentca_signer_starts'
  | 'agentca_fronts_listening'
  | 'agentca_front_starts'
  | 'agentca_front_connections'
  | 'agentca_front_memory_bytes'
  | 'agentca_crl_next_update_seconds'
  | 'agentca_issuer_not_after_seconds'
  | 'agentca_audit_leaves'
  | 'agentca_audit_checkpoint_age_seconds'
  | 'agentca_certificates'
  | 'agentca_feed_head'
  | 'agentca_feed_subscribers'
  | 'agentca_monitor_agents'
  | 'agentca_monitor_braked'
  | 'agentca_orphans'
  | 'agentca_attestor_ready'
  | 'agentca_events_behind'
  | 'agentca_events_dead'

export const silentMetrics: Metrics = { count: () => {}, observe: () => {}, gauge: () => {} }
