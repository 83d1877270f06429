// A verifier whose feed is away follows the published state, and is not led back or astray by whoever serves it.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Log, silentLog } from '../../src/base/log.ts'
import { createKeeper, type Keeper } from '../../src/verifier/keeper.ts'
import { type PublishedStatePolling, startPublishedStatePolling } from '../../src/verifier/published-state.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import { madeCredential } from '../agent/made-credential.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { until } from '../story/until.ts'
import {
  caId,
  epoch,
  logKeyPem,
  type Mirror,
  otherKey,
  publicationOf,
  revokeEvent,
  serialOf,
  snapshotEvent,
  startMirror,
} from './publication.ts'

const directory = mkdtempSync(join(tmpdir(), 'agentca-published-'))
const policy = { onStale: 'refuse', maxStalenessMs: 1000 } as const
let timing: TestTiming
let keeper: Keeper
let mirror: Mirror
let polling: PublishedStatePolling
let live = false
let changes = 0
const refusals: unknown[] = []
const log: Log = { ...silentLog, warn: facts => refusals.push((facts as { code: unknown }).code) }

const made = madeCredential(1)
let polls = 0
const identity = {
  current: () => {
    polls++
    return { ...made, facts: { ...made.facts, caId, logKey: logKeyPem } }
  },
}
const start = (kept: string | null = null): void => {
  keeper = createKeeper({ clock: timing.clock, log, policy, directory: kept })
  polling = startPublishedStatePolling({
    fetch: (url, call) => fetch(url, call),
    identity,
    keeper,
    timing,
    log,
    statusUrl: mirror.url,
    isLive: () => live,
    changed: () => changes++,
  })
}

beforeEach(async () => {
  timing = createTiming()
  mirror = await startMirror()
  live = false
  changes = 0
  refusals.length = 0
  start()
})
afterEach(async () => {
  await polling.close()
  await mirror[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const now = () => timing.clock.now()
const statusOf = (serial: string) => keeper.state.status(serialKeyOf(serial))
const show = (published: Parameters<typeof publicationOf>[0]) => {
  const publication = publicationOf(published)
  mirror.show(publication.files)
  return publication.head
}
/** Time passes until the next poll has ended. */
const pollUntil = (what: string, holds: () => boolean) =>
  until(what, () => {
    timing.advance(1000)
    return holds()
  })
const accepted = (at: number) => pollUntil('accepted', () => keeper.notOlderThan() === at)
const refused = async (): Promise<unknown> => {
  refusals.length = 0
  await pollUntil('refused', () => refusals.length > 0)
  return refusals[0]
}

describe('a published state', () => {
  it('is taken where nothing is known, vouches until its next update, and not for longer', async () => {
    const head = show({
      at: now(),
      snapshot: snapshotEvent(3, 2, now()),
      changes: [revokeEvent(4, serialOf(9), now())],
    })
    await accepted(head.at)
    expect(keeper.position()).toEqual({ epoch, n: 4 })
    expect(['revoked', 'revoked', null, 'revoked']).toEqual([0, 1, 2, 9].map(i => statusOf(serialOf(i))))
    expect(keeper.freshness()).toMatchObject({ rung: 'published', trusted: true })
    expect(changes).toBeGreaterThan(0)
    await polling.close()
    timing.moveWall(300_000)
    expect(keeper.freshness()).toMatchObject({ rung: 'stale', trusted: false })
    timing.moveWall(-600_000)
    timing.advance(300_000)
    expect(keeper.freshness()).toMatchObject({ rung: 'stale', trusted: false })
  })

  it('is followed by its last change alone', async () => {
    const at = now()
    await accepted(show({ at, snapshot: snapshotEvent(3, 1, at) }).at)
    mirror.asked.length = 0
    const next = show({ at: at + 1, snapshot: snapshotEvent(3, 1, at), changes: [revokeEvent(4, serialOf(7), at)] })
    await accepted(next.at)
    expect(statusOf(serialOf(7))).toBe('revoked')
    expect(new Set(mirror.asked.filter(name => !name.startsWith('head')))).toEqual(new Set([next.deltas[0]?.name]))
  })

  it('is not looked for while the feed is live', async () => {
    live = true
    polls = 0
    const head = show({ at: now(), snapshot: snapshotEvent(3, 1, now()) })
    for (let i = 0; i < 50; i++) {
      timing.advance(10_000)
      await new Promise(setImmediate)
    }
    expect(polls).toBe(0)
    live = false
    await accepted(head.at)
  })

  it('is refused when it is forged, expired, older than one that was accepted, or not what the head names', async () => {
    const at = now()
    show({ at, snapshot: snapshotEvent(3, 1, at), key: otherKey })
    expect(await refused()).toBe('state_signature_invalid')
    show({ at: at - 300_000, snapshot: snapshotEvent(3, 1, at) })
    expect(await refused()).toBe('state_expired')
    const { files, head } = publicationOf({ at, snapshot: snapshotEvent(3, 1, at) })
    const forged = publicationOf({ at, snapshot: snapshotEvent(3, 0, at) })
    const padded = Buffer.alloc(head.snapshot.bytes, forged.files.get(forged.head.snapshot.name)!)
    mirror.show(new Map([...files, [head.snapshot.name, padded]]))
    expect(await refused()).toBe('state_file_differs')
    mirror.show(new Map([...files, [head.snapshot.name, Buffer.alloc(head.snapshot.bytes + 1)]]))
    expect(await refused()).toBe('state_malformed')
    expect(keeper.position()).toBeNull()
    expect(keeper.freshness().rung).toBe('unknown')

    mirror.show(files)
    await accepted(at)
    show({ at: at - 1, snapshot: snapshotEvent(5, 0, at) })
    expect(await refused()).toBe('state_rolled_back')
    expect(keeper.position()).toEqual({ epoch, n: 3 })
  })

  it('does not go back behind what the feed said, in this epoch or to another one', async () => {
    const at = now()
    keeper.take(snapshotEvent(9, 2, at))
    const heartbeat = { type: 'heartbeat', position: { epoch, n: 9 }, at, leaseSeconds: 1 } as const
    keeper.take(heartbeat)
    timing.advance(5000)
    const before = { ...keeper.freshness() }
    expect(before.rung).toBe('stale')
    const older = 'fedcba9876543210'
    for (const published of [
      { at: at - 10_000, snapshot: snapshotEvent(8, 0, at) },
      { at: at - 10_000, snapshot: snapshotEvent(20, 0, at, older) },
    ]) {
      show(published)
      mirror.asked.length = 0
      // A second look begins when the first has ended.
      await pollUntil('looked twice', () => mirror.asked.filter(name => name === 'head').length >= 2)
      expect(keeper.position()).toEqual({ epoch, n: 9 })
      expect(keeper.freshness().rung).toBe('stale')
    }
    const restored = show({ at: at + 1, snapshot: snapshotEvent(2, 1, at, older) })
    await accepted(restored.at)
    expect(keeper.position()).toEqual({ epoch: older, n: 2 })
    expect(keeper.freshness().rung).toBe('published')
  })

  it('is remembered over a restart: what is older is a replay to the next process too', async () => {
    await polling.close()
    start(directory)
    const at = now()
    await accepted(show({ at, snapshot: snapshotEvent(3, 1, at) }).at)
    await polling.close()
    start(directory)
    expect(keeper.position()).toEqual({ epoch, n: 3 })
    expect(keeper.freshness().rung).toBe('published')
    show({ at: at - 1, snapshot: snapshotEvent(9, 0, at) })
    expect(await refused()).toBe('state_rolled_back')
  })
})
