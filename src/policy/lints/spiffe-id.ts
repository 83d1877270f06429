// Exactly one URI: the SPIFFE ID of an agent's instance, a service or an operator.
import type { Lint } from './lint.ts'

export const spiffeId: Lint = {
  name: 'spiffe-id',
  citation: 'X509-SVID §2; SPIFFE-ID §2',
  check: ({ spiffeId: id }, principal) => {
    if (id === null) return 'expected exactly one URI, got none'
    return principal === null ? 'the SPIFFE ID is not of an agent, a service or an operator' : null
  },
}
