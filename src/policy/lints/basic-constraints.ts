// A leaf is no CA.
import type { Lint } from './lint.ts'

export const basicConstraints: Lint = {
  name: 'basic-constraints',
  citation: 'RFC 5280 §4.2.1.9; X509-SVID §4.1',
  check: ({ basicConstraints: constraints }) => {
    if (constraints === null) return null
    if (constraints.isCa) return 'cA is true'
    return constraints.pathLength === null ? null : 'a path length without cA'
  },
}
