// One common name, the one that goes with the SPIFFE ID: databases map it to an account, and which of several they take differs.
import { commonNameFor } from '../../pki/names.ts'
import { oidOf } from '../../pki/oid.ts'
import type { Lint } from './lint.ts'

export const commonName: Lint = {
  name: 'common-name',
  citation: 'RFC 5280 §4.1.2.6, appendix A.1 (ub-common-name); architecture.md, Identities',
  check: ({ subject }, principal) => {
    const [rdn = []] = subject.rdns
    const [only] = rdn
    if (only === undefined || rdn.length > 1 || subject.rdns.length > 1 || only.type !== oidOf.commonName)
      return 'expected a subject of one common name'
    if (principal === null) return null
    const expected = commonNameFor(principal.kind, principal.kind === 'agent' ? principal.agent : principal.name)
    return only.value === expected ? null : `expected the common name ${expected}, got ${only.value}`
  },
}
