// A certificate with extensions is of version 3.
import type { Lint } from './lint.ts'

export const version: Lint = {
  name: 'version',
  citation: 'RFC 5280 §4.1.2.1',
  check: tbs => (tbs.version === 3 ? null : `expected version 3, got ${tbs.version}`),
}
