// A status listener on a free port of the loopback, and requests to it exactly as they are written: no path is tidied up on the way.
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { CrlSource, OcspSource } from '../../src/ca/status-answers.ts'
import { encodeOcspError } from '../../src/pki/ocsp.ts'
import { createStatusServer, type StatusDeps } from '../../src/status/listener.ts'

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export interface Asking {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  /** Sent in these pieces without a length. */
  readonly pieces?: readonly Uint8Array[]
}

export const nothingPublished: CrlSource = {
  byIssuer: () => null,
  shardOf: () => null,
  shardsOf: () => [],
  bundle: () => ({ pem: new Uint8Array(), sha256: '', thisUpdate: 0, nextUpdate: 0 }),
}

export const noResponder: OcspSource = {
  respond: () => ({ der: encodeOcspError('tryLater'), validity: null }),
  again: () => false,
}

export const serve = async (deps: Partial<StatusDeps> = {}) => {
  const status = createStatusServer({
    clock: systemClock,
    log: silentLog,
    crls: nothingPublished,
    issuers: { all: () => [], byName: () => null, bundlePem: () => '' },
    latestCheckpoint: () => null,
    ocsp: noResponder,
    ...deps,
  })
  await new Promise<void>(resolve => status.server.listen(0, '127.0.0.1', resolve))
  const { port } = status.server.address() as AddressInfo
  const ask = (path: string, { method = 'GET', headers = {}, body, pieces }: Asking = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const request = httpRequest({ host: '127.0.0.1', port, path, method, headers, agent: false }, response => {
        const parts: Buffer[] = []
        response.on('data', part => parts.push(part))
        response.on('error', reject)
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(parts) }),
        )
      })
      request.on('error', reject)
      for (const piece of pieces ?? []) request.write(piece)
      request.end(body)
    })
  return {
    ...status,
    url: `http://127.0.0.1:${port}`,
    port,
    ask,
    [Symbol.asyncDispose]: () => status.close(0),
  }
}
