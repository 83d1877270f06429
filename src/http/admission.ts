// Who shakes hands next. A handshake costs as much as several requests: when thousands come at once, those that are begun together all take
// as long as all of them, pass their deadline together, and come again. So each turn of the event loop begins only some; connections that
// have been admitted, and their requests, get the rest of it. Of those who wait the newest and the oldest go in turns: whoever comes beside
// a crowd does not stand behind it, and nobody in it is forgotten. Whoever says nothing holds up nobody: a turn ends whatever its
// handshakes do.
import type { Server, Socket } from 'node:net'

export interface AdmissionOptions {
  /** Handshakes that one turn of the event loop begins: about half a millisecond of it each. */
  readonly perTurn?: number
  /** Who waits longer is cut off: its client gave up long ago. */
  readonly patienceMs?: number
}

export interface Admission {
  /** Connections that wait for their handshake to begin. */
  waiting(): number
}

const defaults = { perTurn: 8, patienceMs: 60_000 }

type ConnectionListener = (socket: Socket) => void

/** Resets of connections that nobody reads yet; `close` follows. */
const ignore = (): void => {}

/**
 * @param server whose `connection` event begins a handshake (node:tls, node:https): what listens for it now hears of a connection when its
 * turn has come
 */
export const admitInTurns = (server: Server, options: AdmissionOptions = {}): Admission => {
  const { perTurn, patienceMs } = { ...defaults, ...options }
  const listeners = server.listeners('connection') as ConnectionListener[]
  server.removeAllListeners('connection')

  // In the order in which they came, and forgotten without a search when they hang up. A Set has no way to its end: the stack has, and
  // names that are in the Set no more are passed over.
  const waiting = new Set<Socket>()
  const stack: Socket[] = []
  let oldestIsNext = true
  let begun = 0
  let turning = false

  const begin = (socket: Socket): void => {
    begun++
    for (const listener of listeners) listener.call(server, socket)
  }
  const newest = (): Socket | undefined => {
    let socket = stack.pop()
    while (socket !== undefined && !waiting.has(socket)) socket = stack.pop()
    return socket
  }
  const next = (): Socket | undefined => {
    const socket = oldestIsNext ? waiting.values().next().value : newest()
    oldestIsNext = !oldestIsNext
    return socket
  }

  function gone(this: Socket): void {
    waiting.delete(this)
  }
  function tooLate(this: Socket): void {
    this.destroy()
  }
  const wait = (socket: Socket): void => {
    waiting.add(socket)
    stack.push(socket)
    socket.on('error', ignore).on('close', gone).setTimeout(patienceMs).on('timeout', tooLate)
  }
  const leave = (socket: Socket): void => {
    waiting.delete(socket)
    socket.off('error', ignore).off('close', gone).setTimeout(0).off('timeout', tooLate)
  }

  const turn = (): void => {
    begun = 0
    for (let socket = next(); socket !== undefined; socket = begun < perTurn ? next() : undefined) {
      leave(socket)
      begin(socket)
    }
    if (waiting.size === 0) stack.length = 0
    turning = waiting.size > 0
    if (turning) setImmediate(turn)
  }
  server.on('connection', socket => {
    if (!turning) setImmediate(turn)
    turning = true
    if (waiting.size === 0 && begun < perTurn) begin(socket)
    else wait(socket)
  })
  return { waiting: () => waiting.size }
}
