// The mTLS connections of a server: what each handshake proved, and the sockets themselves, so that they can be cut at the very moment
// their peer may not call any more. A cut socket takes every stream, upgrade and event source on it along.
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { CallRefused, type Peer } from '../verify/decision.ts'
import { checkPathAt } from '../verify/path.ts'
import { type Proof, proveChain, type Trust } from '../verify/verify-peer.ts'
import type { Pass } from './pass.ts'
import type { StandingCalls } from './standing-calls.ts'

/** One connection and what its handshake proved. */
export interface Connection {
  readonly socket: TLSSocket
  /** Monotonic. */
  readonly openedAt: number
  proof: Proof | { readonly refused: unknown }
  /** Whether a trusted proxy is at the other end. */
  isFromProxy: boolean
  /** What was decided of its peer a moment ago; null: it is to be decided. */
  pass: Pass | null
  /** Calls that are being answered and could be refused while the connection may go on; null: there never was one. */
  calls: StandingCalls | null
}

/** The peer at the other end, valid at `wall`. @throws CallRefused `identity_missing`; VerifyError */
export const peerOf = (connection: Connection | null, wall: number): Peer => {
  if (connection === null)
    throw new CallRefused('identity_missing', 'the request did not come over a connection of this verifier')
  const { proof } = connection
  if ('refused' in proof) throw proof.refused
  checkPathAt(proof.path, wall)
  return proof.peer
}

/** What tells a TCP connection from all others of the process. A socket in the file system has none of it. */
export interface Ends {
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
}
/** null: they tell it from no other. */
const endsText = ({ localAddress, localPort, remoteAddress, remotePort }: Ends): string | null =>
  [localAddress, localPort, remoteAddress, remotePort].includes(undefined)
    ? null
    : `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`

export interface Connections {
  /** On `secureConnection`. */
  opened(socket: TLSSocket, openedAt: number, wall: number): void
  /** null: the socket is none of these. */
  of(socket: Socket): Connection | null
  /** By its ends, for those who do not give the socket away. null: of none, or of several: who calls cannot be told then. */
  between(ends: Ends): Connection | null
  /** What the handshakes prove to those whose anchors have changed: who proves nothing any more is cut, and told to `lost`. */
  reprove(wall: number, lost: (connection: Connection, reason: unknown) => void): void
  all(): Iterable<Connection>
  readonly size: number
}

/** Through http2's proxy of a socket a property is still found; a WeakMap by the proxy would not find it. */
type Marked = { agentcaConnection?: Connection }

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

/** @param isTrustedProxy whose word counts for who its callers are */
export const createConnections = (
  trust: () => Trust,
  isTrustedProxy: (peer: Peer) => boolean = () => false,
): Connections => {
  const isProxy = (proof: Connection['proof']): boolean => 'peer' in proof && isTrustedProxy(proof.peer)
  const open = new Set<Connection>()
  const byEnds = new Map<string, readonly Connection[]>()
  return {
    opened: (socket, openedAt, wall) => {
      const proof = prove(socket, trust(), wall)
      const connection: Connection = { socket, openedAt, proof, isFromProxy: isProxy(proof), pass: null, calls: null }
      ;(socket as Marked).agentcaConnection = connection
      open.add(connection)
      const ends = endsText(socket)
      if (ends !== null) byEnds.set(ends, [...(byEnds.get(ends) ?? []), connection])
      socket.once('close', () => {
        open.delete(connection)
        if (ends === null) return
        const others = (byEnds.get(ends) ?? []).filter(each => each !== connection)
        if (others.length === 0) byEnds.delete(ends)
        else byEnds.set(ends, others)
      })
    },
    of: socket => (socket as unknown as Marked).agentcaConnection ?? null,
    between: ends => {
      const text = endsText(ends)
      const [first = null, ...others] = text === null ? [] : (byEnds.get(text) ?? [])
      return others.length === 0 ? first : null
    },
    reprove: (wall, lost) => {
      for (const connection of open) {
        const before = connection.proof
        connection.proof = prove(connection.socket, trust(), wall)
        connection.isFromProxy = isProxy(connection.proof)
        connection.pass = null
        if (!('peer' in before && 'refused' in connection.proof)) continue
        connection.socket.destroy()
        lost(connection, connection.proof.refused)
      }
    },
    all: () => open,
    get size() {
      return open.size
    },
  }
}
