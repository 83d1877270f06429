// One of the backends of `cut`, a process of its own: an identity and a verifier of its own, and a server of each kind.
import { once } from 'node:events'
import type { Http2ServerResponse } from 'node:http2'
import type { AddressInfo, Server } from 'node:net'
import * as grpc from '@grpc/grpc-js'
import { WebSocketServer } from 'ws'
import { agentIdentity } from '../../src/agent/index.ts'
import { agentVerifier, type WithAgent } from '../../src/verifier/index.ts'
import { watchMethod } from './cut-grpc.ts'
import { answerJobs } from './programs.ts'

export interface BackendJob {
  readonly url: string
  readonly caFile: string
  readonly tokenFile: string
}

export interface BackendPorts {
  readonly https: number
  readonly http2: number
  readonly grpc: number
}

const portOf = async (server: Server): Promise<number> => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

const start = async (job: BackendJob): Promise<BackendPorts> => {
  const identity = await agentIdentity({ ...job })
  const verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
  await verifier.ready()
  const judge = verifier.express()
  const https = verifier.createServer((request, response) =>
    judge(request as WithAgent, response, () => {
      if (request.url !== '/events') return response.end('ok')
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(': open\n\n')
    }),
  )
  const sockets = new WebSocketServer({ noServer: true })
  https.on('upgrade', (request, socket, head) => {
    verifier.verifyRequest(request)
    sockets.handleUpgrade(request, socket, head, each => each.send('open'))
  })
  const http2 = verifier.createSecureServer((request, response) =>
    judge(request as WithAgent, response, () => (response as Http2ServerResponse).write('open')),
  )
  const streams = new grpc.Server({ interceptors: [verifier.grpcInterceptor(grpc, () => ({}))] })
  streams.addService(
    { watch: watchMethod },
    { watch: (call: grpc.ServerWritableStream<string, string>) => void call.write('open') },
  )
  return {
    https: await portOf(https),
    http2: await portOf(http2),
    grpc: await portOf(verifier.grpcListener(grpc, streams)),
  }
}

answerJobs<BackendJob, BackendPorts>(start)
