// What every receiver of events is to the pump that feeds it.

export interface OutgoingEvent {
  readonly sequence: number
  readonly id: string
  readonly kind: string
  readonly severityId: number
  readonly time: string
  /** One JSON document without a line break, all ASCII: what every form of delivery carries. */
  readonly json: string
}

/** It will never take these, however often they come. */
export class EventsRefused extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'EventsRefused'
  }
}

export interface Sink {
  readonly name: 'jsonl' | 'syslog' | 'webhook'
  /** Where it goes, for people. */
  readonly target: string
  /** How long after `send` a failure may still show that something did not arrive: until then it is kept to be sent again. */
  readonly settleMs: number
  /**
   * Resolves when they were taken. One call at a time, in the order of the log; the same ones may come again.
   * @throws EventsRefused for good; anything else: try again
   */
  send(events: readonly OutgoingEvent[]): Promise<void>
  /** Whether what was sent before is certainly lost, or may be. Asked before a sink is believed. */
  lost(): boolean
  /** Files and secrets are looked up anew. */
  reopen(): void
  close(): Promise<void>
}

/** Characters beyond ASCII as escapes: every receiver counts and splits them the same way. */
export const asciiJson = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u007f-\uffff]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
