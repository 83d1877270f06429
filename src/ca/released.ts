// Certificates that this process released, by their whole bytes: the signer verified their signatures before, and verifying one again when
// it is shown costs as much as everything else that is asked about its holder. Only a memory: what is not in it is verified.
import { hash } from 'node:crypto'

export interface Released {
  add(certificate: Uint8Array): void
  has(certificate: Uint8Array): boolean
}

/** Two generations, the older one given up at once: a fleet of that size renews within its half-life. */
const maxInGeneration = 50_000

const digestBytes = 32
// Owned by this module, used by one call at a time.
const digest = Buffer.alloc(digestBytes)

const digestOf = (certificate: Uint8Array): void => {
  digest.write(hash('sha256', certificate, 'latin1'), 'latin1')
}

/**
 * SHA-256 digests in one piece of memory, by their first octets. A set of texts would have each of them entered in the engine's table of
 * known strings, which costs more than the digest, and again when garbage is collected.
 */
const createDigests = (bound: number) => {
  const slots = 2 ** Math.ceil(Math.log2(2 * bound))
  const table = Buffer.alloc(slots * digestBytes)
  let size = 0
  /** Where the digest is, or the first free place; one of four octets that are all zero would be taken for one that is free. */
  const placeOf = (): number => {
    let slot = digest.readUInt32BE(0) % slots
    for (;;) {
      const at = slot * digestBytes
      if (table.readUInt32BE(at) === 0 || table.compare(digest, 0, digestBytes, at, at + digestBytes) === 0) return at
      slot = (slot + 1) % slots
    }
  }
  return {
    isFull: () => size >= bound,
    add: (): void => {
      const at = placeOf()
      if (table.readUInt32BE(at) !== 0) return
      digest.copy(table, at)
      size++
    },
    has: (): boolean => table.readUInt32BE(placeOf()) !== 0,
    clear: (): void => {
      table.fill(0)
      size = 0
    },
  }
}

export const createReleased = (bound: number = maxInGeneration): Released => {
  // Owned by this closure.
  let present = createDigests(bound)
  let before = createDigests(bound)
  return {
    add: certificate => {
      if (present.isFull()) {
        const oldest = before
        before = present
        present = oldest
        present.clear()
      }
      digestOf(certificate)
      present.add()
    },
    has: certificate => {
      digestOf(certificate)
      return present.has() || before.has()
    },
  }
}
