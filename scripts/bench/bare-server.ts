// The bare servers that ours are held against, a process of their own: node:http or node:https with nothing behind it, which reads each
// request to its end and answers it with the same bytes, head and body.
import { constants } from 'node:crypto'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { answerJobs } from './programs.ts'

export interface BareServerJob {
  readonly status: number
  /** Names and values, as `writeHead` takes them; beside those that node:http adds. */
  readonly headers: readonly string[]
  readonly body: Uint8Array
  /** Asks for a client certificate and demands that it verifies; null: plain HTTP. */
  readonly tls: { readonly key: string; readonly cert: string; readonly ca: string } | null
}

export interface BareServerResult {
  readonly port: number
}

const handlerOf = ({ status, headers, body }: BareServerJob): RequestListener => {
  const bytes = Buffer.from(body)
  const head = [...headers]
  return (request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(status, head)
      response.end(bytes)
    })
  }
}

const serverOf = (job: BareServerJob): Server =>
  job.tls === null
    ? createServer(handlerOf(job))
    : createTlsServer(
        {
          ...job.tls,
          minVersion: 'TLSv1.3',
          // As ours: every connection is a full handshake.
          secureOptions: constants.SSL_OP_NO_TICKET,
          requestCert: true,
          rejectUnauthorized: true,
        },
        handlerOf(job),
      )

answerJobs<BareServerJob, BareServerResult>(
  job =>
    new Promise((resolve, reject) => {
      const server = serverOf(job)
      server.once('error', reject)
      server.listen(0, '127.0.0.1', () => resolve({ port: (server.address() as AddressInfo).port }))
    }),
)
