// What the CA thinks of this identity, heard as it happens: an agent reads its own state from the feed and knows that it was revoked,
// locked, held or released before its next call would show it. Where there is no feed for it (a service hears its verifier's, an older
// CA has none, another process of this instance holds the stream) it asks now and then. What it hears it does not decide alone: only
// a revocation for good ends the identity here, everything else makes the renewal loop ask the CA.
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import type { Socket } from 'node:net'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { principalOf } from '../pki/spiffe.ts'
import { createEventStreamReader } from '../verify/event-stream.ts'
import { type FeedEvent, parseFeedEvent } from '../verify/feed-event.ts'
import type { Timing } from './backoff.ts'
import { endpointOf, refusalOf } from './ca-call.ts'
import type { CaCall } from './ca-route.ts'
import { type Credential, tlsMaterialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import { checkIsCa } from './server-identity.ts'

export interface OwnStateDeps {
  readonly url: () => string
  readonly current: () => Credential
  readonly callCa: CaCall
  readonly timing: Timing
  readonly log: Log
  /** The CA said so: it is over. */
  readonly revoked: (error: AgentError) => void
  /** Something may have changed: the renewal loop shall ask. @param refusal the CA's own, if it was one */
  readonly doubt: (refusal: AgentError | null) => void
  /** The CA let this identity in. */
  readonly good: () => void
}

export interface OwnState {
  /** The identity has another certificate: the stream of the old one ends with it. */
  renewed(): void
}

/** Twice as long as the CA's heartbeats may be apart: a stream that says nothing for so long is dead. */
const silenceMs = 60_000
const pollEveryMs = 60_000
const pacesMs = [500, 1000, 2000, 5000, 10_000, 30_000]
/** A refusal lasts until somebody ends it; this often it is looked at. */
const refusedMs = 5000
const maxRefusalBytes = 65_536

/** What a word of the CA means for this certificate. */
type Word = 'nothing' | 'doubt' | { readonly revoked: string }

const mentions = (changes: readonly { readonly serial: string }[], serial: string): boolean =>
  changes.some(each => each.serial === serial)

/** @param serial of the certificate that the stream was opened with */
export const wordFor = (event: FeedEvent, serial: string): Word => {
  switch (event.type) {
    case 'snapshot':
      // Why it was revoked the snapshot does not say: another holder of the lineage may have replaced it.
      if (mentions(event.revoked, serial) || mentions(event.held, serial)) return 'doubt'
      return event.principals.some(({ state }) => state !== 'active') ? 'doubt' : 'nothing'
    case 'revoke':
      if (!mentions(event.changes, serial)) return 'nothing'
      return event.reason === 'superseded' ? 'doubt' : { revoked: `${event.by}: ${event.reason ?? 'no reason given'}` }
    case 'hold':
    case 'release':
      return mentions(event.changes, serial) ? 'doubt' : 'nothing'
    case 'agent':
      return event.principal.state === 'active' ? 'nothing' : 'doubt'
    default:
      return 'nothing'
  }
}

const revocation = (serial: string, why: string): AgentError =>
  AgentError.of('revoked', `the CA revoked certificate ${serial} (${why})`, {
    hint: 'find out why (agentca cert show), then enrol again with fresh evidence: agentca token create',
    facts: { serial },
  })

const readText = async (answer: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of answer.setEncoding('utf8')) {
    text += chunk as string
    if (text.length > maxRefusalBytes) break
  }
  return text
}

/** The program's own work decides how long it runs, not this stream. */
const inBackground = (socket: Socket): void => {
  socket.unref()
}

/** The answer with the stream, over a connection that was verified to end at the CA. @throws AgentError of a refusal; network errors */
const openStream = (credential: Credential, caUrl: string, signal: AbortSignal): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    request(
      endpointOf(caUrl, '/v1/feed'),
      {
        ...tlsMaterialOf(credential),
        agent: false,
        minVersion: 'TLSv1.3',
        checkServerIdentity: checkIsCa(credential.trustDomain, () => {}),
        headers: { accept: 'text/event-stream' },
        signal,
      },
      answer => {
        const { statusCode = 0, headers } = answer
        if (statusCode === 200) resolve(answer)
        else readText(answer).then(text => reject(refusalOf(statusCode, text, headers['retry-after'])), reject)
      },
    )
      .on('socket', inBackground)
      .on('error', reject)
      .end()
  })

