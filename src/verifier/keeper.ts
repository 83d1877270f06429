// The state a verifier judges by and what vouches for it: events from the feed go in, the ladder's answer comes out, and the last good
// state lies on disk for a start without the CA. Never backwards: what is on disk is replaced only by what came after it.
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import {
  encodeFeedData,
  encodePosition,
  type FeedEvent,
  type FeedPosition,
  parseFeedEvent,
} from '../verify/feed-event.ts'
import { type Freshness, freshnessAt, type StalenessPolicy } from '../verify/freshness.ts'
import { type Applied, createRevocationState, type RevocationState } from '../verify/revocation-state.ts'

export interface KeeperDeps {
  readonly clock: Clock
  readonly log: Log
  readonly policy: StalenessPolicy
  /** null: nothing is kept. */
  readonly directory: string | null
}

export interface Keeper {
  readonly state: RevocationState
  /** A live event. A heartbeat that confirms the state renews its lease. */
  take(event: FeedEvent): Applied
  freshness(): Freshness
  position(): FeedPosition | null
  /** Writes the state, if it changed since. */
  save(): void
}

const fileName = 'revocation-state.jsonl'

/** First line of the file: when the state was last confirmed, on the wall clock, because the monotonic one ends with its process. */
interface FileHead {
  readonly version: 1
  readonly confirmedAt: number
}

const writeDurably = (directory: string, text: string): void => {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, fileName)
  const file = openSync(`${path}.new`, 'w', 0o600)
  try {
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.new`, path)
}

const readFile = (directory: string): { readonly head: FileHead; readonly events: readonly FeedEvent[] } | null => {
  const path = join(directory, fileName)
  if (!existsSync(path)) return null
  const [first, ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n')
  const head = JSON.parse(first ?? '') as FileHead
  if (head.version !== 1 || !Number.isSafeInteger(head.confirmedAt)) throw new Error('of another version')
  const events = lines.map(line => {
    const { id, data } = JSON.parse(line) as { readonly id: string; readonly data: unknown }
    return parseFeedEvent('snapshot', id, JSON.stringify(data))
  })
  return { head, events }
}

export const createKeeper = ({ clock, log, policy, directory }: KeeperDeps): Keeper => {
  const state = createRevocationState()
  // Monotonic, owned by this closure.
  let confirmedAt: number | null = null
  let leaseUntil: number | null = null
  let saved = ''

  const load = (): void => {
    if (directory === null) return
    try {
      const found = readFile(directory)
      if (found === null) return
      for (const event of found.events) state.apply(event)
      const age = clock.now() - found.head.confirmedAt
      // A clock that went back must not make an old state young.
      confirmedAt = clock.monotonic() - (age >= 0 ? age : policy.maxStalenessMs + 1)
      log.info({ position: describe(state.position()), ageMs: age }, 'the last revocation state was read')
    } catch (error) {
      log.error({ directory, reason: messageOf(error) }, 'the last revocation state cannot be read; waiting for the CA')
    }
  }
  load()

  const confirm = (): void => {
    confirmedAt = clock.monotonic()
  }

  return {
    state,
    take: event => {
      const applied = state.apply(event)
      if (applied !== 'applied') return applied
      confirm()
      if (event.type === 'heartbeat') leaseUntil = clock.monotonic() + event.leaseSeconds * 1000
      return applied
    },
    freshness: () =>
      freshnessAt({ confirmedAt, leaseUntil, publishedUntil: null }, policy, {
        wall: clock.now(),
        monotonic: clock.monotonic(),
      }),
    position: state.position,
    save: () => {
      const position = state.position()
      if (directory === null || position === null || confirmedAt === null) return
      const now = clock.now()
      const head: FileHead = { version: 1, confirmedAt: now - Math.round(clock.monotonic() - confirmedAt) }
      const mark = `${encodePosition(position)} ${Math.floor(head.confirmedAt / 5000)}`
      if (mark === saved) return
      state.expire(now)
      const lines = (state.snapshot(now) ?? []).map(
        part => `{"id":"${encodePosition(part.position)}","data":${encodeFeedData(part)}}`,
      )
      try {
        writeDurably(directory, `${[JSON.stringify(head), ...lines].join('\n')}\n`)
        saved = mark
      } catch (error) {
        log.error({ directory, reason: messageOf(error) }, 'the revocation state could not be written')
      }
    },
  }
}

const describe = (position: FeedPosition | null): string => (position === null ? 'none' : encodePosition(position))
