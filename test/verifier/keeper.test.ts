// The kept state: whole or not at all, never younger than it is, and what is revoked stays so whatever a clock does.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { createKeeper, type Keeper } from '../../src/verifier/keeper.ts'
import type { FeedEvent } from '../../src/verify/feed-event.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { epoch, revokeEvent, serialOf, snapshotEvent } from './publication.ts'

const policy = { onStale: 'refuse', maxStalenessMs: 300_000 } as const
const stateFile = 'revocation-state.jsonl'
let directory: string
let timing: TestTiming
let errors: number

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'agentca-keeper-')), 'state')
  timing = createTiming()
  errors = 0
})
afterEach(() => {
  rmSync(join(directory, '..'), { recursive: true, force: true })
})

const open = (): Keeper =>
  createKeeper({ clock: timing.clock, log: { ...silentLog, error: () => errors++ }, policy, directory })
const heartbeat = (n: number): FeedEvent => ({
  type: 'heartbeat',
  position: { epoch, n },
  at: timing.clock.now(),
  leaseSeconds: 15,
})
const saved = (): Keeper => {
  const keeper = open()
  keeper.take(snapshotEvent(3, 2, timing.clock.now()))
  keeper.take(heartbeat(3))
  keeper.save()
  return keeper
}
const isRevoked = (keeper: Keeper, i: number): boolean => keeper.state.status(serialKeyOf(serialOf(i))) === 'revoked'

describe('a kept state', () => {
  it('is there after a restart, for its owner only, and ages as if the process had gone on', () => {
    saved()
    expect(statSync(directory).mode & 0o777).toBe(0o700)
    for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600)
    timing.advance(200_000)
    timing.moveWall(200_000)
    const next = open()
    expect(next.position()).toEqual({ epoch, n: 3 })
    expect([0, 1, 2].map(i => isRevoked(next, i))).toEqual([true, true, false])
    const { rung, ageMs } = next.freshness()
    expect(rung).toBe('aging')
    expect(ageMs).toBeGreaterThanOrEqual(199_000)
    timing.advance(102_000)
    expect(next.freshness()).toMatchObject({ rung: 'stale', trusted: false })
  })

  it('is not made young by a clock that went back', () => {
    saved()
    timing.moveWall(-3_600_000)
    expect(open().freshness()).toMatchObject({ rung: 'stale', trusted: false })
  })

  it.each([
    ['cut off within a line', (text: string) => text.slice(0, -5)],
    ['without its last part', (text: string) => `${text.split('\n')[0]}\n`],
    ['of another version', (text: string) => text.replace('"version":1', '"version":2')],
    ['of another position', (text: string) => text.replace(`${epoch}.3`, `${epoch}.4`)],
    ['with a serial that is none', (text: string) => text.replace(serialOf(0), 'not a serial')],
    ['empty', () => ''],
  ])('is nothing when its file is %s: whoever calls is refused until the CA is heard', (_, damage) => {
    saved()
    const path = join(directory, stateFile)
    const text = readFileSync(path, 'utf8')
    const damaged = damage(text)
    expect(damaged).not.toBe(text)
    writeFileSync(path, damaged)
    const next = open()
    expect(errors).toBe(1)
    expect(next.position()).toBeNull()
    expect(next.freshness()).toEqual({ rung: 'unknown', trusted: false, ageMs: null })
    next.take(snapshotEvent(5, 1, timing.clock.now()))
    next.save()
    expect(open().position()).toEqual({ epoch, n: 5 })
  })

  it('is judged by its own times when the confirmation beside it is of another state', () => {
    const keeper = saved()
    const before = readFileSync(join(directory, stateFile))
    timing.advance(250_000)
    timing.moveWall(250_000)
    keeper.take(revokeEvent(4, serialOf(8), timing.clock.now()))
    keeper.save()
    expect(isRevoked(open(), 8)).toBe(true)
    // As if the process had ended before the state itself was in place.
    writeFileSync(join(directory, stateFile), before)
    const next = open()
    expect(next.position()).toEqual({ epoch, n: 3 })
    expect(next.freshness().ageMs).toBeGreaterThanOrEqual(249_000)
  })

  it('is not written anew for a heartbeat', () => {
    const keeper = saved()
    const before = statSync(join(directory, stateFile)).ino
    timing.advance(60_000)
    timing.moveWall(60_000)
    keeper.take(heartbeat(3))
    keeper.save()
    expect(statSync(join(directory, stateFile)).ino).toBe(before)
    expect(open().freshness().ageMs).toBeLessThan(2000)
  })
})

describe('what is revoked', () => {
  it('is forgotten once its certificate has ended by the time of the CA, not by a clock that ran ahead', () => {
    const keeper = saved()
    timing.moveWall(365 * 86_400_000)
    keeper.expire()
    expect(isRevoked(keeper, 0)).toBe(true)
    keeper.take(heartbeat(3))
    keeper.expire()
    expect(isRevoked(keeper, 0)).toBe(false)
  })
})
