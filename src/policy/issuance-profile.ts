// What issuance needs of a profile: schema's Profile with units in the names, under the hard ceilings. Only the profile book makes it.
import type { KeyAlgorithm } from '../pki/algorithms.ts'
import type { PrincipalKind } from '../pki/names.ts'

/** What a decision about lineage and quota needs. */
export interface DecisionRules {
  /** Of the profile that these rules are from. */
  readonly profileHash: string
  readonly instanceLimit: number
  readonly keyReuse: 'never' | 'allowed'
  readonly recovery: {
    readonly mode: 'none' | 'same-key' | 'evidence'
    readonly count: number
    readonly windowSeconds: number
  }
}

export interface IssuanceProfile {
  readonly name: string
  /** SHA-256 of its canonical form, hex: pinned in every certificate's row. */
  readonly hash: string
  /** The only kind of registration that may have it. */
  readonly kind: PrincipalKind
  readonly keyAlgorithms: readonly KeyAlgorithm[]
  readonly lifetimeSeconds: number
  readonly backdateSeconds: number
  readonly extendedKeyUsage: readonly ('clientAuth' | 'serverAuth')[]
  readonly dnsNames: 'none' | 'registration'
  /** CRL distribution point and authority information access, where the CA has URLs for them. */
  readonly revocationUrls: 'present' | 'absent'
  /** RFC 9608. */
  readonly noRevAvail: 'present' | 'absent'
  readonly rules: DecisionRules
}
