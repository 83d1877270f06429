// Events to a syslog server over TLS (RFC 5425), which is verified by the CAs that the configuration names and by its host name. Syslog
// has no acknowledgement: what was written shortly before a connection broke counts as lost and is sent again.
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { connect, type TLSSocket } from 'node:tls'
import type { Sink } from './sink.ts'
import { syslogFrame, syslogMessage } from './syslog-message.ts'

export interface SyslogSinkOptions {
  readonly host: string
  readonly port: number
  /** PEM of the CAs that the server's certificate must lead to. */
  readonly caFile: string
  /** The name in the server's certificate; the host if it is left out. */
  readonly serverName?: string | undefined
  /** PEM of a key and its certificates, for servers that authenticate their clients. */
  readonly credentialFile?: string | undefined
}

const connectMs = 10_000
/** Longer than a server that is gone takes to say so, on any network one would send a log over. */
const settleMs = 5_000

const openSocket = (options: SyslogSinkOptions): Promise<TLSSocket> =>
  new Promise((resolve, reject) => {
    const { host, port, caFile, serverName = host, credentialFile } = options
    const credential = credentialFile === undefined ? undefined : readFileSync(credentialFile)
    const isAddress = /^[0-9.]+$|:/.test(serverName)
    const socket = connect({
      host,
      port,
      ca: readFileSync(caFile),
      ...(isAddress ? {} : { servername: serverName }),
      ...(credential === undefined ? {} : { cert: credential, key: credential }),
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
    })
    const timer = setTimeout(() => socket.destroy(new Error(`no TLS connection after ${connectMs} ms`)), connectMs)
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.off('error', reject)
      resolve(socket)
    })
    socket.once('close', () => {
      clearTimeout(timer)
      reject(new Error('the server closed the connection'))
    })
  })

const writeTo = (socket: TLSSocket, text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const onClose = (): void => reject(new Error('the connection ended'))
    socket.once('close', onClose)
    socket.write(text, 'latin1', error => {
      socket.off('close', onClose)
      if (error == null) resolve()
      else reject(error)
    })
  })

export const createSyslogSink = (options: SyslogSinkOptions): Sink => {
  const origin = { hostname: hostname(), processId: process.pid }
  let socket: TLSSocket | null = null
  let broken = false
  let closing = false

  const connected = async (): Promise<TLSSocket> => {
    if (socket !== null) return socket
    const opened = await openSocket(options)
    opened.on('error', () => {})
    // Nothing is expected to be said; what is said must be read, or its end is never seen.
    opened.resume()
    opened.once('close', () => {
      if (socket !== opened) return
      socket = null
      broken = !closing
    })
    socket = opened
    return opened
  }
  const end = (leaving: TLSSocket): Promise<void> =>
    new Promise(resolve => {
      const timer = setTimeout(() => {
        // It never said that it has everything.
        broken = true
        leaving.destroy()
      }, 1000)
      leaving.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      leaving.end()
    })
  return {
    name: 'syslog',
    target: `${options.host}:${options.port}`,
    settleMs,
    send: async events => {
      const to = await connected()
      await writeTo(to, events.map(event => syslogFrame(syslogMessage(event, origin))).join(''))
    },
    lost: () => {
      const was = broken
      broken = false
      return was
    },
    // Certificates are read with the next connection.
    reopen: () => {
      const leaving = socket
      socket = null
      if (leaving !== null) void end(leaving)
    },
    close: async () => {
      closing = true
      if (socket !== null) await end(socket)
      socket = null
    },
  }
}
