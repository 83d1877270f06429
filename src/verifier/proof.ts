// Chains that come with requests instead of a handshake: proved once and remembered by their bytes. What can change meanwhile is asked for
// each call, elsewhere.
import { createHash } from 'node:crypto'
import { checkPathAt } from '../verify/path.ts'
import { type Proof, proveChain, type Trust } from '../verify/verify-peer.ts'

export interface Proofs {
  /** @throws as proveChain; a chain that proves nothing is not remembered */
  of(chain: readonly Uint8Array[], at: number): Proof
  /** Whom to trust has changed. */
  forget(): void
  readonly size: number
}

/** Each has a few kilobytes. */
const maxProofs = 10_000

const hashOf = (chain: readonly Uint8Array[]): string => {
  const hash = createHash('sha256')
  for (const der of chain) {
    // DER says its own length, but nobody has parsed it yet.
    hash.update(`${der.length}:`)
    hash.update(der)
  }
  return hash.digest('base64')
}

export const createProofs = (trust: () => Trust, maxEntries = maxProofs): Proofs => {
  // Owned by this closure; in the order of their last use.
  const proofs = new Map<string, Proof>()
  return {
    of: (chain, at) => {
      const key = hashOf(chain)
      const known = proofs.get(key)
      proofs.delete(key)
      if (known !== undefined) {
        checkPathAt(known.path, at)
        proofs.set(key, known)
        return known
      }
      const proof = proveChain(chain, trust(), at)
      if (proofs.size >= maxEntries) proofs.delete(proofs.keys().next().value as string)
      proofs.set(key, proof)
      return proof
    },
    forget: () => proofs.clear(),
    get size() {
      return proofs.size
    },
  }
}
