// What the feed refuses, by name.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type FeedRefusalCode =
  /** An acknowledgement by somebody who does not subscribe, or did too long ago. */
  | 'subscriber_unknown'
  /** A position that was never sent to this subscriber. */
  | 'position_unknown'
  | 'too_many_subscribers'

export class FeedError extends AgentCaError<FeedRefusalCode> {
  constructor(code: FeedRefusalCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'FeedError'
  }
}
