// The bytes of a `text/event-stream` to its events (HTML Living Standard §9.2), as far as the feed uses it: `event`, `id`, `data`, comments.
// Only what an empty line ended is an event: whatever a cut connection leaves behind is nothing.
import { AgentCaError } from '../base/errors.ts'

export interface StreamEvent {
  readonly event: string
  readonly id: string
  readonly data: string
}

export interface EventStreamReader {
  /** @throws AgentCaError `feed_malformed` for bytes that are no text, or an event beyond the limit: the stream is of no use any more */
  push(chunk: Uint8Array): readonly StreamEvent[]
}

/** A part of a snapshot has about 60 KB. */
const maxEventLength = 4 * 1024 * 1024

const malformed = (what: string): AgentCaError<'feed_malformed'> =>
  new AgentCaError('feed_malformed', `expected an event stream, got ${what}`)

export const createEventStreamReader = (): EventStreamReader => {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  // Owned by this closure: a line without its end, and the fields of an event without its empty line.
  let rest = ''
  let event = ''
  let id = ''
  let data: string[] = []
  let length = 0

  const field = (line: string): void => {
    const colon = line.indexOf(':')
    if (colon === 0) return
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (name === 'event') event = value
    else if (name === 'id') id = value
    else if (name === 'data') data.push(value)
  }

  return {
    push: chunk => {
      try {
        rest += decoder.decode(chunk, { stream: true })
      } catch {
        throw malformed('bytes that are not UTF-8')
      }
      const lines = rest.split(/\r\n|\n|\r(?!$)/)
      rest = lines.pop() as string
      const events: StreamEvent[] = []
      for (const line of lines) {
        length += line.length
        if (line !== '') {
          field(line)
          continue
        }
        if (data.length > 0) events.push({ event, id, data: data.join('\n') })
        event = ''
        data = []
        length = 0
      }
      if (length + rest.length > maxEventLength) throw malformed('an event without an end')
      return events
    },
  }
}
