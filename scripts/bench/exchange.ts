// HTTP/1.1 as a load generator needs it and no further: one request at a time on one connection, answers with a Content-Length. It
// costs a fraction of node:http's client, so that on two cores the server is what is measured.
import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface Target {
  readonly host: string
  readonly port: number
  /** Roots in PEM; null: plain HTTP. */
  readonly ca: string | null
}

export interface ClientCredential {
  readonly key: string
  /** Leaf and intermediates. */
  readonly cert: string
}

export interface Answer {
  readonly status: number
  /** A character an octet; empty where it was not to be kept. */
  readonly body: string
  /** Of `Retry-After`, in seconds; null: there is none. */
  readonly retryAfter: number | null
}

export interface Line {
  /** The last one must have been answered. */
  send(request: Uint8Array): Promise<Answer>
  close(): void
}

export const openSocket = ({ host, port, ca }: Target, credential: ClientCredential | null): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket: Socket =
      ca === null
        ? connectPlain({ host, port, noDelay: true }, () => resolve(socket))
        : connectTls({ host, port, ca, minVersion: 'TLSv1.3', ...credential }, () => resolve(socket))
    socket.setNoDelay(true)
    socket.once('error', reject)
  })

interface Head {
  readonly status: number
  readonly length: number
  readonly retryAfter: number | null
}

const retryAfterOf = (text: string): number | null => {
  const value = /^retry-after: *(\d+)\r$/im.exec(text)?.[1]
  return value === undefined ? null : Number(value)
}

const headOf = (text: string): Head => {
  const status = Number(text.slice(9, 12))
  return {
    status,
    length: Number(/^content-length: *(\d+)/im.exec(text)?.[1] ?? 0),
    retryAfter: status < 400 ? null : retryAfterOf(text),
  }
}

/** @param keep whether answers carry their body */
export const openLine = async (target: Target, credential: ClientCredential | null, keep: boolean): Promise<Line> => {
  const socket = await openSocket(target, credential)
  // Owned by this line: what has come of the answer that is awaited.
  let waiting: PromiseWithResolvers<Answer> | null = null
  let chunks: Buffer[] = []
  let received = 0
  let head: (Omit<Head, 'length'> & { readonly start: number; readonly end: number }) | null = null

  const take = (chunk: Buffer): void => {
    received += chunk.length
    if (head === null || keep) chunks.push(chunk)
    if (head === null) {
      const bytes = chunks.length === 1 ? chunk : Buffer.concat(chunks)
      const at = bytes.indexOf('\r\n\r\n')
      if (at < 0) return
      const { status, length, retryAfter } = headOf(bytes.toString('latin1', 0, at + 2))
      head = { status, retryAfter, start: at + 4, end: at + 4 + length }
    }
    if (received < head.end) return
    const { status, retryAfter, start, end } = head
    const body = keep ? Buffer.concat(chunks).toString('latin1', start, end) : ''
    chunks = []
    received = 0
    head = null
    const answered = waiting
    waiting = null
    answered?.resolve({ status, body, retryAfter })
  }
  let ended = false
  const end = (): void => {
    ended = true
    waiting?.reject(new Error('the server closed the connection'))
    waiting = null
  }
  socket.on('data', take).on('error', end).on('close', end)
  return {
    send: request => {
      if (ended) return Promise.reject(new Error('the server had closed the connection'))
      waiting = Promise.withResolvers()
      socket.write(request)
      return waiting.promise
    },
    close: () => socket.destroy(),
  }
}

/** A whole request, ready to be written. */
export const requestBytes = (
  method: 'GET' | 'POST',
  path: string,
  content: { readonly type: string; readonly body: Uint8Array } | null,
): Uint8Array => {
  const head = [`${method} ${path} HTTP/1.1`, 'Host: localhost', 'Connection: keep-alive']
  if (content !== null) head.push(`Content-Type: ${content.type}`, `Content-Length: ${content.body.length}`)
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), content?.body ?? Buffer.alloc(0)])
}
