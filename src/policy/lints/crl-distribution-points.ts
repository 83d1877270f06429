// CRLs are found over plain HTTP: over TLS a relying party would need the answer before it can ask for it.
import type { Lint } from './lint.ts'

export const crlDistributionPoints: Lint = {
  name: 'crl-distribution-points',
  citation: 'RFC 5280 §4.2.1.13; CABF BR §7.1.2.11.2',
  check: ({ crlDistributionPoints: points }) => {
    if (points === null) return null
    for (const { fullName, relativeName, reasons, crlIssuer } of points) {
      if (relativeName !== null || reasons !== null || crlIssuer !== null) return 'expected fullName alone'
      for (const name of fullName ?? [])
        if (name.kind !== 'uri' || !name.value.startsWith('http://')) return 'expected http URLs'
      if (fullName === null || fullName.length === 0) return 'a distribution point without a name'
    }
    return null
  },
}
