// What every HTTP server of agentca has in common, whatever it speaks over: time-outs against slow clients, and an end that lets the
// answers in flight finish. Plain servers (status, ops, the admin socket) are made here, TLS ones in tls-server.ts.

import { lstat, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http'
import { type AddressInfo, connect, type Server as NetServer, type Socket } from 'node:net'

export interface Timeouts {
  /** From the start of a request to the end of its headers. */
  readonly headersMs: number
  /** From the start of a request to the end of its body. body.ts asks for less, so that it can answer with a problem document. */
  readonly requestMs: number
  /** Between two requests of a connection. */
  readonly keepAliveMs: number
  /** How often the first two are looked at. */
  readonly checkMs: number
}

/**
 * Connections that the kernel keeps until they are taken: of a fleet that starts at once, more than the 511 that Node asks for. A unix
 * socket refuses the next one.
 */
const backlog = 4_096

/** Agents keep connections, so they live longer than the minute that load balancers commonly hold them. */
export const defaultTimeouts: Timeouts = { headersMs: 10_000, requestMs: 20_000, keepAliveMs: 75_000, checkMs: 5_000 }

/** File descriptors are shared with the ledger and the signer: a flood of connections must not take them. A fleet that starts may have them. */
export const maxConnections = 12_000

export const serverOptions = (timeouts: Timeouts): ServerOptions => ({
  maxHeaderSize: 16_384,
  headersTimeout: timeouts.headersMs,
  requestTimeout: timeouts.requestMs,
  keepAliveTimeout: timeouts.keepAliveMs,
  connectionsCheckingInterval: timeouts.checkMs,
})

export interface ListenAddress {
  readonly host: string
  readonly port: number
  /** Several processes listen on the same port, and the kernel spreads connections over them. */
  readonly reusePort?: boolean
}

export interface Listener {
  /** @returns the port, which is another one when 0 was asked for */
  listen(address: ListenAddress): Promise<number>
  /** A unix socket that only this user may open; a socket that nobody listens on any more is replaced. */
  listenOn(path: string): Promise<void>
  /** Takes no new connections, ends idle ones, waits for answers in flight; what is left after `graceMs` is cut. */
  close(graceMs: number): Promise<void>
  /** Now open, in whatever state. */
  connections(): number
}

const started = (server: NetServer, listen: () => void): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolve()
    })
    listen()
  })

const isAnswered = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const probe = connect(path)
    probe.once('error', () => resolve(false))
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
  })

/** A socket file outlives a process that was killed. Anything that is not a socket, or is answered, stays. */
const removeDeadSocket = async (path: string): Promise<void> => {
  const found = await lstat(path).catch(() => null)
  if (found?.isSocket() && !(await isAnswered(path))) await rm(path, { force: true })
}

/** Whatever is spoken over it. @see Listener.listenOn */
export const listenOnSocket = async (server: NetServer, path: string): Promise<void> => {
  await removeDeadSocket(path)
  // The file appears with its final mode: there is no moment in which another user could open it.
  const before = process.umask(0o177)
  try {
    await started(server, () => {
      server.listen({ path, backlog })
      process.umask(before)
    })
  } finally {
    process.umask(before)
  }
}

export const createListener = (server: Server, most: number = maxConnections): Listener => {
  server.maxConnections = most
  // Every TCP connection, those in the middle of a TLS handshake too, which the server's own list of HTTP connections lacks.
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return {
    listen: async address => {
      await started(server, () => server.listen({ ...address, backlog }))
      return (server.address() as AddressInfo).port
    },
    listenOn: path => listenOnSocket(server, path),
    close: async graceMs => {
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      server.prependListener('request', (_, response) => response.setHeader('Connection', 'close'))
      const sweep = setInterval(() => server.closeIdleConnections(), 50)
      const cut = setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, graceMs)
      await closed
      clearInterval(sweep)
      clearTimeout(cut)
    },
    connections: () => sockets.size,
  }
}

/**
 * HTTP/1.0 and 1.1. Node's parser also takes requests without a version (HTTP/0.9), and heads that name one which has no such form: a
 * proxy in front would read where they end in another way.
 */
export const ofVersion1 =
  (handler: RequestListener): RequestListener =>
  (request, response) => {
    if (request.httpVersionMajor === 1) return handler(request, response)
    request.socket.end('HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  }

/** Without TLS: for unix sockets and for what is public (status) or only local (ops). */
export const createPlainServer = (handler: RequestListener, timeouts: Timeouts = defaultTimeouts): Listener =>
  createListener(createServer(serverOptions(timeouts), ofVersion1(handler)))
