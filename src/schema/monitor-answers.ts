// What `/v1/admin/activity` and `/v1/admin/monitor` answer with: one file that the server writes by and the command line reads by. Times
// are RFC 3339 text.

export interface UseAnswer {
  readonly service: string
  readonly action: string
  readonly resourceClass: string
  readonly allowed: number
  readonly denied: number
  readonly first: string
  readonly last: string
}

export interface ActivityAnswer {
  readonly agent: string
  readonly since: string
  /** Newest first. Counts are of whole hours within the last two days, of whole days before. */
  readonly uses: readonly UseAnswer[]
}

export interface RatesAnswer {
  readonly perMinute: number
  readonly deniedPerMinute: number
  /** Of the last ten seconds. */
  readonly perSecond: number
}

export interface AgentRateAnswer extends RatesAnswer {
  readonly agent: string
  readonly instances: number
  readonly services: readonly string[]
  readonly lastSeen: string
}

export interface StrangerAnswer {
  readonly source: string
  readonly service: string
  readonly calls: number
  readonly first: string
  readonly last: string
}

export interface TopAnswer {
  readonly at: string
  readonly total: RatesAnswer
  readonly services: readonly (RatesAnswer & { readonly service: string })[]
  readonly agents: readonly AgentRateAnswer[]
  /** Calls of the last hour of whom no identity was established, by address. */
  readonly strangers: readonly StrangerAnswer[]
}

export interface MonitorStatusAnswer {
  /** null: there is no file, and nothing is watched. */
  readonly rulesFile: string | null
  readonly rules: number
  /** Of those, how many only report. */
  readonly dry: number
  readonly brake: {
    /** Different agents that rules held or revoked within the window, and how many they may. */
    readonly acted: number
    readonly allowed: number
    readonly windowSeconds: number
    /** When it last stopped an action within the window. */
    readonly brakedAt: string | null
  }
  /** In memory; of others what they did is on disk. */
  readonly agents: number
  readonly instances: number
  /** Decisions that verifiers had no room to report, and findings that were not written into the audit log, since the start. */
  readonly dropped: number
  readonly unwritten: number
}

export interface RuleAnswer {
  readonly name: string
  readonly when: string
  readonly action: 'alert' | 'hold' | 'revoke'
  readonly on: 'instance' | 'agent'
  readonly dryRun: boolean
  readonly agents: readonly string[]
  readonly except: readonly string[]
  readonly cooldownSeconds: number
  /** The rest of it. */
  readonly settings: Readonly<Record<string, unknown>>
}

export interface FindingAnswer {
  readonly id: string
  readonly at: string
  readonly rule: string
  readonly when: string
  readonly action: 'alert' | 'hold' | 'revoke'
  readonly on: 'instance' | 'agent'
  readonly agent: string
  readonly instance: string | null
  readonly outcome: 'alert' | 'hold' | 'revoke' | 'dry-run' | 'braked' | 'failed'
  readonly evidence: Readonly<Record<string, unknown>>
  readonly cure: string
}
