// A way to the CA on which answers get lost: bytes go through unread until the server gives a certificate, and then the connection
// ends. The CA gives only what is durable, so whatever is cut here has been committed.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** `reset`: the connection breaks. `torn`: it ends in the middle of the answer. */
export type Cut = 'reset' | 'torn'

export interface AnswerCutter extends AsyncDisposable {
  readonly url: string
  /** The next certificate that is given on this way does not arrive. */
  cutNext(cut: Cut): void
  readonly cuts: number
}

/** Longer than problem documents and what TLS says unasked (session tickets); every answer with a certificate is longer still. */
const answerBytes = 1500

/** @param url https, without a path */
export const createAnswerCutter = async (url: string): Promise<AnswerCutter> => {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Socket>()
  let next: Cut | null = null
  let cuts = 0
  const server = createServer(client => {
    const upstream = connect(Number(port), hostname)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      // Cut off by the other side, which is what this is for.
      socket.on('error', () => {})
    }
    let turn: 'hello' | 'handshake' | 'request' = 'hello'
    let said = 0
    client.on('data', (bytes: Buffer) => {
      if (turn === 'handshake') turn = 'request'
      upstream.write(bytes)
    })
    upstream.on('data', (bytes: Buffer) => {
      if (turn === 'hello') turn = 'handshake'
      if (turn === 'request') said += bytes.length
      if (next === null || said < answerBytes) {
        client.write(bytes)
        return
      }
      if (next === 'reset') client.resetAndDestroy()
      else client.end(bytes.subarray(0, bytes.length / 2))
      upstream.destroy()
      next = null
      cuts++
    })
    client.once('close', () => upstream.destroy())
    upstream.once('end', () => client.end())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cutNext: cut => {
      next = cut
    },
    get cuts() {
      return cuts
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
