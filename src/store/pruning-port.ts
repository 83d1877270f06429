// The port for what has ended long ago: it goes in small steps, and what must be known for ever is kept in a narrower form. The demands of
// ports.ts hold here too. The audit log is never touched.

/** How far a walk through the expired certificates has come. */
export interface ExpiredPlace {
  readonly notAfter: number
  readonly row: number
}

export interface PruningPort {
  /**
   * Looks at the next `limit` certificates that expired before this time, and removes those that nothing needs any more; with the last
   * one of a lineage the lineage goes too. What stays: whatever an unexpired certificate refers to, the newest certificate of each
   * registration, lineages that are locked or an ACME account's, the certificate by which a token's use leads to a lineage that lives.
   * Their keys belong to their lineage for ever. @returns where to go on; null: the end
   */
  certificates(step: {
    readonly before: number
    readonly after: ExpiredPlace | null
    readonly limit: number
  }): Promise<{ readonly removed: number; readonly next: ExpiredPlace | null }>
  /** The same for tokens, in the order of their making: they go with the last certificate that they led to. */
  tokens(step: {
    readonly before: number
    readonly after: number
    readonly limit: number
  }): Promise<{ readonly removed: number; readonly next: number | null }>
}
