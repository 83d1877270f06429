// Opens the SQLite ledger: one connection, one writer, the ports over them. The process that calls this is the only writer.
import type { Clock } from '../../base/clock.ts'
import type { Log } from '../../base/log.ts'
import { StoreError } from '../errors.ts'
import type { Ledger } from '../ports.ts'
import { createAcme } from './acme.ts'
import { createAudit } from './audit.ts'
import { createCertificates } from './certificates.ts'
import { createCommitWatch, feedPosition, statusRevision, watchRows } from './commit-watch.ts'
import { openConnection } from './connection.ts'
import { createEventCursors } from './event-cursors.ts'
import { createFeed } from './feed.ts'
import { createGroupCommit, type GroupCommit, type StoreFaults } from './group-commit.ts'
import { createInstances } from './instances.ts'
import { createIssuance } from './issuance.ts'
import { createIssuers } from './issuers.ts'
import { createJournal } from './journal.ts'
import { createKnownIntents } from './known-intents.ts'
import { createKnownTokens } from './known-tokens.ts'
import { createMeta } from './meta.ts'
import { createOrphans } from './orphans.ts'
import { createOwners } from './owners.ts'
import type { Parts } from './parts.ts'
import { createPolicies } from './policies.ts'
import { createPruning } from './pruning.ts'
import { createRecovery } from './recovery.ts'
import { createRegistrationMemory } from './registration-memory.ts'
import { createRegistrations } from './registrations.ts'
import { createRevocations } from './revocations.ts'
import { createScopes } from './scopes.ts'
import { createShards } from './shards.ts'
import { createSignatureCount } from './signature-count.ts'
import { lockLedger, type WriterLock } from './single-writer.ts'
import { createStatus } from './status.ts'
import { createTbsCodec } from './tbs-codec.ts'
import { createTokens } from './tokens.ts'
import { createWords } from './words.ts'

export type { StoreFaults } from './group-commit.ts'

export interface SqliteLedgerDeps {
  readonly clock: Clock
  readonly log: Log
  /** Tests only. */
  readonly faults?: StoreFaults
}

/**
 * @param path a file, or ':memory:' for tests
 * @throws StoreError `ledger_in_use`, `database_newer`, `database_settings`, `store_failed`
 */
export const openSqliteLedger = (path: string, deps: SqliteLedgerDeps): Ledger => {
  const lock = lockLedger(path)
  const db = openLocked(path, lock)
  const words = createWords(db)
  const journal = createJournal(db, words)
  const changes = createCommitWatch(deps.log, watchRows(db, statusRevision))
  const appended = createCommitWatch(deps.log, watchRows(db, feedPosition))
  const logged = createCommitWatch(deps.log, { mayHaveChanged: () => true, read: () => journal.head().size })
  const signed = createSignatureCount(db)
  const writer = createGroupCommit({
    db,
    log: deps.log,
    monotonic: deps.clock.monotonic,
    faults: deps.faults,
    worked: signed.write,
    committed: () => {
      changes.committed()
      appended.committed()
      logged.committed()
    },
  })
  let closing: Promise<void> | null = null
  const commit: GroupCommit = {
    ...writer,
    write: work =>
      closing === null ? writer.write(work) : Promise.reject(new StoreError('store_failed', 'the ledger is closed')),
  }
  const intents = createKnownIntents(db)
  const tokens = createKnownTokens(db)
  const registered = createRegistrationMemory(db)
  const scopes = createScopes(db)
  const tbs = createTbsCodec(db)
  const known = { words, journal, intents, tokens, registered, signed, scopes, tbs }
  const parts: Parts = { db, commit, changes, appended, logged, ...known }
  const close = (): Promise<void> => {
    closing ??= writer.idle().then(() => {
      db.close()
      lock.release()
    })
    return closing
  }
  return {
    issuance: createIssuance(parts),
    certificates: createCertificates(parts),
    registrations: createRegistrations(parts),
    owners: createOwners(parts),
    instances: createInstances(parts),
    tokens: createTokens(parts),
    policies: createPolicies(parts),
    revocations: createRevocations(parts),
    status: createStatus(parts),
    shards: createShards(parts),
    issuers: createIssuers(parts),
    audit: createAudit(parts),
    feed: createFeed(parts),
    orphans: createOrphans(parts),
    eventCursors: createEventCursors(parts),
    acme: createAcme(parts),
    recovery: createRecovery(parts),
    pruning: createPruning(parts),
    meta: createMeta(parts),
    problem: writer.problem,
    close,
    [Symbol.asyncDispose]: close,
  }
}

const openLocked = (path: string, lock: WriterLock) => {
  try {
    return openConnection(path)
  } catch (error) {
    lock.release()
    throw error
  }
}
