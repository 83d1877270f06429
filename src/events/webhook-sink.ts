// Events to an HTTPS endpoint: a JSON array a request, signed, one request at a time. 2xx means taken. What the endpoint refuses for good
// (4xx, but not 408, 425 and 429) is told to the pump, which gives it a number of tries; everything else is tried again for ever.
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { EventsRefused, type OutgoingEvent, type Sink } from './sink.ts'
import { parseSecret, signatureHeader, signBody } from './webhook-signature.ts'

export interface WebhookSinkOptions {
  readonly url: string
  /** A secret of 32 bytes or more. */
  readonly secretFile: string
  /** PEM of CAs; the runtime's own if it is left out. */
  readonly caFile?: string | undefined
  readonly now: () => number
}

const answerMs = 15_000
const again: ReadonlySet<number> = new Set([408, 425, 429])

const post = (
  url: URL,
  options: { readonly agent: Agent; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer },
): Promise<number> =>
  new Promise((resolve, reject) => {
    const { agent, headers, body } = options
    const sent = request(url, { method: 'POST', agent, headers, timeout: answerMs }, response => {
      // What it says is nobody's business here; it is read so that the connection can be used again.
      response.resume()
      response.once('end', () => resolve(response.statusCode ?? 0))
      response.once('error', reject)
    })
    sent.once('timeout', () => sent.destroy(new Error(`no answer for ${answerMs / 1000} s`)))
    sent.once('error', reject)
    sent.end(body)
  })

export const createWebhookSink = (options: WebhookSinkOptions): Sink => {
  const url = new URL(options.url)
  const readSecret = (): string => {
    const secret = parseSecret(readFileSync(options.secretFile, 'utf8'))
    if (secret === null) throw new Error(`${options.secretFile}: expected a secret of 32 bytes or more`)
    return secret
  }
  const makeAgent = (): Agent =>
    new Agent({
      keepAlive: true,
      maxSockets: 1,
      minVersion: 'TLSv1.2',
      ...(options.caFile === undefined ? {} : { ca: readFileSync(options.caFile) }),
    })
  let prepared: { readonly secret: string; readonly agent: Agent } | null = null
  const forget = (): void => {
    prepared?.agent.destroy()
    prepared = null
  }
  const deliver = async (events: readonly OutgoingEvent[]): Promise<number> => {
    prepared ??= { secret: readSecret(), agent: makeAgent() }
    const body = Buffer.from(`[${events.map(({ json }) => json).join(',')}]`, 'latin1')
    const headers = {
      'content-type': 'application/json',
      'content-length': String(body.length),
      'user-agent': 'agentca',
      // The same events have the same key: a receiver that has seen it may answer at once.
      'idempotency-key': `${events[0]!.id}-${events.at(-1)!.sequence}`,
      [signatureHeader]: signBody(prepared.secret, options.now(), body),
    }
    return post(url, { agent: prepared.agent, headers, body })
  }
  return {
    name: 'webhook',
    // A path may carry a key of its receiver's.
    target: url.origin,
    settleMs: 0,
    send: async events => {
      const status = await deliver(events)
      if (status >= 200 && status < 300) return
      if (status >= 400 && status < 500 && !again.has(status)) throw new EventsRefused(`answered ${status}`)
      throw new Error(`answered ${status}`)
    },
    lost: () => false,
    reopen: forget,
    close: async () => forget(),
  }
}
