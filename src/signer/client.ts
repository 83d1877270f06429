// The signer as the core sees it: SignerPort over the socket, plus what operators ask. No PKCS#11 and no native module in here.
// Reconnects by itself; never repeats a request.
import { createConnection, type Socket } from 'node:net'
import { utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import { createFrameReader, createFrameWriter, encodeFrame, encodeFramePieces, type Frame } from '../base/frames.ts'
import type { Log } from '../base/log.ts'
import { type HsmCalled, SignerError } from './errors.ts'
import type { SignerHealth, SignerPort } from './port.ts'
import { type ErrorHeader, hello, isHello, maxSmallBodyBytes, type RequestHeader, signerErrorOf } from './protocol.ts'

/** Attributes of one private key in the token, as the signer reads them; null where the token does not know the attribute. */
export interface KeyReport {
  readonly label: string
  readonly idHex: string
  readonly curve: 'P-256' | 'P-384' | null
  readonly sign: boolean | null
  readonly sensitive: boolean | null
  readonly extractable: boolean | null
  readonly alwaysSensitive: boolean | null
  readonly neverExtractable: boolean | null
  readonly local: boolean | null
  /** SHA-256 of the SubjectPublicKeyInfo, hex; null where the token shows no one public key for it. */
  readonly spkiSha256Hex: string | null
}

export interface SignerClient extends SignerPort {
  keys(): Promise<readonly KeyReport[]>
  /** Clears the PIN latch and logs in once, with this PIN or else the one in pin-source. @throws SignerError */
  unlock(pin?: string): Promise<SignerHealth>
  /** Before the process is ended on purpose: resolves when what was asked is answered, at the latest after `maxMs`. What is asked until `resume` waits. */
  pause(maxMs: number): Promise<void>
  resume(): void
}

export interface SignerClientDeps {
  readonly socket: string
  readonly clock: Clock
  readonly log: Log
  /** How long a request waits for a connection before it is `signer_unavailable`; default 1000. */
  readonly connectWaitMs?: number
}

interface Pending {
  /** Monotonic; Infinity for what is never answered. */
  readonly expiresAt: number
  /** What the signer may have done by then. */
  readonly hsmCalled: HsmCalled
  resolve(answer: { readonly result: unknown; readonly body: Uint8Array }): void
  reject(error: SignerError): void
}

interface Connection {
  readonly pending: Map<number, Pending>
  sweeping: boolean
  /** Frames, or the pieces of one right after the other. */
  send(bytes: Uint8Array): void
  destroy(): void
}

type Outgoing = RequestHeader extends infer T ? (T extends { id: number } ? Omit<T, 'id'> : never) : never

const empty = new Uint8Array(0)
const retryMs = [20, 50, 100, 200, 500, 1000]
/** The signer's own answer to a passed deadline knows more than ours: leave it time to arrive. */
const answerGraceMs = 150

/** How late the end of a deadline may be noticed: a timer for each call costs as much as its frame. */
const sweepMs = 25

const late = (hsmCalled: HsmCalled): SignerError =>
  new SignerError('signer_deadline', 'the signer did not answer in time', { hsmCalled })

const lost = (): SignerError =>
  new SignerError('signer_unavailable', 'the connection to the signer was lost', { hsmCalled: 'maybe' })

const connect = (path: string): Promise<Connection> =>
  new Promise((resolve, reject) => {
    const socket: Socket = createConnection(path)
    const pending = new Map<number, Pending>()
    const write = createFrameWriter(bytes => {
      if (!socket.destroyed) socket.write(bytes)
    })
    const connection: Connection = { pending, sweeping: false, send: write, destroy: () => socket.destroy() }
    let greeted = false
    const onFrame = ({ header, body }: Frame): void => {
      if (!greeted) {
        if (!isHello(header)) throw new Error('the signer speaks another protocol version')
        greeted = true
        write(encodeFrame(hello, empty))
        socket.setTimeout(0)
        resolve(connection)
        return
      }
      const waiting = pending.get(header.id as number)
      if (!waiting) return
      pending.delete(header.id as number)
      if (header.ok === true) waiting.resolve({ result: header.result, body })
      else waiting.reject(signerErrorOf(header.error as ErrorHeader))
    }
    const read = createFrameReader(() => maxSmallBodyBytes, onFrame)
    const fail = (reason: string): void => {
      socket.destroy()
      reject(new Error(reason))
      for (const one of pending.values()) one.reject(lost())
      pending.clear()
    }
    socket.setTimeout(1000, () => fail('the signer does not answer'))
    socket.on('data', (chunk: Buffer) => {
      try {
        read(chunk)
      } catch (error) {
        fail(messageOf(error))
      }
    })
    socket.on('error', error => fail(error.message))
    socket.on('close', () => fail('closed'))
  })

const downHealth = (sinceMs: number, detail: string): SignerHealth => ({
  state: 'down',
  pinLatched: false,
  keys: [],
  counts: [],
  sessions: { open: 0, busy: 0, queued: 0, stuck: 0 },
  sinceMs,
  detail,
})

export const createSignerClient = ({ socket, clock, log, connectWaitMs = 1000 }: SignerClientDeps): SignerClient => {
  let connection: Connection | null = null
  let connecting: Promise<void> | null = null
  let closed = false
  let paused = false
  let nextId = 1
  let downSinceMs = clock.now()
  let lastError = 'not connected yet'
  let retryTimer: NodeJS.Timeout | null = null

  const connectOnce = (attempt: number): Promise<void> => {
    connecting ??= connect(socket).then(
      made => {
        connecting = null
        if (closed || paused) return made.destroy()
        connection = made
        watchEnd(made)
      },
      error => {
        connecting = null
        lastError = messageOf(error)
        scheduleRetry(attempt + 1)
      },
    )
    return connecting
  }
  const scheduleRetry = (attempt: number): void => {
    if (closed || paused || retryTimer !== null) return
    retryTimer = setTimeout(
      () => {
        retryTimer = null
        if (!paused) void connectOnce(attempt)
      },
      retryMs[Math.min(attempt, retryMs.length - 1)],
    )
    retryTimer.unref()
  }
  const watchEnd = (made: Connection): void => {
    // A request that never gets an answer carries the news of the end: id 0 is never sent.
    made.pending.set(0, {
      expiresAt: Number.POSITIVE_INFINITY,
      hsmCalled: 'no',
      resolve: () => {},
      reject: () => {
        if (connection !== made) return
        connection = null
        downSinceMs = clock.now()
        lastError = 'the connection was lost'
        if (closed) return
        log.warn({ socket }, 'the connection to the signer was lost')
        scheduleRetry(0)
      },
    })
  }

  const connected = async (deadlineMs: number): Promise<Connection> => {
    if (closed) throw new SignerError('signer_unavailable', 'the signer client is closed', { hsmCalled: 'no' })
    const until = clock.monotonic() + Math.min(deadlineMs, connectWaitMs)
    while (connection === null && clock.monotonic() < until && !closed) {
      if (connecting === null && retryTimer === null && !paused) void connectOnce(0)
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    if (connection === null) {
      throw new SignerError('signer_unavailable', `the signer is not reachable: ${lastError}`, {
        hsmCalled: 'no',
        hint: 'agentca hsm status',
      })
    }
    return connection
  }

  const call = async (
    header: Outgoing,
    body: Uint8Array,
    timeoutMs: number,
  ): Promise<{ result: unknown; body: Uint8Array }> => {
    const startedAt = clock.monotonic()
    const made = connection ?? (await connected(timeoutMs))
    const leftMs = timeoutMs - (clock.monotonic() - startedAt)
    if (leftMs <= 0)
      throw new SignerError('signer_deadline', 'the deadline passed before the request was sent', { hsmCalled: 'no' })
    const id = nextId++
    const request = header.op === 'sign' ? { ...header, id, deadlineMs: leftMs } : { ...header, id }
    return await new Promise((resolve, reject) => {
      const expiresAt = clock.monotonic() + leftMs + answerGraceMs
      made.pending.set(id, { expiresAt, hsmCalled: header.op === 'sign' ? 'maybe' : 'no', resolve, reject })
      sweep(made)
      for (const piece of encodeFramePieces(request, body)) made.send(piece)
    })
  }

  /** Looks after the deadlines of a connection while it has questions in flight. */
  const sweep = (made: Connection): void => {
    if (made.sweeping) return
    made.sweeping = true
    setTimeout(() => {
      made.sweeping = false
      const now = clock.monotonic()
      for (const [id, { expiresAt, hsmCalled, reject }] of made.pending) {
        if (expiresAt > now) continue
        made.pending.delete(id)
        reject(late(hsmCalled))
      }
      // The one that stays is never answered: it watches for the end.
      if (made.pending.size > 1) sweep(made)
    }, sweepMs)
  }

  void connectOnce(0)
  return {
    isConnected: () => connection !== null,
    async sign({ purpose, key, tbs, priority, deadlineMs }) {
      const { body } = await call({ op: 'sign', purpose, key, priority, deadlineMs }, tbs, deadlineMs)
      return body.slice()
    },
    async health() {
      try {
        return (await call({ op: 'health' }, empty, 1000)).result as SignerHealth
      } catch (error) {
        return downHealth(downSinceMs, messageOf(error))
      }
    },
    keys: async () => (await call({ op: 'keys' }, empty, 5000)).result as readonly KeyReport[],
    unlock: async pin =>
      (await call({ op: 'unlock' }, pin === undefined ? empty : utf8(pin), 15_000)).result as SignerHealth,
    async pause(maxMs) {
      paused = true
      const left = connection
      if (left === null) return
      connection = null
      lastError = 'the signer is being restarted'
      const until = clock.monotonic() + maxMs
      // The one that stays is never answered: it watches for the end.
      while (left.pending.size > 1 && clock.monotonic() < until) await new Promise(resolve => setTimeout(resolve, 5))
      left.destroy()
    },
    resume() {
      if (!paused) return
      paused = false
      void connectOnce(0)
    },
    async close() {
      closed = true
      if (retryTimer) clearTimeout(retryTimer)
      connection?.destroy()
      await connecting
    },
  }
}
