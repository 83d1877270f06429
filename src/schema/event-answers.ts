// What `/v1/admin/events` answers with.

export interface EventSinkAnswer {
  readonly sink: 'jsonl' | 'syslog' | 'webhook'
  readonly target: string
  readonly state: 'live' | 'retrying'
  /** Position in the audit log of the next leaf that it is given. */
  readonly next: number
  /** Leaves that it has not been given. */
  readonly behind: number
  /** Events that it refused for good: they are in the audit log only. */
  readonly dead: number
  readonly deliveredAt: string | null
  /** In a row. */
  readonly failures: number
  readonly error: string | null
}

export interface EventDeliveryAnswer {
  readonly sink: EventSinkAnswer['sink']
  readonly delivered: boolean
  readonly error: string | null
}

export interface EventTestAnswer {
  readonly items: readonly EventDeliveryAnswer[]
  readonly dryRun: boolean
}
