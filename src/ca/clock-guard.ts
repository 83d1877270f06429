// Whether the wall clock can be trusted to sign (architecture.md, Clocks). Two rules: never more than 5 s before the last signing,
// restarts included, and never more than 10 min further than the monotonic clock went since this process began. What is refused is
// refused as long as it holds: a clock that is set right is trusted again, because nothing was signed meanwhile; one that is right
// after all is accepted by an operator. Status goes on; issuance asks here, and whatever ends something for good takes its time from
// here. A suspended machine's monotonic clock stands still, so waking up is a jump. Nothing measures the time between two processes:
// one that begins more than a day past what was known signs, but what cannot be undone waits until an operator has looked.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { AuditPort, MetaPort } from '../store/ports.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'

const backToleranceMs = 5_000
const aheadToleranceMs = 10 * 60_000
/** The last signing time is written when it grew by so much: a crash forgets no more than is tolerated anyway. */
const writeEveryMs = 5_000
/**
 * How far past the last known time a process may begin and still end things for good. Revocations are kept for longer than that beyond
 * the end of their certificate (prune-revocations.ts), so a clock that is wrong by less prunes none that is needed.
 */
const unmeasuredToleranceMs = 24 * 3_600_000

export interface ClockGuardDeps {
  readonly clock: Clock
  readonly meta: Pick<MetaPort, 'get' | 'set'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly log: Log
}

export interface ClockState {
  /** `unconfirmed`: signs, and ends nothing for good. */
  readonly state: 'ok' | 'unconfirmed' | 'refused'
  readonly now: number
  /** null: nothing was ever signed. */
  readonly lastSigning: number | null
  readonly detail: string
}

export interface ClockGuard {
  /** Before each signature of a certificate; `now` counts as a signing time. @throws CaError `clock_refused` */
  check(now: number): void
  state(): ClockState
  /**
   * Now, for what cannot be undone or reaches only what has not expired: the wall clock, or where that one jumped ahead, what it
   * would be by the monotonic clock. A false future would retire what has long to live, and revoke nothing of it.
   */
  now(): number
  /** Whether what `now` says may end something for good: not while the time that this process began with is unconfirmed. */
  mayEnd(): boolean
  /** Now and then: the time is known to be right, for the next process; not while it is refused or unconfirmed. */
  confirm(): Promise<void>
  /** The operator says that the clock is right as it is now, audited; @throws when the ledger cannot record it, then nothing changes */
  accept(context: RequestContext, why?: string): Promise<ClockState>
  /** Writes the last signing time. The guard must not be used afterwards. */
  close(): Promise<void>
}

const parseTime = (text: string | null): number | null => {
  if (text === null) return null
  const time = Number(text)
  if (!Number.isSafeInteger(time) || time < 0) throw new CaError('internal', 'the last signing time is not readable')
  return time
}

/** How long nothing measured the time before this process began; 0 where no time was known. */
const createUnmeasured = (clock: Clock, knownBefore: number | null) => {
  let known = knownBefore
  let since = clock.monotonic()
  return {
    at: (now: number): number => (known === null ? 0 : now - known - (clock.monotonic() - since)),
    accept: (now: number): void => {
      known = now
      since = clock.monotonic()
    },
  }
}

const seconds = (ms: number): number => Math.round(ms / 1000)

const describeUnmeasured = (ms: number): string =>
  `the server began ${Math.round(ms / 3_600_000)} h after the last time it knows: it signs, and retires, holds and prunes nothing by time`

