// Holds a feed stream open under the backend's own identity: events go to `take` one by one, what was applied is acknowledged, and a stream
// that ends, breaks or does not follow is opened again from where it stood, or from a snapshot.
import { setImmediate as turn } from 'node:timers/promises'
import type { Timing } from '../agent/backoff.ts'
import type { AgentIdentity } from '../agent/identity.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createEventStreamReader } from '../verify/event-stream.ts'
import { encodePosition, type FeedEvent, type FeedPosition, parseFeedEvent } from '../verify/feed-event.ts'
import type { Applied } from '../verify/revocation-state.ts'
import type { CallingIdentity } from './outside/calls.ts'

export interface FeedClientDeps {
  readonly identity: CallingIdentity & Pick<AgentIdentity, 'onChange'>
  readonly log: Log
  readonly subscriber: string
  readonly maxStalenessSeconds: number
  readonly position: () => FeedPosition | null
  /**
   * Applies one event, sockets cut included: what returns here is acknowledged. `asked`: when its stream was asked for, monotonic.
   */
  readonly take: (event: FeedEvent, asked: number) => Applied
  readonly timing: Pick<Timing, 'clock' | 'random' | 'wait'>
}

export interface FeedClient {
  readonly connected: boolean
  /** To be called once nobody is let in any more: it tells the CA so. */
  close(): Promise<void>
}

/** Whoever takes an acknowledgement and never answers must not keep the next one back. */
const ackDeadlineMs = 10_000

/** A first reconnect comes soon, so that a restart of the CA is hardly felt; a thousand of them do not come at once. */
const backoffMs = [200, 500, 1000, 2000, 5000, 10_000]
/** Longer than the CA's heartbeats: a stream that says nothing for so long is dead, whatever TCP thinks. */
const silenceMs = 20_000
/** A snapshot of a million entries comes as fast as it is read, and takes a second: requests are answered in between. */
const atOnceMs = 4
/** A process that ends waits no longer. */
const leaveMs = 2000

export const startFeedClient = (deps: FeedClientDeps): FeedClient => {
  const { identity, log, timing } = deps
  const ended = new AbortController()
  let stream = new AbortController()
  let connected = false
  /** The position that a stream did not follow: from there only a snapshot helps, unless something else has led on since. */
  let unfollowed: string | null = null
  let failures = 0

  const peer = (): string => `spiffe://${identity.current().trustDomain}/service/agentca`
  const known = (): string | null => {
    const position = deps.position()
    return position === null ? null : encodePosition(position)
  }
  const url = (path: string): string => `${identity.current().url}${path}`

  const post = async (body: object, signal: AbortSignal): Promise<void> => {
    const answer = await identity.fetch(url('/v1/feed/ack'), {
      peer: peer(),
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, subscriber: deps.subscriber }),
      signal,
    })
    const said = await answer.text()
    if (answer.status !== 204) throw new AgentCaError('feed_refused', `${answer.status}: ${said.slice(0, 300)}`)
  }

  let acknowledging: Promise<void> | null = null
  let owed: FeedPosition | null = null
  /** The newest position; while one is on its way the next one waits, and only the newest of those is said. */
  const acknowledge = (position: FeedPosition): void => {
    owed = position
    acknowledging ??= (async () => {
      while (owed !== null && !ended.signal.aborted) {
        const id = encodePosition(owed)
        owed = null
        try {
          await post({ id }, AbortSignal.any([ended.signal, AbortSignal.timeout(ackDeadlineMs)]))
        } catch (error) {
          log.debug({ reason: messageOf(error) }, 'an acknowledgement did not arrive')
        }
      }
      acknowledging = null
    })()
  }

  /** What this stream, or one before it, led to: the CA has sent it. */
  let heard: FeedPosition | null = null
  /** Nobody is let in here any more: who waits for a revocation to be applied need not wait for this one. */
  const leave = async (): Promise<void> => {
    if (heard === null) return
    try {
      await post({ id: encodePosition(heard), leaving: true }, AbortSignal.timeout(leaveMs))
    } catch (error) {
      log.debug({ reason: messageOf(error) }, 'the CA was not told that this verifier ends')
    }
  }

  const takeAll = (events: readonly { event: string; id: string; data: string }[], asked: number): void => {
    for (const { event, id, data } of events) {
      if (event === 'end') throw new AgentCaError('feed_ended', `the CA ended the stream: ${data.slice(0, 200)}`)
      const parsed = parseFeedEvent(event, id, data)
      const applied = deps.take(parsed, asked)
      if (applied === 'resync') {
        // Once from the position that is known; when that does not help, everything.
        if (parsed.type !== 'heartbeat' || unfollowed !== null) unfollowed = known()
        throw new AgentCaError('feed_ended', `event ${id} does not follow what is known`)
      }
      if (applied === 'applied') {
        failures = 0
        unfollowed = null
        heard = parsed.position
        if (parsed.type !== 'heartbeat') acknowledge(parsed.position)
      }
    }
  }

  const readStream = async (): Promise<void> => {
    stream = new AbortController()
    const signal = AbortSignal.any([ended.signal, stream.signal])
    const position = known()
    const asked = timing.clock.monotonic()
    const query = new URLSearchParams({
      subscriber: deps.subscriber,
      maxStaleness: String(deps.maxStalenessSeconds),
    })
    const answer = await identity.fetch(url(`/v1/feed?${query}`), {
      peer: peer(),
      headers: {
        accept: 'text/event-stream',
        ...(position === null || position === unfollowed ? {} : { 'last-event-id': position }),
      },
      signal,
    })
    if (answer.status !== 200 || answer.body === null)
      throw new AgentCaError('feed_ended', `the CA answered ${answer.status}: ${(await answer.text()).slice(0, 300)}`)
    const reader = createEventStreamReader()
    let silence = setTimeout(() => stream.abort(new Error('the feed is silent')), silenceMs)
    let begun = timing.clock.monotonic()
    try {
      for await (const chunk of answer.body) {
        clearTimeout(silence)
        silence = setTimeout(() => stream.abort(new Error('the feed is silent')), silenceMs)
        connected = true
        takeAll(reader.push(chunk), asked)
        if (timing.clock.monotonic() - begun < atOnceMs) continue
        await turn()
        begun = timing.clock.monotonic()
      }
    } finally {
      clearTimeout(silence)
      connected = false
      stream.abort()
    }
  }

  // The stream of an older generation would end with its certificate: a new one is opened while the lease of the old one still runs.
  const unfollow = identity.onChange(() => stream.abort(new Error('the identity was renewed')))

  const running = (async () => {
    while (!ended.signal.aborted) {
      try {
        await readStream()
      } catch (error) {
        if (!ended.signal.aborted) log.warn({ reason: messageOf(error) }, 'the feed is interrupted')
      }
      if (ended.signal.aborted) return
      const wait = backoffMs[Math.min(failures++, backoffMs.length - 1)] as number
      await timing.wait(wait * (0.5 + timing.random()), ended.signal).catch(() => {})
    }
  })()

  return {
    get connected() {
      return connected
    },
    close: async () => {
      unfollow()
      ended.abort()
      await running
      await acknowledging
      await leave()
    },
  }
}
