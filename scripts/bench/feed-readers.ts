// Readers of a feed, a process of their own: plain TLS sockets that look for one line and, where they are told to, acknowledge it over
// connections that they keep. The same readers answer a bare server on the socket that they read.
import type { Socket } from 'node:net'
import { type ClientCredential, type Line, openLine, openSocket, requestBytes, type Target } from './exchange.ts'
import { answerJobs } from './programs.ts'

export type ReadersJob =
  | {
      readonly kind: 'open'
      readonly target: Target
      readonly credential: ClientCredential
      readonly count: number
      /** After which entry they go on; null: a bare server, which asks for nothing. */
      readonly since: string | null
    }
  /** From now on this text is looked for. */
  | { readonly kind: 'expect'; readonly text: string; readonly acknowledge: boolean }
  /** Until every reader has seen it, and its acknowledgement, if any, was answered. */
  | { readonly kind: 'await' }
  | { readonly kind: 'close' }

export interface ReadersResult {
  /** When each was done, in milliseconds since the epoch. */
  readonly doneAt: readonly number[]
}

const now = (): number => performance.timeOrigin + performance.now()

// Owned by this process: one set of readers at a time.
let sockets: Socket[] = []
let lines: Line[] = []
let onChunk: (chunk: string, reader: number) => void = () => {}
let opened: Extract<ReadersJob, { kind: 'open' }> | null = null
let expected: Promise<ReadersResult> = Promise.resolve({ doneAt: [] })

const handshakesAtOnce = 32
/** Acknowledgements in flight: verifiers keep a connection each, and do not all answer in the same microsecond. */
const ackLines = 32

const openReader = async (job: Extract<ReadersJob, { kind: 'open' }>, reader: number): Promise<void> => {
  const socket = await openSocket(job.target, job.credential)
  sockets[reader] = socket
  socket.setEncoding('latin1')
  let rest = ''
  const first = Promise.withResolvers<void>()
  socket.on('data', (chunk: string) => {
    const text = rest + chunk
    rest = text.slice(-64)
    if (text.includes('heartbeat')) first.resolve()
    onChunk(text, reader)
  })
  socket.on('error', first.reject)
  if (job.since === null) return
  socket.write(`GET /v1/feed?subscriber=reader-${reader}&since=${job.since} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await first.promise
}

const open = async (job: Extract<ReadersJob, { kind: 'open' }>): Promise<void> => {
  opened = job
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < job.count) await openReader(job, next++)
  }
  await Promise.all(Array.from({ length: handshakesAtOnce }, worker))
}

/** New ones each time: the server ends what was idle for a minute. */
const openLines = async ({ target, credential }: Extract<ReadersJob, { kind: 'open' }>): Promise<void> => {
  for (const line of lines) line.close()
  lines = await Promise.all(Array.from({ length: ackLines }, () => openLine(target, credential, false)))
}

const acknowledgement = (reader: number, id: string): Uint8Array =>
  requestBytes('POST', '/v1/feed/ack', {
    type: 'application/json',
    body: Buffer.from(JSON.stringify({ id, subscriber: `reader-${reader}` })),
  })

/** Whoever has something to acknowledge takes the next line that is free. */
const expectText = (text: string, acknowledge: boolean): Promise<ReadersResult> =>
  new Promise((resolve, reject) => {
    const doneAt: number[] = []
    const seen = new Set<number>()
    const waiting: number[] = []
    const free = [...lines]
    const done = (): void => {
      doneAt.push(now())
      if (doneAt.length === sockets.length) resolve({ doneAt })
    }
    const send = (): void => {
      while (free.length > 0 && waiting.length > 0) {
        const line = free.pop()!
        line.send(acknowledgement(waiting.shift()!, text)).then(({ status }) => {
          if (status !== 204) reject(new Error(`an acknowledgement was answered with ${status}`))
          free.push(line)
          done()
          send()
        }, reject)
      }
    }
    onChunk = (chunk, reader) => {
      if (seen.has(reader) || !chunk.includes(text)) return
      seen.add(reader)
      if (!acknowledge) return done()
      if (opened?.since === null) {
        sockets[reader]!.write(acknowledgement(reader, text))
        return done()
      }
      waiting.push(reader)
      send()
    }
  })

answerJobs<ReadersJob, ReadersResult>(async job => {
  if (job.kind === 'open') await open(job)
  if (job.kind === 'expect') {
    if (job.acknowledge && opened !== null && opened.since !== null) await openLines(opened)
    expected = expectText(job.text, job.acknowledge)
    expected.catch(() => {})
  }
  if (job.kind === 'await') return expected
  if (job.kind === 'close') {
    for (const socket of sockets) socket.destroy()
    for (const line of lines) line.close()
    sockets = []
    lines = []
  }
  return { doneAt: [] }
})