export const createClockGuard = ({ clock, meta, audit, log }: ClockGuardDeps): ClockGuard => {
  let lastSigning = parseTime(meta.get('last_signing_time'))
  /** What the ledger has, and the newest that a write was begun for. */
  let written = lastSigning
  let begun = lastSigning ?? Number.NEGATIVE_INFINITY
  /** How far the wall clock is before the monotonic one; the least that was ever trusted, so that steps ahead add up. */
  const offsetAt = (now: number): number => now - clock.monotonic()
  let trustedOffset = offsetAt(clock.now())
  // Apart from the last signing: what was signed under a clock that nobody confirmed confirms nothing.
  const unmeasured = createUnmeasured(clock, parseTime(meta.get('last_confirmed_time')) ?? lastSigning)
  /** One leaf for one period of distrust, not one for each request. */
  let told = false
  /** Writes that nobody waits for, in their order. */
  let background: Promise<void> = Promise.resolve()

  const later = (what: string, work: () => Promise<unknown>): void => {
    background = background.then(work).then(
      () => {},
      error => log.error({ err: error }, what),
    )
  }

  const isConfirmed = (now: number): boolean => problemAt(now) === null && unmeasured.at(now) <= unmeasuredToleranceMs

  const write = async (): Promise<void> => {
    const time = lastSigning
    if (time === null || time === written) return
    const confirmed = isConfirmed(clock.now()) ? { last_confirmed_time: String(time) } : {}
    await meta.set({ last_signing_time: String(time), ...confirmed })
    written = time
  }

  /** What is wrong with the clock; null: nothing. */
  const problemAt = (now: number): string | null => {
    if (lastSigning !== null && now < lastSigning - backToleranceMs)
      return `the clock is ${seconds(lastSigning - now)} s behind the last signing time`
    const ahead = offsetAt(now) - trustedOffset
    if (ahead > aheadToleranceMs) return `the clock jumped ${seconds(ahead)} s ahead while the CA was running`
    return null
  }

  const actingTime = (): number => {
    const now = clock.now()
    const ahead = offsetAt(now) - trustedOffset
    return ahead > aheadToleranceMs ? Math.floor(now - ahead) : now
  }

  const refuse = (now: number, problem: string): never => {
    if (!told) {
      told = true
      const leaf = events.clockJump({ at: now, who: 'system' }, { lastSigning: lastSigning ?? 0, seen: now })
      log.error({ lastSigning, now }, problem)
      later('the clock’s jump could not be audited', () => audit.append([leaf]))
    }
    throw new CaError('clock_refused', problem, {
      hint: 'set the clock right, or say that it is right: agentca clock accept',
      facts: { lastSigning, now },
    })
  }

  const state = (): ClockState => {
    const now = clock.now()
    const problem = problemAt(now)
    if (problem !== null) return { state: 'refused', now, lastSigning, detail: problem }
    if (!isConfirmed(now))
      return { state: 'unconfirmed', now, lastSigning, detail: describeUnmeasured(unmeasured.at(now)) }
    const detail = 'the clock agrees with the last signing time and with the monotonic clock'
    return { state: 'ok', now, lastSigning, detail }
  }

  const { state: first, lastSigning: last, detail } = state()
  if (first === 'unconfirmed') log.warn({ lastSigning: last, detail }, 'is the clock right? then: agentca clock accept')

  return {
    check: now => {
      const problem = problemAt(now)
      if (problem !== null) refuse(now, problem)
      told = false
      trustedOffset = Math.min(trustedOffset, offsetAt(now))
      lastSigning = Math.max(lastSigning ?? now, now)
      if (lastSigning - begun < writeEveryMs) return
      begun = lastSigning
      later('the last signing time could not be written', write)
    },
    state,
    now: actingTime,
    mayEnd: () => unmeasured.at(actingTime()) <= unmeasuredToleranceMs,
    confirm: async () => {
      const now = clock.now()
      if (isConfirmed(now)) await meta.set({ last_confirmed_time: String(now) })
    },
    accept: async (context, why) => {
      const now = clock.now()
      const offset = offsetAt(now)
      const facts = { lastSigning: lastSigning ?? 0, accepted: now, ...(why === undefined ? {} : { why }) }
      // Recorded first: a crash in between leaves a clock that is refused and can be accepted again.
      await audit.append([events.clockAccepted(leafContextOf(context, now), facts)])
      lastSigning = now
      begun = now
      trustedOffset = offset
      unmeasured.accept(now)
      told = false
      await write()
      return state()
    },
    close: async () => {
      await background
      await write()
    },
  }
}
