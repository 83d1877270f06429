// A ledger that is known to end earlier than the CA did: what is still seen outside is taken over, and the CA goes into maintenance.
import { instanceLocked, ledgerRestored } from '../audit/events.ts'
import type { LeafContext } from '../audit/leaf.ts'
import type { SubjectKind } from '../store/records.ts'
import type { Recovered, RecoveryPort } from '../store/recovery-port.ts'
import { encodeRestored } from './maintenance.ts'
import type { Seen } from './outside.ts'
import { suspendedIn } from './suspended.ts'

export interface LedgerRecovery {
  /** Where the ledger ends. */
  readonly ends: {
    readonly at: number
    readonly feed: { readonly epoch: string; readonly n: number }
    readonly auditSize: number
  }
  readonly seen: Seen
  readonly now: number
  readonly who: Omit<LeafContext, 'at'>
}

/** @throws StoreError; what reading the published state throws: what cannot be read is to be taken away by whoever knows that it is lost */
export const recoverLedger = (port: RecoveryPort, { ends, seen, now, who }: LedgerRecovery): Promise<Recovered> => {
  const context: LeafContext = { at: now, ...who }
  const feedN = seen.feed !== null && seen.feed.epoch === ends.feed.epoch ? seen.feed.n : null
  const suspended = seen.state === null ? [] : suspendedIn(seen.state.head, seen.state.directory)
  return port.recover({
    at: now,
    maintenance: recovered =>
      encodeRestored({
        backupAt: ends.at,
        restoredAt: now,
        feed: ends.feed,
        auditSize: ends.auditSize,
        seen: { feedN, auditSize: seen.auditSize },
        ...recovered,
        endedAt: null,
      }),
    seen: seen.revocations,
    suspended,
    crlNumbers: seen.crlNumbers,
    lockLeaf: ({ id, kind, name }) =>
      instanceLocked(context, { kind: kind as SubjectKind, name }, { instance: id, reason: 'restored' }),
    leaf: recovered =>
      ledgerRestored(context, {
        backupAt: ends.at,
        auditSize: ends.auditSize,
        seenAuditSize: seen.auditSize,
        seenFeedN: feedN,
        ...recovered,
      }),
  })
}