const isRefusal = (error: unknown): error is AgentError =>
  error instanceof AgentError && error.origin === 'ca' && (error.status === 401 || error.status === 403)

/** There is nothing to listen to: the CA has no feed, or none for this caller, or its feed has as many readers as it takes. */
const isWithoutFeed = (error: unknown): boolean =>
  error instanceof AgentError &&
  (error.code === 'too_many_subscribers' || error.status === 404 || error.status === 405 || error.status === 501)

/** Watches until aborted. */
export const watchOwnState = (deps: OwnStateDeps, signal: AbortSignal): OwnState => {
  const { timing, log } = deps
  let connection = new AbortController()
  let source: 'feed' | 'questions' = principalOf(deps.current().spiffeId)?.kind === 'agent' ? 'feed' : 'questions'
  const listens = source === 'feed'

  const obey = (word: Word, serial: string): void => {
    if (word === 'nothing' || serial !== deps.current().facts.serial) return
    if (word === 'doubt') deps.doubt(null)
    else deps.revoked(revocation(serial, word.revoked))
  }

  const listen = async (): Promise<void> => {
    connection = new AbortController()
    const credential = deps.current()
    const { serial } = credential.facts
    const ending = AbortSignal.any([signal, connection.signal])
    let silence: NodeJS.Timeout | undefined
    const heard = (): void => {
      clearTimeout(silence)
      silence = setTimeout(() => connection.abort(new Error('the feed is silent')), silenceMs)
      silence.unref()
    }
    heard()
    try {
      const answer = await openStream(credential, deps.url(), ending)
      const reader = createEventStreamReader()
      for await (const chunk of answer as AsyncIterable<Uint8Array>) {
        heard()
        for (const { event, id, data } of reader.push(chunk)) {
          const parsed = parseFeedEvent(event, id, data)
          const word = wordFor(parsed, serial)
          if (parsed.type === 'snapshot' && word === 'nothing') deps.good()
          obey(word, serial)
          if (parsed.type === 'end') throw new AgentCaError('feed_ended', parsed.code)
        }
      }
    } finally {
      clearTimeout(silence)
      connection.abort()
    }
  }

  const ask = async (): Promise<void> => {
    const credential = deps.current()
    const { key, cert, ca } = tlsMaterialOf(credential)
    const target = { url: deps.url(), roots: ca, trustDomain: credential.trustDomain, client: { key, cert } }
    await deps.callCa(target, { method: 'GET', path: '/v1/self', signal })
    deps.good()
  }

  /** @returns how long to wait before the next try */
  const pauseAfter = (error: unknown, failures: number): number => {
    const drawn = 0.5 + timing.random()
    if (isRefusal(error)) {
      // An expired certificate is the loop's own business, at its own time.
      if (error.code !== 'certificate_expired') deps.doubt(error)
      return refusedMs * drawn
    }
    if (isWithoutFeed(error)) source = 'questions'
    if (error instanceof AgentCaError && error.code === 'feed_ended' && error.message === 'replaced')
      source = 'questions'
    if (source === 'questions') return pollEveryMs * drawn
    return (pacesMs[Math.min(failures, pacesMs.length - 1)] as number) * drawn
  }

  const run = async (): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      const begun = timing.clock.monotonic()
      let pause = pollEveryMs * (0.5 + timing.random())
      try {
        await (source === 'feed' ? listen() : ask())
        if (source === 'feed') pause = 500
      } catch (error) {
        if (signal.aborted) return
        failures = timing.clock.monotonic() - begun > silenceMs ? 0 : failures + 1
        pause = connection.signal.reason === renewedReason ? 0 : pauseAfter(error, failures)
        log.debug({ reason: messageOf(error) }, "the identity's own state is not heard")
      }
      await timing.idle(pause, signal).catch(() => {})
    }
  }
  run().catch(error => log.error({ err: error }, `the identity's own state is no longer watched: ${messageOf(error)}`))

  return {
    renewed: () => {
      if (listens) source = 'feed'
      connection.abort(renewedReason)
    },
  }
}

const renewedReason = new Error('the identity was renewed')
