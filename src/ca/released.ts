// Certificates that this process released, by their whole bytes: the signer verified their signatures before, and verifying one again when
// it is shown costs as much as everything else that is asked about its holder. Only a memory: what is not in it is verified.
import { hash } from 'node:crypto'

export interface Released {
  add(certificate: Uint8Array): void
  has(certificate: Uint8Array): boolean
}

/** Two generations of some megabytes each, the older one given up at once: a fleet of that size renews within its half-life. */
const maxInGeneration = 50_000

const nameOf = (certificate: Uint8Array): string => hash('sha256', certificate, 'latin1')

export const createReleased = (bound: number = maxInGeneration): Released => {
  // Owned by this closure.
  let present = new Set<string>()
  let before: ReadonlySet<string> = new Set()
  return {
    add: certificate => {
      if (present.size >= bound) {
        before = present
        present = new Set()
      }
      present.add(nameOf(certificate))
    },
    has: certificate => {
      const name = nameOf(certificate)
      return present.has(name) || before.has(name)
    },
  }
}
