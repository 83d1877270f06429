// A snapshot that comes as fast as it is read must not keep requests from being answered until it is whole.
import { expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { startFeedClient } from '../../src/verifier/feed-client.ts'
import { encodeFeedData } from '../../src/verify/feed-event.ts'
import { createRevocationState } from '../../src/verify/revocation-state.ts'

const position = { epoch: '0123456789abcdef', n: 1 }
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
