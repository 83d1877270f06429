// What our feed is held against, a process of its own: a bare TLS server that writes the same bytes to each of its sockets and waits
// until each has answered.
import { constants } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { answerJobs } from './programs.ts'

export type BareFeedJob =
  | { readonly kind: 'listen'; readonly key: string; readonly cert: string; readonly ca: string }
  | { readonly kind: 'send'; readonly frame: string; readonly count: number }

export interface BareFeedResult {
  readonly port: number
  /** Milliseconds from the first write to each answer. */
  readonly answered: readonly number[]
}

// Owned by this process.
const sockets = new Set<TLSSocket>()
let onAnswer: () => void = () => {}
let onConnection: () => void = () => {}

const listen = (job: Extract<BareFeedJob, { kind: 'listen' }>): Promise<number> =>
  new Promise(resolve => {
    const server = createServer(
      {
        ...{ key: job.key, cert: job.cert, ca: job.ca },
        minVersion: 'TLSv1.3',
        secureOptions: constants.SSL_OP_NO_TICKET,
        requestCert: true,
        rejectUnauthorized: true,
      },
      socket => {
        socket.setNoDelay(true)
        sockets.add(socket)
        socket.on('data', () => onAnswer())
        socket.on('error', () => {})
        socket.once('close', () => sockets.delete(socket))
        onConnection()
      },
    )
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })

const connected = async (count: number): Promise<void> => {
  while (sockets.size < count)
    await new Promise<void>(resolve => {
      onConnection = resolve
    })
}

const send = async ({ frame, count }: Extract<BareFeedJob, { kind: 'send' }>): Promise<readonly number[]> => {
  await connected(count)
  const bytes = Buffer.from(frame)
  const begun = performance.now()
  const answered: number[] = []
  const all = new Promise<void>(resolve => {
    onAnswer = () => {
      answered.push(performance.now() - begun)
      if (answered.length === sockets.size) resolve()
    }
  })
  for (const socket of sockets) socket.write(bytes)
  await all
  return answered
}

answerJobs<BareFeedJob, BareFeedResult>(async job =>
  job.kind === 'listen' ? { port: await listen(job), answered: [] } : { port: 0, answered: await send(job) },
)
