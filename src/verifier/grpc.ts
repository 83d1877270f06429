// The verifier for @grpc/grpc-js: connections come over a TLS server that the verifier owns and are handed to the gRPC server, and an
// interceptor judges each call before its handler begins. The package is the caller's: shapes, no import.
import type { Duplex } from 'node:stream'
import { createServer, type TLSSocket, type TlsOptions, type Server as TlsServer } from 'node:tls'
import type { VerifiedPeer } from '../verify/decision.ts'
import type { Answer } from './answers.ts'
import type { Connection, Ends } from './connections.ts'
import type { CallRequest, Demand } from './judgement.ts'
import { refusalAnswer } from './problem.ts'

interface MetadataLike {
  set(key: string, value: string): void
  remove(key: string): void
}
interface InterceptedCall {
  sendStatus(status: never): void
  getConnectionInfo(): Ends
}
type Next<T> = (value: T) => void

/** What is used of `import * as grpc from '@grpc/grpc-js'`. */
export interface GrpcLike {
  readonly ServerInterceptingCall: new (...parts: never) => object
  readonly ServerCredentials: { createInsecure(): unknown }
}
export interface GrpcServerLike {
  createConnectionInjector(credentials: never): { injectConnection(connection: Duplex): void }
}

/** Where a handler reads its caller from: `call.metadata.get(grpcCaller.spiffeId)`. What a client sends under these names is taken off. */
export const grpcCaller = {
  spiffeId: 'agentca-spiffe-id',
  agent: 'agentca-agent',
  instance: 'agentca-instance',
  serial: 'agentca-serial',
} as const

// gRPC's own numbers.
const unauthenticated = 16
const permissionDenied = 7

export interface GrpcDeps {
  readonly tlsOptions: () => TlsOptions
  readonly attach: (server: TlsServer) => void
  readonly find: (ends: Ends) => Connection | null
  readonly verify: (connection: Connection | null, request: CallRequest, demand: Demand, answer: Answer) => VerifiedPeer
}

export interface Grpc {
  /** For `new grpc.Server({ interceptors: [...] })`. @param demandOf by the method's path, `/package.Service/Method` */
  grpcInterceptor<G extends GrpcLike>(
    grpc: G,
    demandOf?: (path: string) => Demand,
  ): (method: { readonly path: string }, call: InterceptedCall) => InstanceType<G['ServerInterceptingCall']>
  /** What to listen on instead of `bindAsync`, a port or a socket in the file system: an mTLS server whose connections the gRPC server serves. */
  grpcListener(grpc: GrpcLike, server: GrpcServerLike): TlsServer
}

/** Instead of an address, where the listener is a socket in the file system. */
const noAddress = 'unix'

/**
 * A call tells of its connection no more than the ends, and a socket in the file system has none: it gets some that no other has. Before
 * anybody reads them.
 */
const createNaming = () => {
  let last = 0
  return (socket: TLSSocket): void => {
    if (socket.remoteAddress !== undefined) return
    const ends = { localAddress: noAddress, localPort: 0, remoteAddress: noAddress, remotePort: ++last }
    for (const [name, value] of Object.entries(ends)) Object.defineProperty(socket, name, { value })
  }
}

const tell = (metadata: MetadataLike, peer: VerifiedPeer): void => {
  for (const key of Object.values(grpcCaller)) metadata.remove(key)
  metadata.set(grpcCaller.spiffeId, peer.spiffeId)
  metadata.set(grpcCaller.agent, peer.name)
  metadata.set(grpcCaller.serial, peer.serial)
  if (peer.instance !== null) metadata.set(grpcCaller.instance, peer.instance)
}

/** One count for all listeners of a verifier: connections of two must not look alike. */
export const createGrpc = (deps: GrpcDeps): Grpc => withNaming(deps, createNaming())

const withNaming = (deps: GrpcDeps, nameEnds: (socket: TLSSocket) => void): Grpc => ({
  grpcInterceptor: <G extends GrpcLike>(grpc: G, demandOf: (path: string) => Demand = () => ({})) => {
    const InterceptingCall = grpc.ServerInterceptingCall as new (call: InterceptedCall, responder: object) => never
    return (method, call) => {
      let isOver = false
      const refuse = (reason: unknown): void => {
        isOver = true
        const { status, title } = refusalAnswer(reason)
        call.sendStatus({ code: status === 401 ? unauthenticated : permissionDenied, details: title } as never)
      }
      const answer: Answer = { isOver: () => isOver, end: refuse }
      const onReceiveMetadata = (metadata: MetadataLike, pass: Next<MetadataLike>): void => {
        try {
          const ends = call.getConnectionInfo()
          const remoteAddress = ends.remoteAddress === noAddress ? undefined : ends.remoteAddress
          const request = { method: 'POST', url: method.path, socket: { remoteAddress } }
          tell(metadata, deps.verify(deps.find(ends), request, demandOf(method.path), answer))
        } catch (error) {
          refuse(error)
          return
        }
        pass(metadata)
      }
      const onCancel = (): void => {
        isOver = true
      }
      return new InterceptingCall(call, {
        start: (next: Next<object>) => next({ onReceiveMetadata, onCancel }),
        sendStatus: (status: unknown, next: Next<unknown>) => {
          isOver = true
          next(status)
        },
      })
    }
  },
  grpcListener: (grpc, server) => {
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure() as never)
    const listener = createServer({ ...deps.tlsOptions(), ALPNProtocols: ['h2'] })
    listener.on('secureConnection', nameEnds)
    deps.attach(listener)
    listener.on('secureConnection', (socket: TLSSocket) => injector.injectConnection(socket))
    return listener
  },
})
