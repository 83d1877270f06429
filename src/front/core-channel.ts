// The front's one connection to the core: calls out, answers back, and what the core tells its fronts. A channel that ends never comes
// back: the front ends with it, and the core starts another.
import type { Socket } from 'node:net'
import { messageOf } from '../base/errors.ts'
import { createFrameReader, createFrameWriter, encodeFrame, type Frame } from '../base/frames.ts'
import type { SeenPeer } from '../http/seen-peer.ts'
import { connectToCore } from './connect.ts'
import {
  encodeSeen,
  type FromCore,
  type FromFront,
  fromCoreLimit,
  type Possession,
  parseFromCore,
  protocolVersion,
} from './protocol.ts'

export interface Answer {
  readonly status: number
  /** Names and values in turns. */
  readonly headers: readonly string[]
  readonly body: Uint8Array
}

export interface Call {
  /** As `open` named it. */
  readonly connection: number
  readonly path: string
  readonly possession: Possession
  readonly body: Uint8Array
}

export interface CoreChannel {
  /** @returns the number by which calls name this connection */
  open(seen: SeenPeer): number
  shut(connection: number): void
  /** `onAnswer` is called once, or never when the channel ends before. @returns false: the core does not keep up, and was not asked */
  call(call: Call, onAnswer: (answer: Answer) => void): boolean
  tell(message: FromFront): void
  end(): void
}

export interface ChannelEvents {
  readonly onMessage: (message: FromCore, body: Uint8Array) => void
  readonly onEnd: (reason: string) => void
}

export interface CorePlace {
  /** Path of the core's socket. */
  readonly socket: string
  readonly secret: string
}

const empty = new Uint8Array(0)
/** Of requests, which are a kilobyte each: more than this is waiting for a core that stands still. */
const maxBuffered = 16_777_216

export const helloOf = ({ secret }: CorePlace) => ({ t: 'hello', version: protocolVersion, secret }) as const

/** Connects at once; what is said before the connection stands is sent then. */
export const openCoreChannel = (place: CorePlace, { onMessage, onEnd }: ChannelEvents): CoreChannel => {
  let socket: Socket | null = null
  // Said before the connection stands.
  const early: Uint8Array[] = []
  // Owned by this closure, by the number of the call.
  const waiting = new Map<number, (answer: Answer) => void>()
  let lastCall = 0
  let lastConnection = 0
  let ended = false
  const write = createFrameWriter(bytes => {
    if (socket === null) early.push(bytes)
    else if (!socket.destroyed) socket.write(bytes)
  })
  const tell = (message: FromFront, body: Uint8Array = empty): void => write(encodeFrame(message, body))

  const end = (reason: string): void => {
    if (ended) return
    ended = true
    socket?.destroy()
    onEnd(reason)
  }
  const onFrame = ({ header, body }: Frame): void => {
    const message = parseFromCore(header)
    if (message === null) throw new Error('the core speaks another protocol')
    if (message.t === 'answer') {
      const onAnswer = waiting.get(message.id)
      waiting.delete(message.id)
      onAnswer?.({ status: message.status, headers: message.headers, body })
    } else onMessage(message, body)
  }
  const read = createFrameReader(fromCoreLimit, onFrame)
  const begin = (connected: Socket): void => {
    if (ended) return void connected.destroy()
    socket = connected
    connected.on('data', (chunk: Buffer) => {
      try {
        read(chunk)
      } catch (error) {
        end(messageOf(error))
      }
    })
    connected.on('error', error => end(error.message))
    connected.on('close', () => end('the core is gone'))
    for (const bytes of early.splice(0)) connected.write(bytes)
  }
  connectToCore(place.socket).then(begin, error => end(messageOf(error)))
  tell({ ...helloOf(place), for: 'calls' })

  return {
    open: seen => {
      const connection = ++lastConnection
      const { header, body } = encodeSeen(seen)
      tell({ t: 'open', connection, ...header }, body)
      return connection
    },
    shut: connection => tell({ t: 'shut', connection }),
    call: ({ body, ...call }, onAnswer) => {
      if (socket !== null && socket.writableLength > maxBuffered) return false
      const id = ++lastCall
      waiting.set(id, onAnswer)
      tell({ t: 'call', id, ...call }, body)
      return true
    },
    tell,
    end: () => end('asked to end'),
  }
}
