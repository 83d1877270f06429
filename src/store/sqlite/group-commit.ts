// Every write of the ledger goes through here: calls in flight are collected until the event loop comes round, run inside one
// BEGIN IMMEDIATE … COMMIT, each isolated from the others' failure, and are answered only after COMMIT (and so its fsync) returned.
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { StoreError } from '../errors.ts'
import { type Connection, isBusy, isConnectionLost, translateError } from './connection.ts'

/** For tests: a point at which the store can be made to fail. */
export interface StoreFaults {
  before(point: 'begin' | 'commit'): void
}

export interface GroupCommit {
  /**
   * Runs `work` in a transaction shared with others, again when one of them failed. Resolves when durable; rejects with nothing of
   * `work` left behind.
   */
  write<T>(work: () => T): Promise<T>
  /** Resolves when everything asked so far is answered. */
  idle(): Promise<void>
  /** Why the last transaction failed; null: it did not. */
  problem(): string | null
}

interface Call {
  readonly work: () => unknown
  readonly resolve: (value: never) => void
  readonly reject: (error: unknown) => void
}

interface Outcome {
  readonly call: Call
  readonly value: unknown
}

/** Bounds of one transaction, so that the event loop is not blocked over about 15 ms. */
const maxCalls = 256
const maxMilliseconds = 8

export interface GroupCommitDeps {
  readonly db: Connection
  readonly log: Log
  readonly monotonic: () => number
  readonly faults: StoreFaults | undefined
  /** Called inside each transaction after its calls, or after each of them: writes what they put off. */
  readonly worked: () => void
  /** Called after each COMMIT, before its calls are answered. Must not throw. */
  readonly committed: () => void
}

export const createGroupCommit = (deps: GroupCommitDeps): GroupCommit => {
  const { db, log, faults } = deps
  // Owned by this closure; `flush` is synchronous, so nothing else runs between its steps.
  let queue: Call[] = []
  let scheduled = false
  let broken = false
  let problem: string | null = null
  let waiting: (() => void)[] = []

  const schedule = (): void => {
    if (scheduled) return
    scheduled = true
    setImmediate(flush)
  }

  const flush = (): void => {
    scheduled = false
    const taken: Call[] = []
    const done: Outcome[] = []
    try {
      if (broken) recover()
      faults?.before('begin')
      db.run('BEGIN IMMEDIATE')
      runAll(taken, done)
      faults?.before('commit')
      db.run('COMMIT')
      if (done.length > 0) problem = null
    } catch (error) {
      problem = messageOf(error)
      failed(error)
      const calls = taken.length > 0 ? done.map(outcome => outcome.call) : queue.splice(0, maxCalls)
      for (const call of calls) call.reject(asStoreFailure(error))
      done.length = 0
    }
    if (done.length > 0) deps.committed()
    for (const outcome of done) outcome.call.resolve(outcome.value as never)
    if (queue.length > 0) schedule()
    else if (waiting.length > 0) {
      const ready = waiting
      waiting = []
      for (const each of ready) each()
    }
  }

  /** The first calls of the queue, as many as one transaction may hold. */
  const runTaken = (taken: Call[], run: (call: Call) => void): void => {
    const end = deps.monotonic() + maxMilliseconds
    for (const call of queue) {
      taken.push(call)
      run(call)
      if (taken.length === maxCalls || deps.monotonic() > end) return
    }
  }

  // Savepoints isolate calls from each other's failure, and cost a copy of each page that a call changes. Failures are rare: all run
  // without them first, and again with them when one failed.
  const runAll = (taken: Call[], done: Outcome[]): void => {
    try {
      runTaken(taken, call => done.push({ call, value: call.work() }))
      deps.worked()
      queue = queue.slice(taken.length)
      return
    } catch {
      if (db.inTransaction) db.run('ROLLBACK')
      db.forget()
      taken.length = 0
      done.length = 0
      db.run('BEGIN IMMEDIATE')
    }
    runApart(taken, done)
  }

  const runApart = (taken: Call[], done: Outcome[]): void => {
    try {
      runTaken(taken, call => runIn(call, done))
    } finally {
      queue = queue.slice(taken.length)
    }
  }

  /** In a savepoint of its own. @throws only when nothing of the transaction is left */
  const runIn = (call: Call, done: Outcome[]): void => {
    try {
      db.run('SAVEPOINT call')
      const value = call.work()
      deps.worked()
      db.run('RELEASE call')
      done.push({ call, value })
    } catch (error) {
      call.reject(translateError(error))
      // A full disk or an I/O error makes SQLite roll the whole transaction back by itself: then nobody's work is left.
      if (!db.inTransaction || isConnectionLost(error)) throw error
      db.run('ROLLBACK TO call')
      db.run('RELEASE call')
      db.forget()
    }
  }

  // fsync reports an error once and forgets the pages: the connection's cache may show what the disk does not have.
  const failed = (error: unknown): void => {
    if (isBusy(error)) {
      log.error({ error: messageOf(error) }, 'another program keeps the ledger locked')
      if (db.inTransaction) db.exec('ROLLBACK')
      db.forget()
      return
    }
    log.error({ error: messageOf(error) }, 'ledger transaction failed, reopening the database')
    broken = true
    try {
      recover()
    } catch (reopenError) {
      log.error({ error: messageOf(reopenError) }, 'the database cannot be reopened, trying again with the next call')
    }
  }

  const recover = (): void => {
    try {
      if (db.inTransaction) db.exec('ROLLBACK')
    } catch {
      // Closing the connection rolls back too.
    }
    db.reopen()
    broken = false
  }

  return {
    problem: () => problem,
    write: <T>(work: () => T) =>
      new Promise<T>((resolve, reject) => {
        queue.push({ work, resolve: resolve as (value: never) => void, reject })
        schedule()
      }),
    idle: () =>
      queue.length === 0 && !scheduled ? Promise.resolve() : new Promise<void>(resolve => waiting.push(resolve)),
  }
}

const asStoreFailure = (error: unknown): unknown => {
  const translated = translateError(error)
  if (translated instanceof StoreError) return translated
  return new StoreError('store_failed', `the transaction failed: ${messageOf(error)}`, { cause: error })
}
