// The port for what relying parties ask about: states for OCSP, and published lists. The demands of ports.ts hold here too.
import type { CertificateRecord, CrlRecord, LeafDraft } from './records.ts'

export interface StatusPort {
  /** OCSP: the stored state of each serial of this issuer; null where it was never recorded. */
  states(
    issuerId: number,
    serials: readonly string[],
  ): readonly (Pick<CertificateRecord, 'serial' | 'state' | 'notAfter' | 'revokedAt' | 'reason'> | null)[]
  /** The highest number that was ever given out or seen. */
  lastCrlNumber(issuerId: number): bigint
  /** Number = max(last + 1, now in milliseconds), under the ledger's lock; burnt even if the CRL is never published. */
  reserveCrlNumber(issuerId: number, now: number): Promise<bigint>
  /** @throws StoreError `crl_number_regressed` when a number at or above is already recorded */
  recordCrl(crl: CrlRecord, leaf: LeafDraft): Promise<void>
  latestCrl(issuerId: number): CrlRecord | null
}
