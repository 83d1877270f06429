// What a handshake showed of the other end of a connection: address and certificates. Read where the connection is; judged for each
// request in presented-certificate.ts, which may be in another process.
import type { Socket } from 'node:net'
import { type DetailedPeerCertificate, TLSSocket } from 'node:tls'
import { equalBytes } from '../base/bytes.ts'

export interface SeenPeer {
  /** Address without a port. */
  readonly source: string
  /** A resumed session proves the key of some earlier handshake only. */
  readonly resumed: boolean
  /** DER, leaf first: the handshake proved the leaf's key and nothing else. Empty: nothing was shown. */
  readonly chain: readonly Uint8Array[]
}

/** Longer chains than verifiers follow are of no use to anybody. */
const maxShown = 8

export const sourceOf = (socket: Socket): string => socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/i, '') ?? 'unknown'

/** @returns DER; null: nothing was shown */
export const shownLeaf = (socket: Socket): Uint8Array | null => {
  const der = socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined
  return der === undefined ? null : new Uint8Array(der)
}

/** DER, leaf first. Costs as much as a small answer: for those who look at more than the leaf. */
export const shownCertificates = (socket: TLSSocket): readonly Uint8Array[] => {
  const chain: Uint8Array[] = []
  let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  // The last one is its own issuer.
  while (at?.raw !== undefined && chain.length < maxShown && !chain.some(der => equalBytes(der, at!.raw))) {
    chain.push(new Uint8Array(at.raw))
    at = at.issuerCertificate
  }
  return chain
}
