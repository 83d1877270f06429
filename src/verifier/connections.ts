// The mTLS connections of a server: what each handshake proved, and the sockets themselves, so that they can be cut at the very moment
// their peer may not call any more. A cut socket takes every stream, upgrade and event source on it along.
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { CallRefused, type Peer } from '../verify/decision.ts'
import { checkPathAt } from '../verify/path.ts'
import { type Proof, proveChain, type Trust } from './proof.ts'

/** One connection and what its handshake proved. */
export interface Connection {
  readonly socket: TLSSocket
  /** Monotonic. */
  readonly openedAt: number
  readonly proof: Proof | { readonly refused: unknown }
}

export interface Connections {
  /** On `secureConnection`. */
  opened(socket: TLSSocket, openedAt: number, wall: number): void
  /**
   * The peer at the other end of a request's socket, valid at `wall`.
   * @throws CallRefused `identity_missing`; VerifyError
   */
  peerOf(socket: Socket, wall: number): Peer
  all(): Iterable<Connection>
  readonly size: number
}

/** Through http2's proxy of a socket a symbol is still found; a WeakMap by the proxy would not find it. */
const connectionSymbol: unique symbol = Symbol('agentca connection')
type Marked = { [connectionSymbol]?: Connection }

/** Leaf first, then what the peer sent along; each once. */
const sentChain = (socket: TLSSocket): readonly Uint8Array[] => {
  const chain: Uint8Array[] = []
  let at = socket.getPeerCertificate(true) as { raw?: Buffer; issuerCertificate?: object } | undefined
  while (at?.raw !== undefined && chain.length < 10) {
    if (chain.some(each => at!.raw!.equals(each))) break
    chain.push(new Uint8Array(at.raw))
    at = at.issuerCertificate as typeof at
  }
  return chain
}

const prove = (socket: TLSSocket, trust: Trust, at: number): Connection['proof'] => {
  try {
    if (socket.isSessionReused())
      throw new CallRefused('identity_missing', 'a resumed TLS session proves no certificate')
    return proveChain(sentChain(socket), trust, at)
  } catch (error) {
    return { refused: error }
  }
}

export const createConnections = (trust: () => Trust): Connections => {
  const open = new Set<Connection>()
  return {
    opened: (socket, openedAt, wall) => {
      const connection: Connection = { socket, openedAt, proof: prove(socket, trust(), wall) }
      ;(socket as Marked)[connectionSymbol] = connection
      open.add(connection)
      socket.once('close', () => open.delete(connection))
    },
    peerOf: (socket, wall) => {
      const connection = (socket as unknown as Marked)[connectionSymbol]
      if (connection === undefined)
        throw new CallRefused('identity_missing', 'the request did not come over a connection of this verifier')
      const { proof } = connection
      if ('refused' in proof) throw proof.refused
      checkPathAt(proof.path, wall)
      return proof.peer
    },
    all: () => open,
    get size() {
      return open.size
    },
  }
}
