// The state a verifier judges by and what vouches for it: events from the feed and published states go in, the ladder's answer comes out.
// Never backwards: a published state takes the place of another only when it comes after it. What lies on disk is kept-state.ts.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { encodePosition, type FeedEvent, type FeedPosition } from '../verify/feed-event.ts'
import {
  type Confirmations,
  type Freshness,
  freshnessAt,
  type StalenessPolicy,
  trustedForMs,
} from '../verify/freshness.ts'
import { type Applied, createRevocationState, type RevocationState } from '../verify/revocation-state.ts'
import { createSaidAt } from '../verify/said-at.ts'
import type { StateHead } from '../verify/signed-state.ts'
import { createVotedClock } from '../verify/voted-clock.ts'
import { type Confirmed, readKept } from './kept-state.ts'
import { createStateJournal, type StateJournal } from './state-journal.ts'

export interface KeeperDeps {
  readonly clock: Clock
  readonly log: Log
  readonly policy: StalenessPolicy
  /** null: nothing is kept. */
  readonly directory: string | null
}

export interface Keeper {
  readonly state: RevocationState
  position(): FeedPosition | null
  /** Another number means that something is known that was not, or vouched for: what was decided before may not hold. */
  version(): number
  freshness(): Freshness
  /** Milliseconds for which it stays trusted by what is known; 0: it is not. */
  trustedForMs(): number
  /** The trust bundle as the feed last said it, PEM; null where it never did. Published states say nothing of whom to trust. */
  bundlePem(): string | null
  /** The time by which certificates are judged; milliseconds since the epoch. */
  now(): number
  /** A live event. A heartbeat that confirms the state renews its lease. @param asked monotonic: when its stream was asked for */
  take(event: FeedEvent, asked?: number): Applied
  /** `at` of the newest head that was accepted: older ones are replays. */
  notOlderThan(): number | null
  /** Whether a published state is not behind what is known. */
  isAhead(head: StateHead): boolean
  /** An event of a published state that follows what is known. */
  follow(event: FeedEvent): Applied
  /** A whole published state, in the place of what is known. @returns false when what is known has overtaken it meanwhile */
  replace(state: RevocationState, head: StateHead): boolean
  /** The head vouches for what is known, once that has reached it. @returns whether it has */
  vouch(head: StateHead): boolean
  /** Forgets the serials of certificates that have ended. */
  expire(): void
  /** Writes what changed since. Never rejects: a fault is in the log. */
  save(): Promise<void>
}

/** Between confirmations on disk. */
const confirmEveryMs = 5000
/** Clocks may differ by so much before an ended certificate that is forgotten here could be taken for a valid one. */
const expireLateMs = 3_600_000

/** What is known of the state's age. Monotonic times are of this process. */
interface Ground {
  readonly confirmedAt: number | null
  readonly leaseUntil: number | null
  readonly publishedUntil: number | null
  /** Monotonic: the published state's whole life from when it was accepted, so that a clock that goes back does not stretch it. */
  readonly publishedDeadline: number
  readonly headAt: number | null
  readonly caTime: number
}

const noGround: Ground = {
  confirmedAt: null,
  leaseUntil: null,
  publishedUntil: null,
  publishedDeadline: 0,
  headAt: null,
  caTime: 0,
}

/** Of one stream: a snapshot that is not whole yet, and that nothing but this stream touches. */
interface Gathering {
  readonly asked: number | undefined
  readonly begun: number
  readonly state: RevocationState
  bundlePem: string | null
}

interface Loaded {
  readonly state: RevocationState
  readonly ground: Ground
  readonly bundlePem: string | null
}

