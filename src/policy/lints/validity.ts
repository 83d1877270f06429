// notAfter follows notBefore, and the life is below the ceiling of the kind that the certificate names.
import { freeBackdateSeconds, maxLifetimeSeconds } from '../ceilings.ts'
import type { Lint } from './lint.ts'

export const validity: Lint = {
  name: 'validity',
  citation: 'RFC 5280 §4.1.2.5; CABF BR §6.3.2',
  check: ({ notBefore, notAfter }, principal) => {
    if (notAfter <= notBefore) return 'notAfter is not after notBefore'
    if (principal === null) return null
    const seconds = (notAfter - notBefore) / 1000
    const longest = maxLifetimeSeconds[principal.kind] + freeBackdateSeconds
    return seconds <= longest ? null : `expected at most ${longest}s for kind ${principal.kind}, got ${seconds}s`
  },
}
