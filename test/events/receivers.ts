// Receivers of events for tests: a syslog server over TLS that parses strictly, an HTTPS endpoint that answers what it is told to, and the
// parts of a pump over a real ledger in memory.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpsServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { createLeaf } from '../../src/audit/leaf.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createEvents, type Events, type EventsConfig } from '../../src/events/events.ts'
import { selfSigned } from '../http/harness.ts'
import { makeLedger } from '../store/make-ledger.ts'

export const secret = 'f'.repeat(64)

export const scratch = () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-events-'))
  const { key, chain } = selfSigned('localhost')
  const file = (name: string, content: string): string => {
    writeFileSync(join(directory, name), content, { mode: 0o600 })
    return join(directory, name)
  }
  return {
    directory,
    key,
    chain,
    keyFile: file('key.pem', key),
    caFile: file('ca.pem', chain),
    secretFile: file('secret', `${secret}\n`),
    file,
    path: (name: string) => join(directory, name),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}
export type Scratch = ReturnType<typeof scratch>

export const nowhere: EventsConfig = {
  shape: 'agentca',
  only: null,
  except: new Set(),
  jsonl: null,
  syslog: null,
  webhook: null,
}

export const fast = { pollMs: 10, backoffMs: [10, 50], keepEveryMs: 0 } as const

/** A log of its own, and the events of it. */
export const eventWorld = (ledger = makeLedger()) => {
  const append = async (...names: readonly string[]): Promise<void> => {
    for (const name of names)
      await ledger.audit.append([
        createLeaf('revoked', { at: Date.now(), who: 'operator:alice', source: '192.0.2.7' }, `agent:${name}`, {
          why: `größe ${name} 🎈`,
        }),
      ])
  }
  const start = (config: Partial<EventsConfig>, pace: Parameters<typeof createEvents>[0]['pace'] = fast): Events =>
    createEvents(
      {
        clock: systemClock,
        log: silentLog,
        metrics: silentMetrics,
        caId: 'ca-1',
        audit: ledger.audit,
        cursors: ledger.eventCursors,
        random: Math.random,
        pace,
      },
      { ...nowhere, ...config },
    )
  return { ledger, append, start }
}

export interface Message {
  readonly priority: number
  readonly time: string
  readonly host: string
  readonly app: string
  readonly processId: string
  readonly messageId: string
  readonly data: string
  readonly text: string
}

/** RFC 5424 §6, strictly: throws for anything else. */
export const parseMessage = (text: string): Message => {
  const form =
    /^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) (\[[!-~]{1,32}(?: [!-~]{1,32}="[^"\\\]]*")*\]) (.*)$/s
  const found = form.exec(text)
  if (found === null) throw new Error(`no RFC 5424 message: ${text.slice(0, 100)}`)
  const [, priority, time, host, app, processId, messageId, data, message] = found as unknown as string[]
  return {
    priority: Number(priority),
    time: time!,
    host: host!,
    app: app!,
    processId: processId!,
    messageId: messageId!,
    data: data!,
    text: message!,
  }
}

/** RFC 5425 §4.3: frames off a stream; throws where a length is none. @returns what is left over */
export const takeFrames = (bytes: Buffer, take: (message: string) => void): Buffer => {
  let rest = bytes
  for (;;) {
    const space = rest.indexOf(0x20)
    if (space < 0) return rest
    const digits = rest.toString('latin1', 0, space)
    if (!/^[1-9]\d{0,6}$/.test(digits)) throw new Error(`no MSG-LEN: ${digits.slice(0, 20)}`)
    const length = Number(digits)
    if (rest.length < space + 1 + length) return rest
    take(rest.toString('utf8', space + 1, space + 1 + length))
    rest = rest.subarray(space + 1 + length)
  }
}

export const syslogServer = async ({ key, chain }: Pick<Scratch, 'key' | 'chain'>, port = 0) => {
  const messages: Message[] = []
  const faults: string[] = []
  const sockets = new Set<TLSSocket>()
  const server = createTlsServer({ key, cert: chain }, socket => {
    sockets.add(socket)
    let rest: Buffer = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      try {
        rest = takeFrames(Buffer.concat([rest, chunk]), message => messages.push(parseMessage(message)))
      } catch (error) {
        faults.push(String(error))
      }
    })
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    messages,
    faults,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

export interface Delivery {
  readonly body: Buffer
  readonly signature: string | undefined
  readonly key: string | undefined
}

/** @param answer the status of each delivery, by its number from 0 */
export const webhookServer = async (
  { key, chain }: Pick<Scratch, 'key' | 'chain'>,
  answer: (n: number, body: Buffer) => number | 'cut',
) => {
  const deliveries: Delivery[] = []
  const server: Server = createHttpsServer({ key, cert: chain }, async (request, response) => {
    const body = await buffer(request)
    const status = answer(deliveries.length, body)
    const { 'agentca-signature': signature, 'idempotency-key': id } = request.headers
    deliveries.push({ body, signature: signature as string | undefined, key: id as string | undefined })
    if (status === 'cut') request.socket.destroy()
    else response.writeHead(status).end('whatever')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    deliveries,
    close: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
