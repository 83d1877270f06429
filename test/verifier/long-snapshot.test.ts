// A snapshot that comes as fast as it is read must not keep requests from being answered until it is whole; nor do it and the published
// states that are taken meanwhile harm each other.
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { startFeedClient } from '../../src/verifier/feed-client.ts'
import { createKeeper, type Keeper } from '../../src/verifier/keeper.ts'
import { encodeFeedData, encodePosition, type KnownFeedEvent } from '../../src/verify/feed-event.ts'
import { createRevocationState } from '../../src/verify/revocation-state.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import type { StateHead } from '../../src/verify/signed-state.ts'
import { epoch, revokeEvent, serialOf, snapshotEvent } from './publication.ts'

const position = { epoch, n: 1 }
const parts = 40

const partOf = (part: number): Uint8Array => {
  const serial = `01${part.toString(16).padStart(30, '0')}`
  const revoked = [{ serial, notAfter: 2_000_000_000_000 }]
  const data = encodeFeedData({
    type: 'snapshot',
    position,
    at: 1,
    part,
    parts,
    revoked,
    held: [],
    principals: [],
  })
  return new TextEncoder().encode(`event: snapshot\nid: ${position.epoch}.${position.n}\ndata: ${data}\n\n`)
}

it('lets others have their turn between its parts', async () => {
  const state = createRevocationState()
  const whole = Promise.withResolvers<void>()
  let turns = 0
  let at = 0
  const body = async function* () {
    for (let part = 1; part <= parts; part++) yield partOf(part)
  }
  const client = startFeedClient({
    identity: {
      current: () => ({ trustDomain: 'example.org', url: 'https://ca.invalid' }) as never,
      onChange: () => () => {},
      fetch: async url =>
        url.includes('/ack')
          ? { status: 204, body: null, text: async () => '' }
          : { status: 200, body: body(), text: async () => '' },
    },
    log: silentLog,
    subscriber: 'one',
    maxStalenessSeconds: 300,
    position: state.position,
    take: event => {
      const applied = state.apply(event)
      if (applied === 'applied') whole.resolve()
      return applied
    },
    timing: {
      // A moment passes with each look at it.
      clock: { now: () => 0, monotonic: () => (at += 1) },
      random: () => 0,
      wait: (_, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', reject, { once: true })),
    },
  })
  const turn = (): void => {
    if (state.position() !== null) return
    turns++
    setImmediate(turn)
  }
  setImmediate(turn)
  await whole.promise
  expect(turns).toBeGreaterThan(4)
  expect(state.size).toBe(parts)
  await client.close()
})

/** Either comes over the stream, or happens elsewhere at this point of it. */
type Step = KnownFeedEvent | (() => void)

const encode = (event: KnownFeedEvent): Uint8Array =>
  new TextEncoder().encode(
    `event: ${event.type}\nid: ${encodePosition(event.position)}\ndata: ${encodeFeedData(event)}\n\n`,
  )

/** @returns what each stream was asked to follow, once the last one came to its end */
const hear = async (keeper: Keeper, streams: readonly (readonly Step[])[]): Promise<readonly (string | null)[]> => {
  const asked: (string | null)[] = []
  const heard = Promise.withResolvers<void>()
  const body = async function* (steps: readonly Step[], isLast: boolean, ended: AbortSignal) {
    for (const step of steps)
      if (typeof step === 'function') step()
      else yield encode(step)
    if (!isLast) return
    heard.resolve()
    await new Promise(resolve => ended.addEventListener('abort', resolve, { once: true }))
  }
  const client = startFeedClient({
    identity: {
      current: () => ({ trustDomain: 'example.org', url: 'https://ca.invalid' }) as never,
      onChange: () => () => {},
      fetch: async (url, { headers = {}, signal }) => {
        const ended = signal as AbortSignal
        if (url.includes('/ack')) return { status: 204, body: null, text: async () => '' }
        const number = asked.push((headers as Record<string, string>)['last-event-id'] ?? null)
        if (number <= streams.length)
          return {
            status: 200,
            body: body(streams[number - 1]!, number === streams.length, ended),
            text: async () => '',
          }
        heard.reject(new Error(`asked once more: ${asked.join(', ')}`))
        return new Promise((_, reject) => ended.addEventListener('abort', reject, { once: true }))
      },
    },
    log: silentLog,
    subscriber: 'one',
    maxStalenessSeconds: 300,
    position: keeper.position,
    take: keeper.take,
    timing: { clock: systemClock, random: () => 0, wait: async () => {} },
  })
  try {
    await heard.promise
  } finally {
    await client.close()
  }
  return asked
}

describe('a snapshot that is long on its way', () => {
  const now = Date.now()
  const headOf = (n: number, inEpoch = epoch, at = now): StateHead => ({ epoch: inEpoch, n, at }) as StateHead
  const known = (n = 100): Keeper => {
    const policy = { onStale: 'refuse', maxStalenessMs: 60_000 } as const
    const keeper = createKeeper({ clock: systemClock, log: silentLog, policy, directory: null })
    keeper.take(snapshotEvent(n, 0, now))
    return keeper
  }
  /** Each part with a serial of its own. */
  const part = (n: number, i: number, bundlePem?: string): KnownFeedEvent => ({
    ...snapshotEvent(n, 0, now),
    ...{ part: i, parts: 3, revoked: [{ serial: serialOf(i), notAfter: now + 3_600_000 }] },
    ...(bundlePem === undefined ? {} : { bundlePem }),
  })
  const replace = (keeper: Keeper, n: number, inEpoch = epoch, at = now): boolean => {
    const next = createRevocationState()
    next.apply(snapshotEvent(n, 1, at, inEpoch))
    return keeper.replace(next, headOf(n, inEpoch, at))
  }
  const revoked = (keeper: Keeper, last: number): readonly number[] =>
    Array.from({ length: last + 1 }, (_, i) => i).filter(
      i => keeper.state.status(serialKeyOf(serialOf(i))) === 'revoked',
    )

  it('is whole though published changes are applied between its parts, and those are', async () => {
    const keeper = known()
    const follow = () => {
      expect(keeper.follow(revokeEvent(101, serialOf(9), now))).toBe('applied')
      expect(keeper.position()).toEqual({ epoch, n: 101 })
      expect(revoked(keeper, 9)).toEqual([9])
    }
    const asked = await hear(keeper, [
      [part(200, 1), part(200, 2), follow, part(200, 3), revokeEvent(201, serialOf(4), now)],
    ])
    expect(asked).toHaveLength(1)
    expect(keeper.position()).toEqual({ epoch, n: 201 })
    expect(revoked(keeper, 9)).toEqual([1, 2, 3, 4])
  })

  it('takes the place of an older published state that came between its parts', async () => {
    const keeper = known()
    const older = () => expect(replace(keeper, 150)).toBe(true)
    expect(await hear(keeper, [[part(200, 1), older, part(200, 2), part(200, 3)]])).toHaveLength(1)
    expect(keeper.position()).toEqual({ epoch, n: 200 })
  })

  it('does not take the place of a newer one, which the stream then goes on from, whom to trust included', async () => {
    const keeper = known()
    const newer = () => expect(replace(keeper, 205)).toBe(true)
    const { freshness } = keeper
    const bundle = { type: 'bundle', position: { epoch, n: 203 }, at: now, bundlePem: 'new' } as const
    const at200 = () => expect([keeper.position()?.n, keeper.bundlePem()]).toEqual([205, 'old'])
    const passed = [201, 202].map(n => revokeEvent(n, serialOf(0), now))
    const asked = await hear(keeper, [
      [part(200, 1, 'old'), part(200, 2), newer, part(200, 3), at200, ...passed, bundle],
    ])
    expect(asked).toHaveLength(1)
    expect(keeper.bundlePem()).toBe('new')
    expect([keeper.position(), revoked(keeper, 9)]).toEqual([{ epoch, n: 205 }, [0]])
    expect(keeper.take({ ...bundle, position: { epoch, n: 202 }, bundlePem: 'old' })).toBe('duplicate')
    expect(keeper.bundlePem()).toBe('new')
    expect(freshness().rung).not.toBe('live')
  })

  it('is not asked for again once a published state has led on from where a stream did not follow', async () => {
    const keeper = known()
    const gap = revokeEvent(150, serialOf(8), now)
    const newer = () => expect(replace(keeper, 205)).toBe(true)
    const asked = await hear(keeper, [[gap], [part(200, 1), part(200, 2), newer], [revokeEvent(206, serialOf(9), now)]])
    expect(asked).toEqual([`${epoch}.100`, null, `${epoch}.205`])
    expect([keeper.position(), revoked(keeper, 9)]).toEqual([{ epoch, n: 206 }, [0, 9]])
  })

  it('of another epoch counts by the CA’s time', async () => {
    const keeper = known()
    const other = 'cd'.repeat(8)
    const later = () => expect(replace(keeper, 5, other, now + 1)).toBe(true)
    expect(await hear(keeper, [[part(200, 1), part(200, 2), later, part(200, 3)], []])).toHaveLength(2)
    expect(keeper.position()).toEqual({ epoch: other, n: 5 })
  })

  it('is taken from a CA that lost its newest entries, where nothing newer came meanwhile', async () => {
    const keeper = known(300)
    await hear(keeper, [[part(200, 1), part(200, 2), part(200, 3)]])
    expect([keeper.position(), revoked(keeper, 9)]).toEqual([{ epoch, n: 200 }, [1, 2, 3]])
  })
})
