// An agent's connections to a backend, one of each kind, opened and answered; each says when it was cut.
import { connect as connectHttp2 } from 'node:http2'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import * as grpc from '@grpc/grpc-js'
import { WebSocket } from 'ws'
import type { BackendPorts } from './cut-backend.ts'
import { watchMethod } from './cut-grpc.ts'
import type { ClientCredential } from './exchange.ts'

export const kinds = ['kept-alive', 'server-sent events', 'WebSocket', 'HTTP/2', 'gRPC'] as const
export type Kind = (typeof kinds)[number]

export interface OpenConnection {
  readonly kind: Kind
  /** Milliseconds since the epoch; never where it is not cut. */
  readonly cutAt: Promise<number>
}

export const now = (): number => performance.timeOrigin + performance.now()

interface Ends {
  readonly credential: ClientCredential
  readonly ca: string
  readonly ports: BackendPorts
}

const opening = () => ({ open: Promise.withResolvers<void>(), cut: Promise.withResolvers<number>() })

const overHttps = async (kind: Kind, path: string, { credential, ca, ports }: Ends): Promise<OpenConnection> => {
  const { open, cut } = opening()
  const socket: TLSSocket = tlsConnect({
    ...credential,
    ca,
    host: '127.0.0.1',
    port: ports.https,
    servername: 'localhost',
  })
  socket.on('error', open.reject).on('close', () => cut.resolve(now()))
  socket.once('data', (head: Buffer) =>
    head.toString('latin1').startsWith('HTTP/1.1 200') ? open.resolve() : open.reject(new Error(head.toString())),
  )
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await open.promise
  return { kind, cutAt: cut.promise }
}

const overWebSocket = async ({ credential, ca, ports }: Ends): Promise<OpenConnection> => {
  const { open, cut } = opening()
  const socket = new WebSocket(`wss://localhost:${ports.https}/`, { ...credential, ca })
  socket.on('error', open.reject).on('close', () => cut.resolve(now()))
  socket.once('message', () => open.resolve())
  await open.promise
  return { kind: 'WebSocket', cutAt: cut.promise }
}

const overHttp2 = async ({ credential, ca, ports }: Ends): Promise<OpenConnection> => {
  const { open, cut } = opening()
  const session = connectHttp2(`https://localhost:${ports.http2}`, { ...credential, ca })
  session.on('error', open.reject).on('close', () => cut.resolve(now()))
  const stream = session.request({ ':path': '/' })
  stream.on('error', open.reject).once('data', () => open.resolve())
  await open.promise
  return { kind: 'HTTP/2', cutAt: cut.promise }
}

const overGrpc = async ({ credential, ca, ports }: Ends): Promise<OpenConnection> => {
  const { open, cut } = opening()
  const secure = grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(credential.key), Buffer.from(credential.cert))
  // Channels of one address share their connections, whoever they belong to, unless they are told not to.
  const client = new grpc.Client(`localhost:${ports.grpc}`, secure, { 'grpc.use_local_subchannel_pool': 1 })
  const { path, requestSerialize, responseDeserialize } = watchMethod
  const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, 'all')
  call.once('data', () => open.resolve())
  call.on('error', error => {
    cut.resolve(now())
    open.reject(error)
    // It would connect again.
    client.close()
  })
  await open.promise
  return { kind: 'gRPC', cutAt: cut.promise }
}

export const openConnections = (ends: Ends): Promise<readonly OpenConnection[]> =>
  Promise.all([
    overHttps('kept-alive', '/', ends),
    overHttps('server-sent events', '/events', ends),
    overWebSocket(ends),
    overHttp2(ends),
    overGrpc(ends),
  ])
