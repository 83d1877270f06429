// The metrics: prom-client behind base's port. Each metric has the labels of the table below and no others, and a bounded number of
// series: what a caller could make grow without end becomes `other`.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { CounterName, GaugeName, GaugeSample, HistogramName, Labels, Metrics } from '../base/metrics.ts'

interface Declaration {
  readonly help: string
  readonly labels: readonly string[]
}

const metric = (help: string, ...labels: readonly string[]): Declaration => ({ help, labels })

const counters: Readonly<Record<CounterName, Declaration>> = {
  agentca_certificates_issued_total: metric('Certificates released', 'kind', 'operation'),
  agentca_requests_refused_total: metric('Requests refused, by the code of the problem', 'operation', 'code'),
  agentca_revocations_total: metric('Revocations carried out', 'by', 'reason'),
  agentca_http_requests_total: metric('HTTP requests answered', 'listener', 'route', 'status'),
  agentca_ocsp_answers_total: metric('OCSP answers', 'answer'),
  agentca_crl_published_total: metric('CRLs published', 'issuer'),
  agentca_lineage_locks_total: metric('Instances locked because their key may have two holders'),
  agentca_decisions_total: metric('Decisions that verifiers reported', 'outcome'),
  agentca_decisions_dropped_total: metric('Decisions that verifiers had no room to report'),
  agentca_monitor_findings_total: metric('What rules found, and what came of it', 'when', 'outcome'),
  agentca_leavers_total: metric('Owners that the leaver webhook was told of', 'result'),
  agentca_evidence_total: metric('Evidence that attestors were asked about', 'attestor', 'outcome'),
}

const histograms: Readonly<Record<HistogramName, Declaration>> = {
  agentca_issuance_seconds: metric('From a request to its answer', 'operation', 'outcome'),
  agentca_http_request_seconds: metric('From a request to the end of its answer', 'listener', 'route'),
  agentca_crl_build_seconds: metric('From reading the entries to a recorded CRL', 'issuer'),
  agentca_feed_applied_seconds: metric(
    'From the commit of a revocation or hold to its acknowledgement by a subscriber',
  ),
  agentca_monitor_action_seconds: metric('From the call that tripped a rule to the durable hold or revocation'),
}

const gauges: Readonly<Record<GaugeName, Declaration>> = {
  agentca_ledger_writable: metric(
    '1 while the ledger can be written: 0 after a transaction failed, until one succeeds',
  ),
  agentca_signer_ready: metric('1 while the signer signs'),
  agentca_signer_starts: metric('Times that the signer process was started'),
  agentca_fronts_listening: metric('Front processes that take connections'),
  agentca_front_starts: metric('Times that front processes were started'),
  agentca_front_connections: metric('Connections to all fronts together'),
  agentca_front_memory_bytes: metric('Resident memory of all fronts together'),
  agentca_crl_next_update_seconds: metric('Seconds until the published CRL expires', 'issuer'),
  agentca_issuer_not_after_seconds: metric('Seconds until the certificate of a CA expires', 'issuer'),
  agentca_audit_leaves: metric('Leaves in the audit log'),
  agentca_audit_checkpoint_age_seconds: metric('Age of the last signed checkpoint'),
  agentca_certificates: metric('Certificates that have not expired', 'state'),
  agentca_feed_head: metric('Number of the last feed entry'),
  agentca_feed_subscribers: metric('Services that follow the feed', 'state'),
  agentca_monitor_agents: metric('Agents in the rolling record'),
  agentca_monitor_braked: metric('1 while the brake stops what rules would do'),
  agentca_events_behind: metric('Audit leaves that a sink of events has not been given', 'sink'),
  agentca_events_dead: metric('Events that a sink refused for good', 'sink'),
  agentca_attestor_ready: metric('1 while the attestor knows all that it needs', 'attestor'),
  agentca_orphans: metric(
    'Registrations that nobody seems to need, as the last round of the watch found them',
    'reason',
  ),
}

/** From a cached answer (0.1 ms) to a request that timed out. */
const buckets = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Far more than codes, routes and CAs make; far less than hurts. */
const maxSeries = 1_000
const maxLabelLength = 128

