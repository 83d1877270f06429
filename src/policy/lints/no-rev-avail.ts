// A certificate that says it has no revocation information names no place for it, and its life ends before one would matter.
import { maxBackdateSeconds, maxNoRevAvailSeconds } from '../ceilings.ts'
import type { Lint } from './lint.ts'

export const noRevAvail: Lint = {
  name: 'no-rev-avail',
  citation: 'RFC 9608 §2, §3',
  check: tbs => {
    if (!tbs.hasNoRevAvail) return null
    if (tbs.crlDistributionPoints !== null) return 'beside a CRL distribution point'
    if (tbs.authorityInfoAccess !== null && tbs.authorityInfoAccess.ocsp.length > 0) return 'beside an OCSP responder'
    const seconds = (tbs.notAfter - tbs.notBefore) / 1000
    const longest = maxNoRevAvailSeconds + maxBackdateSeconds
    return seconds <= longest ? null : `expected a life of at most ${longest}s, got ${seconds}s`
  },
}
