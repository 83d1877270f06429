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
const pass = (ms: number): void => {
  timing.advance(ms)
  timing.moveWall(ms)
}
const saved = async (): Promise<Keeper> => {
  const keeper = open()
  keeper.take(snapshotEvent(3, 2, timing.clock.now()))
  keeper.take(heartbeat(3))
  await keeper.save()
  return keeper
}
const isRevoked = (keeper: Keeper, i: number): boolean => keeper.state.status(serialKeyOf(serialOf(i))) === 'revoked'

describe('a kept state', () => {
  it('is there after a restart, for its owner only, and ages as if the process had gone on', async () => {
    await saved()
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

  it('is not made young by a clock that went back', async () => {
    await saved()
    timing.moveWall(-3_600_000)
    expect(open().freshness()).toMatchObject({ rung: 'stale', trusted: false })
  })

  it.each([
    ['cut off within a line', (text: string) => text.slice(0, -5)],
    ['without its last part', (text: string) => text.replace(/\n\{"at"[^\n]+\n\{"end"/, '\n{"end"')],
    ['without its end', (text: string) => text.replace(/\{"end"[^\n]+\n/, '')],
    ['of another version', (text: string) => text.replace('"version":2', '"version":3')],
    ['without its position', (text: string) => text.replace(`${epoch}.3`, 'none')],
    ['with a serial that is none', (text: string) => text.replace(serialOf(0), 'not a serial')],
    ['empty', () => ''],
  ])('is nothing when its file is %s: whoever calls is refused until the CA is heard', async (_, damage) => {
    await saved()
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
    await next.save()
    expect(open().position()).toEqual({ epoch, n: 5 })
  })

  it('is what its journal leads to, up to where a crash tore it off at any byte, and no younger', async () => {
    const keeper = await saved()
    const [at, name] = [timing.clock.now(), () => readdirSync(directory).find(each => each.startsWith('journal-'))!]
    const before = readFileSync(join(directory, 'confirmed.json'))
    const base = readFileSync(join(directory, stateFile))
    for (const n of [4, 5, 6]) {
      pass(100_000)
      keeper.take(revokeEvent(n, serialOf(100 + n), at))
      keeper.take(heartbeat(n))
      await keeper.save()
    }
    expect(readFileSync(join(directory, stateFile))).toEqual(base)
    const journal = readFileSync(join(directory, name()))
    writeFileSync(join(directory, 'confirmed.json'), before)
    let last = 3
    const isNearLineEnd = (at: number): boolean => journal.subarray(Math.max(0, at - 2), at + 2).includes(0x0a)
    for (let length = 0; length <= journal.length; length++) {
      if (length % 7 !== 0 && !isNearLineEnd(length)) continue
      writeFileSync(join(directory, name()), journal.subarray(0, length))
      const next = open()
      const { n } = next.position()!
      expect(n).toBeGreaterThanOrEqual(last)
      last = n
      for (const i of [4, 5, 6]) expect(isRevoked(next, 100 + i)).toBe(i <= n)
      const { ageMs } = next.freshness()
      expect(ageMs).toBeGreaterThanOrEqual(100_000 * (6 - n))
      expect(ageMs).toBeLessThanOrEqual(100_000 * (7 - n) + 50_000)
    }
    expect(last).toBe(6)
    expect(errors).toBe(0)
  })

  it('is judged by its own times when the confirmation beside it is of another state', async () => {
    const keeper = await saved()
    pass(250_000)
    keeper.take(revokeEvent(4, serialOf(8), timing.clock.now()))
    keeper.take(heartbeat(4))
    await keeper.save()
    expect(isRevoked(open(), 8)).toBe(true)
    // As if the process had ended before the journal was in place.
    for (const name of readdirSync(directory)) if (name.startsWith('journal-')) rmSync(join(directory, name))
    const next = open()
    expect(next.position()).toEqual({ epoch, n: 3 })
    expect(next.freshness().ageMs).toBeGreaterThanOrEqual(249_000)
  })

  it('has a new base once the journal weighs more, with everything that comes while it is written', async () => {
    const keeper = await saved()
    const base = statSync(join(directory, stateFile)).ino
    const at = timing.clock.now()
    let n = 3
    const revokeMany = (events: number) => {
      for (let i = 0; i < events; i++) {
        n++
        const changes = Array.from({ length: 200 }, (_, j) => ({
          serial: serialOf(n * 1000 + j),
          notAfter: at + 3_600_000,
        }))
        keeper.take({ ...revokeEvent(n, serialOf(n), at), changes } as FeedEvent)
      }
    }
    revokeMany(200)
    await keeper.save()
    revokeMany(1)
    const writing = keeper.save()
    const added = setInterval(() => revokeMany(1))
    await writing
    clearInterval(added)
    await keeper.save()
    const next = open()
    expect(statSync(join(directory, stateFile)).ino).not.toBe(base)
    expect(readdirSync(directory).filter(name => name.startsWith('journal-'))).toHaveLength(1)
    expect(next.position()).toEqual(keeper.position())
    expect(
      [...next.state.snapshot(0)!].flatMap(({ revoked }) => revoked.map(({ serial }) => serial)).toSorted(),
    ).toEqual([...keeper.state.snapshot(0)!].flatMap(({ revoked }) => revoked.map(({ serial }) => serial)).toSorted())
    expect(errors).toBe(0)
  })

  it('begins anew with another epoch, and what came of it while the base was written is not lost', async () => {
    const keeper = await saved()
    const other = 'fedcba9876543210'
    keeper.take(snapshotEvent(1, 500, timing.clock.now(), other))
    keeper.take(revokeEvent(2, serialOf(900), timing.clock.now(), other))
    const writing = keeper.save()
    keeper.take(revokeEvent(3, serialOf(901), timing.clock.now(), other))
    await writing
    await keeper.save()
    const next = open()
    expect(next.position()).toEqual({ epoch: other, n: 3 })
    expect([900, 901].map(i => isRevoked(next, i))).toEqual([true, true])
  })

  it('is not written anew for a heartbeat', async () => {
    const keeper = await saved()
    const before = statSync(join(directory, stateFile)).ino
    timing.advance(60_000)
    timing.moveWall(60_000)
    keeper.take(heartbeat(3))
    await keeper.save()
    expect(statSync(join(directory, stateFile)).ino).toBe(before)
    expect(open().freshness().ageMs).toBeLessThan(2000)
  })
})

describe('what is revoked', () => {
  it('is forgotten once its certificate has ended by the time of the CA, not by a clock that ran ahead', async () => {
    const keeper = await saved()
    timing.moveWall(365 * 86_400_000)
    keeper.expire()
    expect(isRevoked(keeper, 0)).toBe(true)
    keeper.take(heartbeat(3))
    keeper.expire()
    expect(isRevoked(keeper, 0)).toBe(false)
  })
})
