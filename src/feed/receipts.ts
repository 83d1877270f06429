// Receipts of revocations and holds on their way into the audit log.
import { revocationApplied, type Subject } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { AuditPort } from '../store/ports.ts'
import type { LeafDraft } from '../store/records.ts'
import { type Deed, missingOf } from './deed.ts'

export interface Receipts {
  /** Of what is known of it now; each deed has one. */
  add(deed: Deed): void
  /** Resolves when what was added is written, or could not be. */
  write(): Promise<void>
}

/** Names in a receipt; its counts are always whole. */
const maxNames = 500
/** Kept while the ledger cannot be written. */
const maxUnwritten = 256

const receiptOf = ({ event, n, of, applied, waiting }: Deed, whose: Subject | null, at: number): LeafDraft =>
  revocationApplied({ at, who: 'system' }, whose, {
    type: event.type,
    by: event.by,
    value: event.value,
    feed: `${event.position.epoch}.${n}`,
    of,
    applied: applied.size,
    afterMs: Object.fromEntries([...applied].slice(0, maxNames)),
    missing: missingOf(waiting, event.at).slice(0, maxNames),
  })

export const createReceipts = (deps: {
  readonly clock: Clock
  readonly log: Log
  readonly audit: Pick<AuditPort, 'append'>
  /** Whose certificate this is. */
  readonly registrationOf: (serial: string) => Subject | null
}): Receipts => {
  const { clock, log, audit } = deps
  let unwritten: LeafDraft[] = []
  let writing: Promise<void> = Promise.resolve()
  const append = async (): Promise<void> => {
    const leaves = unwritten
    if (leaves.length === 0) return
    unwritten = []
    try {
      await audit.append(leaves)
    } catch (error) {
      log.error({ reason: messageOf(error) }, 'a receipt of a revocation is not written yet')
      unwritten = [...leaves, ...unwritten].slice(-maxUnwritten)
    }
  }
  /** What an owner or an issuer ends is more than one registration's, and is found by their name. */
  const whoseOf = ({ event: { by, changes } }: Deed): Subject | null => {
    const first = by === 'owner' || by === 'issuer' ? undefined : changes[0]
    return first === undefined ? null : deps.registrationOf(first.serial)
  }
  const write = (): Promise<void> => {
    writing = writing.then(append)
    return writing
  }
  return {
    add: deed => {
      if (deed.receipted) return
      deed.receipted = true
      unwritten.push(receiptOf(deed, whoseOf(deed), clock.now()))
      void write()
    },
    write,
  }
}
