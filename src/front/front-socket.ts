// The core's end of what fronts say: a unix socket that only this user may open, on which only processes that know a secret are heard.
// A connection carries calls, or one caller's stream of HTTP; what either asks goes to the application.
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer, type Socket } from 'node:net'
import { messageOf } from '../base/errors.ts'
import { createFrameReader, createFrameWriter, encodeFrame, type Frame, maxHeaderBytes } from '../base/frames.ts'
import type { Log } from '../base/log.ts'
import { defaultTimeouts, listenOnSocket, serverOptions } from '../http/listener.ts'
import { setConnection } from '../http/presented-certificate.ts'
import { exchange } from './exchange.ts'
import { decodeSeen, type FromCore, type FromFront, fromFrontLimit, parseFromFront } from './protocol.ts'

/** A front's connection for calls, as the core sees it. */
export interface FrontChannel {
  tell(message: FromCore, body?: Uint8Array): void
  destroy(): void
  isOpen(): boolean
}

/** One front that was started. */
export interface ExpectedFront {
  onOpen(channel: FrontChannel): void
  onMessage(message: FromFront): void
  onEnd(): void
}

export interface FrontSocketDeps {
  readonly handler: RequestListener
  readonly log: Log
  /** By the secret that it was given. @returns null: nobody was */
  readonly expected: (secret: string) => ExpectedFront | null
}

export interface FrontSocket {
  listen(path: string): Promise<void>
  close(): Promise<void>
}

const empty = new Uint8Array(0)
const helloMs = 10_000
/** Of one front: more than it lets in. */
const maxOpened = 20_000

class FrontProtocolError extends Error {}

/** Exactly one frame, so that what follows it stays in the stream. @returns what reads it, null while it is not whole yet */
const createFirstFrame = (socket: Socket): (() => Frame | null) => {
  let head: Buffer | null = null
  const checkHead = (bytes: Buffer): void => {
    const [length, headerLength] = [bytes.readUInt32BE(0), bytes.readUInt32BE(4)]
    const most = 4 + headerLength + fromFrontLimit({ t: 'hello' })
    if (headerLength > maxHeaderBytes || length < 4 + headerLength || length > most)
      throw new FrontProtocolError('not a frame of a front')
  }
  return () => {
    if (head === null) {
      head = socket.read(8) as Buffer | null
      if (head === null) return null
      checkHead(head)
    }
    const rest = socket.read(head.readUInt32BE(0) - 4) as Buffer | null
    if (rest === null) return null
    let frame: Frame | null = null
    const read = createFrameReader(fromFrontLimit, whole => {
      frame = whole
    })
    read(Buffer.concat([head, rest]))
    return frame
  }
}

const serveCalls = (socket: Socket, front: ExpectedFront, { handler, log }: FrontSocketDeps): void => {
  // What stands for each connection of a caller. Owned by this closure.
  const opened = new Map<number, object>()
  const write = createFrameWriter(bytes => {
    if (!socket.destroyed) socket.write(bytes)
  })
  const tell: FrontChannel['tell'] = (message, body = empty) => write(encodeFrame(message, body))

  const answerCall = ({ id, connection, path, possession }: Extract<FromFront, { t: 'call' }>, body: Uint8Array) => {
    const standIn = opened.get(connection)
    if (standIn === undefined) throw new FrontProtocolError('a call on a connection that is not open')
    exchange(handler, { path, possession, body, connection: standIn }, reply =>
      tell({ t: 'answer', id, status: reply.status, headers: reply.headers }, reply.body),
    )
  }
  const onFrame = ({ header, body }: Frame): void => {
    const message = parseFromFront(header)
    if (message === null || message.t === 'hello') throw new FrontProtocolError('not a message of a front')
    if (message.t === 'call') answerCall(message, body)
    else if (message.t === 'shut') opened.delete(message.connection)
    else if (message.t === 'open') {
      const seen = decodeSeen(message, body)
      if (seen === null || opened.size >= maxOpened) throw new FrontProtocolError('not a connection of a front')
      const standIn = {}
      setConnection(standIn, seen)
      opened.set(message.connection, standIn)
    } else front.onMessage(message)
  }
  const read = createFrameReader(fromFrontLimit, onFrame)
  socket.on('data', (chunk: Buffer) => {
    try {
      read(chunk)
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'the connection of a front was closed')
      socket.destroy()
    }
  })
  socket.once('close', () => front.onEnd())
  front.onOpen({ tell, destroy: () => socket.destroy(), isOpen: () => !socket.destroyed })
}

export const createFrontSocket = (deps: FrontSocketDeps): FrontSocket => {
  const { handler, log, expected } = deps
  // Never listens: it is given connections that said whose they are. A front keeps them for as long as its caller keeps its own.
  const streams = createHttpServer(serverOptions({ ...defaultTimeouts, keepAliveMs: 0 }), handler)
  const sockets = new Set<Socket>()

  const greet = (socket: Socket, { header, body }: Frame): void => {
    const message = parseFromFront(header)
    const front = message?.t === 'hello' ? expected(message.secret) : null
    if (message?.t !== 'hello' || front === null) throw new FrontProtocolError('nobody who was started')
    socket.setTimeout(0)
    if (message.for === 'calls') serveCalls(socket, front, deps)
    else {
      const seen = decodeSeen(message, body)
      if (seen === null) throw new FrontProtocolError('not a connection of a front')
      setConnection(socket, seen)
      streams.emit('connection', socket)
    }
  }
  const server = createServer({ noDelay: true }, socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket)).on('error', () => socket.destroy())
    socket.setTimeout(helloMs, () => socket.destroy())
    const readFirst = createFirstFrame(socket)
    const onReadable = (): void => {
      try {
        const frame = readFirst()
        if (frame === null) return
        socket.off('readable', onReadable)
        greet(socket, frame)
      } catch (error) {
        log.warn({ reason: messageOf(error) }, 'somebody else on the socket of the fronts')
        socket.destroy()
      }
    }
    socket.on('readable', onReadable)
  })
  return {
    listen: path => listenOnSocket(server, path),
    close: async () => {
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      streams.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