interface Tally {
  readonly labels: Record<string, string>
  total: number
}

/** By the value of one label after the other; the last step is the series. */
type Step<T> = Map<string | undefined, Step<T> | T>

/**
 * The series of one metric: declared labels only; beyond the bound every value becomes `other`. Looked up without making a text of the
 * labels: prom-client's own look-up costs several times what it counts.
 */
const createSeries = <T>(names: readonly string[], make: (labels: Record<string, string>) => T) => {
  // Both owned by this closure.
  const first: Step<T> = new Map()
  let known = 0
  let other: T | undefined

  const labelsOf = (labels: Labels | undefined): Record<string, string> => {
    const kept: Record<string, string> = {}
    for (const name of names) {
      const value = labels?.[name]
      if (value !== undefined) kept[name] = value.slice(0, maxLabelLength)
    }
    return kept
  }
  const add = (labels: Labels | undefined): T => {
    const kept = labelsOf(labels)
    if (known >= maxSeries) {
      other ??= make(Object.fromEntries(Object.keys(kept).map(name => [name, 'other'])))
      return other
    }
    known++
    const path = names.map(name => labels?.[name])
    const made = make(kept)
    let step = first
    for (const value of path.slice(0, -1)) {
      if (!step.has(value)) step.set(value, new Map())
      step = step.get(value) as Step<T>
    }
    step.set(path.at(-1), made)
    return made
  }
  return (labels: Labels | undefined): T => {
    let found: Step<T> | T | undefined = first
    if (names.length === 0) found = first.get(undefined)
    for (const name of names) {
      found = (found as Step<T>).get(labels?.[name])
      if (found === undefined) break
    }
    return found === undefined ? add(labels) : (found as T)
  }
}

export interface RenderedMetrics extends Metrics {
  /** Everything in the text format of `contentType`; a gauge that cannot be read is left out. */
  render(): Promise<string>
  readonly contentType: string
}

/** Process metrics (memory, CPU, file descriptors, event loop delay, garbage collection) are included. */
export const createMetrics = (): RenderedMetrics => {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const all = <Name extends string, T>(
    table: Readonly<Record<Name, Declaration>>,
    make: (name: Name, declaration: Declaration) => T,
  ): ReadonlyMap<Name, T> => new Map((Object.keys(table) as Name[]).map(name => [name, make(name, table[name])]))

  const counting = all(counters, (name, { help, labels }) => {
    const tallies: Tally[] = []
    new Counter({
      name,
      help,
      labelNames: [...labels],
      registers,
      // Counted here, and told when somebody asks.
      collect() {
        this.reset()
        for (const { labels, total } of tallies) this.inc(labels, total)
      },
    })
    return createSeries(labels, (labels): Tally => {
      const tally = { labels, total: 0 }
      tallies.push(tally)
      return tally
    })
  })
  const observing = all(histograms, (name, { help, labels }) => {
    const histogram = new Histogram({ name, help, labelNames: [...labels], registers, buckets })
    return createSeries(labels, labels => histogram.labels(labels))
  })
  const readers = new Map<GaugeName, () => readonly GaugeSample[]>()
  all(gauges, (name, { help, labels }) => {
    const kept = createSeries(labels, labels => labels)
    return new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers,
      collect() {
        this.reset()
        // A gauge without labels is 0 after a reset, which is not the same as unknown.
        if (labels.length === 0) this.remove()
        for (const { value, labels: given } of samplesOf(readers.get(name))) this.set(kept(given), value)
      },
    })
  })

  return {
    count: (name, labels, by = 1) => {
      counting.get(name)!(labels).total += by
    },
    observe: (name, seconds, labels) => {
      observing.get(name)!(labels).observe(seconds)
    },
    gauge: (name, read) => {
      readers.set(name, read)
    },
    render: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** A reader that fails (a closed ledger, a dead signer) must not take the other metrics with it. */
const samplesOf = (read: (() => readonly GaugeSample[]) | undefined): readonly GaugeSample[] => {
  try {
    return read?.() ?? []
  } catch {
    return []
  }
}
