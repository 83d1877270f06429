// The port of what agents did: kept beside the ledger, in a file of its own, because it is a memory and no record. Demands on every
// implementation: a write may be lost with the machine, a file that cannot be read is begun anew, and nothing here ever decides whether
// a certificate is issued. All calls are synchronous and short.

/** Counts of one hour or one day, by its first millisecond. */
export interface UseCount {
  readonly start: number
  readonly allowed: number
  readonly denied: number
}

/** One thing that an agent does: an action on a class of resources at a service. */
export interface StoredUse {
  readonly service: string
  readonly action: string
  readonly resourceClass: string
  readonly first: number
  readonly last: number
  readonly hours: readonly UseCount[]
  readonly days: readonly UseCount[]
}

/** Peaks of past hours by hour of the week, oldest first. */
export type StoredPeaks = readonly (readonly [hourOfWeek: number, peaks: readonly number[]])[]

export interface StoredAgent {
  readonly name: string
  readonly firstSeen: number
  readonly lastSeen: number
  readonly uses: readonly StoredUse[]
  readonly networks: readonly { readonly network: string; readonly first: number; readonly last: number }[]
  readonly peaks: { readonly agent: StoredPeaks; readonly instance: StoredPeaks }
}

export interface StoredFinding {
  readonly id: string
  readonly at: number
  readonly agent: string
  /** JSON, by monitor's own hand, with its `outcome`. */
  readonly body: string
}

export interface FindingFilter {
  readonly agent?: string | undefined
  readonly since?: number | undefined
  readonly outcomes?: readonly string[] | undefined
  readonly limit: number
}

export interface ActivityPort {
  /** null: never seen, or written in a form that is no longer known. */
  load(agent: string): StoredAgent | null
  /** Who was last seen in [after, before), longest silent first. */
  lastSeenIn(
    after: number,
    before: number,
    limit: number,
  ): readonly { readonly name: string; readonly lastSeen: number }[]
  save(agents: readonly StoredAgent[]): void
  addFinding(finding: StoredFinding): void
  /** Newest first. */
  findings(filter: FindingFilter): readonly StoredFinding[]
  /** Forgets agents not seen since, and findings but the last `keepFindings`, and but as many that acted `actedSince`. */
  prune(step: { readonly seenBefore: number; readonly keepFindings: number; readonly actedSince: number }): void
  close(): void
}