const load = ({ clock, log, policy, directory }: KeeperDeps): Loaded => {
  const nothing = { state: createRevocationState(), ground: noGround, bundlePem: null }
  if (directory === null) return nothing
  try {
    const kept = readKept(directory)
    if (kept === null) return nothing
    const { at, publishedUntil, headAt, caTime } = kept.confirmed
    const age = clock.now() - at
    log.info({ position: positionText(kept.state), ageMs: age }, 'the last revocation state was read')
    // A clock that went back must not make an old state young.
    const isKnown = age >= 0
    return {
      state: kept.state,
      bundlePem: kept.bundlePem,
      ground: {
        confirmedAt: clock.monotonic() - (isKnown ? age : policy.maxStalenessMs + 1),
        leaseUntil: null,
        publishedUntil: isKnown ? publishedUntil : null,
        publishedDeadline: clock.monotonic() + (publishedUntil === null ? 0 : publishedUntil - clock.now()),
        headAt,
        caTime,
      },
    }
  } catch (error) {
    log.error({ directory, reason: messageOf(error) }, 'the last revocation state cannot be read; waiting for the CA')
    return nothing
  }
}

export const createKeeper = (deps: KeeperDeps): Keeper => {
  const { clock, log, policy, directory } = deps
  // Owned by this closure.
  let { state, ground, bundlePem } = load(deps)
  let gathering: Gathering | null = null
  /** Where in the feed the bundle was heard by this process; null: it was not. */
  let bundleAt: FeedPosition | null = null
  /** The last change by a published state: monotonic; and the time of the last head whose state took the place of another. */
  let published = { when: Number.NEGATIVE_INFINITY, headAt: Number.NEGATIVE_INFINITY }
  let savedPosition = positionText(state)
  let savedAt = Number.NEGATIVE_INFINITY
  const journal =
    directory === null
      ? noJournal
      : createStateJournal({ directory, log, state: () => state, bundlePem: () => bundlePem })
  const saidAt = createSaidAt()
  const voted = createVotedClock(clock)

  let version = 0
  const confirm = (changes: Partial<Ground>): void => {
    version++
    ground = { ...ground, ...changes, caTime: Math.max(ground.caTime, changes.caTime ?? 0) }
  }
  const isAhead = ({ epoch, n, at }: StateHead): boolean => {
    const known = state.position()
    if (known === null) return true
    // Between epochs only the CA's time tells which came after which.
    return known.epoch === epoch ? n >= known.n : at > ground.caTime
  }
  const applying = (event: FeedEvent): Applied => {
    const applied = state.apply(event)
    version++
    if (applied === 'applied' && event.type !== 'heartbeat') journal.add(event)
    return applied
  }
  const swap = (next: RevocationState): void => {
    state = next
    version++
    journal.restart()
  }
  /** Only by what came while it was on its way: a CA that lost its newest entries is right all the same. */
  const isOvertaken = ({ position, at }: FeedEvent, since: number): boolean => {
    const known = state.position()
    if (known === null || published.when < since) return false
    return known.epoch === position.epoch ? known.n > position.n : published.headAt > at
  }
  const isNewBundle = ({ epoch, n }: FeedPosition): boolean =>
    bundleAt === null || bundleAt.epoch !== epoch || bundleAt.n < n
  const hearBundle = (pem: string, position: FeedPosition): void => {
    bundlePem = pem
    bundleAt = position
  }

  const takePart = (event: Extract<FeedEvent, { type: 'snapshot' }>, asked: number | undefined): Applied => {
    if (event.part === 1)
      gathering = { asked, begun: clock.monotonic(), state: createRevocationState(), bundlePem: null }
    if (gathering === null) return 'resync'
    const of = gathering
    const applied = of.state.apply(event)
    of.bundlePem = event.bundlePem ?? of.bundlePem
    if (applied === 'part') return applied
    gathering = null
    if (applied !== 'applied') return applied
    if (!isOvertaken(event, asked ?? of.begun)) {
      swap(of.state)
      if (of.bundlePem !== null) hearBundle(of.bundlePem, event.position)
      confirm({ confirmedAt: clock.monotonic(), caTime: event.at })
      return 'applied'
    }
    if (state.position()?.epoch !== event.position.epoch) return 'resync'
    // What is known has all of it, except for whom to trust, which only the feed says; it is as old as its own head says.
    if (of.bundlePem !== null && isNewBundle(event.position)) {
      hearBundle(of.bundlePem, event.position)
      journal.restart()
    }
    return 'applied'
  }
  /** A published state may have passed the feed by, and says nothing of whom to trust. */
  const takePassedBundle = (event: FeedEvent): Applied => {
    if (event.type !== 'bundle' || !isNewBundle(event.position)) return 'duplicate'
    hearBundle(event.bundlePem, event.position)
    journal.restart()
    return 'applied'
  }
  const confirmedNow = (confirmedAt: number): Confirmed => ({
    at: Math.round(voted.now() - (clock.monotonic() - confirmedAt)),
    publishedUntil: ground.publishedUntil,
    headAt: ground.headAt,
    caTime: ground.caTime,
  })

  const groundAt = (monotonic: number): Confirmations => ({
    ...ground,
    publishedUntil: monotonic < ground.publishedDeadline ? ground.publishedUntil : null,
  })

  return {
    get state() {
      return state
    },
    position: () => state.position(),
    version: () => version,
    freshness: () => {
      const now = { wall: voted.now(), monotonic: clock.monotonic() }
      return freshnessAt(groundAt(now.monotonic), policy, now)
    },
    trustedForMs: () => {
      const now = { wall: voted.now(), monotonic: clock.monotonic() }
      const known = groundAt(now.monotonic)
      if (policy.onStale === 'allow' && known.confirmedAt !== null) return Number.POSITIVE_INFINITY
      return trustedForMs(known, policy, now)
    },
    now: voted.now,
    bundlePem: () => bundlePem,
    take: (event, asked) => {
      // Of a stream that ended.
      if (gathering !== null && gathering.asked !== asked) gathering = null
      if (event.type === 'snapshot') return takePart(event, asked)
      // A snapshot that was cut off is worth nothing: what follows belongs to a state that is not there.
      if (gathering !== null) {
        gathering = null
        return 'resync'
      }
      const applied = applying(event)
      if (applied === 'duplicate') return takePassedBundle(event)
      if (applied !== 'applied') return applied
      const arrived = clock.monotonic()
      if (event.type === 'heartbeat') {
        // It vouches for when it was said, and until its lease from then is over.
        const said = saidAt.of(event.at, arrived, asked)
        voted.heard(event.at, said)
        confirm({
          confirmedAt: Math.max(ground.confirmedAt ?? Number.NEGATIVE_INFINITY, said),
          leaseUntil: said + event.leaseSeconds * 1000,
          caTime: event.at,
        })
      } else {
        if (event.type === 'bundle') hearBundle(event.bundlePem, event.position)
        confirm({ caTime: event.at })
      }
      return applied
    },
    notOlderThan: () => ground.headAt,
    isAhead,
    follow: event => {
      published = { ...published, when: clock.monotonic() }
      return applying(event)
    },
    replace: (next, head) => {
      if (!isAhead(head)) return false
      published = { when: clock.monotonic(), headAt: head.at }
      swap(next)
      return true
    },
    vouch: head => {
      const known = state.position()
      if (known === null || known.epoch !== head.epoch || known.n < head.n) return false
      const now = clock.monotonic()
      const age = Math.max(0, voted.now() - head.at)
      confirm({
        // A head says how things were when it was signed, not when it was fetched.
        confirmedAt: Math.max(ground.confirmedAt ?? Number.NEGATIVE_INFINITY, now - age),
        publishedUntil: head.nextUpdate,
        publishedDeadline: now + (head.nextUpdate - head.at),
        headAt: head.at,
        caTime: head.at,
      })
      return true
    },
    // By the CA's time, not by a local clock that may have run ahead: what is forgotten is not refused any more.
    expire: () => state.expire(Math.min(voted.now(), ground.caTime) - expireLateMs),
    save: async () => {
      const { confirmedAt } = ground
      if (confirmedAt === null) return
      const position = positionText(state)
      if (position === savedPosition && clock.monotonic() - savedAt < confirmEveryMs) return
      savedPosition = position
      savedAt = clock.monotonic()
      await journal.write(confirmedNow(confirmedAt))
    },
  }
}

const noJournal: StateJournal = { add: () => {}, restart: () => {}, write: async () => {} }

const positionText = (state: RevocationState): string => {
  const position = state.position()
  return position === null ? '' : encodePosition(position)
}
