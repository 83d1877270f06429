// Only extensions that a profile can ask for, each with the criticality it is meant to have.
import { oidName, oidOf } from '../../pki/oid.ts'
import type { Lint } from './lint.ts'

/** `either`: said by a rule of its own. */
const criticality: ReadonlyMap<string, 'critical' | 'non-critical' | 'either'> = new Map([
  [oidOf.basicConstraints, 'critical'],
  [oidOf.keyUsage, 'critical'],
  [oidOf.subjectAltName, 'either'],
  [oidOf.extendedKeyUsage, 'non-critical'],
  [oidOf.authorityKeyIdentifier, 'non-critical'],
  [oidOf.crlDistributionPoints, 'non-critical'],
  [oidOf.authorityInfoAccess, 'non-critical'],
  [oidOf.noRevAvail, 'non-critical'],
  [oidOf.agentScopesVersion, 'non-critical'],
])

export const knownExtensions: Lint = {
  name: 'known-extensions',
  citation: 'RFC 5280 §4.2; CABF BR §7.1.2.11.5',
  check: ({ extensions }) => {
    for (const { oid, critical } of extensions) {
      const meant = criticality.get(oid)
      if (meant === undefined) return `extension not expected in a leaf: ${oidName(oid)}`
      if (meant !== 'either' && critical !== (meant === 'critical')) return `expected ${oidName(oid)} to be ${meant}`
    }
    return null
  },
}
