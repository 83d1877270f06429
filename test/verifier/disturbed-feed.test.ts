// Whatever becomes of a stream on its way (cut off at any byte, frames lost, said twice, begun anew in another epoch), what a verifier knows
// at a position is what the ledger said at that position, and in the end it is what the ledger says.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { encodeFrame } from '../../src/feed/entry.ts'
import { startFeedClient } from '../../src/verifier/feed-client.ts'
import { createKeeper } from '../../src/verifier/keeper.ts'
import { type FeedPosition, type KnownFeedEvent, parsePosition } from '../../src/verify/feed-event.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import { createTiming } from '../agent/timing.ts'
import { serialOf } from './publication.ts'

const at = Date.UTC(2026, 10, 24)
const notAfter = at + 3_600_000
const serials = Array.from({ length: 5 }, (_, i) => serialOf(i))

type Op = readonly ['revoke' | 'hold' | 'release' | 'agent', serial: number]
type Statuses = readonly (string | null)[]

/** A ledger: entries from 1, and what they lead to. */
const ledgerOf = (epoch: string, ops: readonly Op[]) => {
  const eventOf = ([type, i]: Op, n: number): KnownFeedEvent => {
    const position = { epoch, n }
    if (type !== 'agent')
      return { type, position, at, by: 'serial', value: '', reason: null, changes: [{ serial: serials[i]!, notAfter }] }
    const principal = {
      kind: 'agent',
      name: 'a',
      state: 'active',
      version: n,
      roles: [],
      attributes: {},
      scopes: [],
    } as const
    return { type, position, at, principal }
  }
  const statusesAt = (n: number): Statuses => {
    const statuses: (string | null)[] = serials.map(() => null)
    for (const [type, i] of ops.slice(0, n))
      if (type !== 'agent' && statuses[i] !== 'revoked')
        statuses[i] = type === 'revoke' ? 'revoked' : type === 'hold' ? 'held' : null
    return statuses
  }
  const versionAt = (n: number): number => ops.slice(0, n).findLastIndex(([type]) => type === 'agent') + 1
  const snapshotAt = (n: number): readonly KnownFeedEvent[] => {
    const listed = (wanted: string) =>
      serials.filter((_, i) => statusesAt(n)[i] === wanted).map(serial => ({ serial, notAfter }))
    const common = { type: 'snapshot', position: { epoch, n }, at, parts: 2, principals: [] } as const
    const version = versionAt(n)
    const principals =
      version === 0
        ? []
        : [{ kind: 'agent', name: 'a', state: 'active', version, roles: [], attributes: {}, scopes: [] } as const]
    return [
      { ...common, part: 1, revoked: listed('revoked'), held: [], principals },
      { ...common, part: 2, revoked: [], held: listed('held') },
    ]
  }
  return { epoch, head: ops.length, statusesAt, versionAt, snapshotAt, events: ops.map((op, i) => eventOf(op, i + 1)) }
}
type Ledger = ReturnType<typeof ledgerOf>

/** As the CA sends it: a snapshot unless the position is one of its own, the entries after it, a heartbeat. */
const framesFrom = (ledger: Ledger, since: FeedPosition | null): readonly Uint8Array[] => {
  const { epoch, head, events, snapshotAt } = ledger
  const isKnown = since !== null && since.epoch === epoch && since.n <= head
  const start = isKnown ? since.n : Math.floor(head / 2)
  const heartbeat = { type: 'heartbeat', position: { epoch, n: head }, at, leaseSeconds: 15 } as const
  return [...(isKnown ? [] : snapshotAt(start)), ...events.slice(start), heartbeat].map(encodeFrame)
}

type Disturbance =
  | { readonly kind: 'cut'; readonly share: number; readonly piece: number }
  | { readonly kind: 'lose' | 'repeat' | 'replay'; readonly share: number; readonly piece: number }

const disturb = (frames: readonly Uint8Array[], { kind, share, piece }: Disturbance): readonly Uint8Array[] => {
  const which = Math.floor(share * frames.length)
  let kept = frames
  if (kind === 'lose') kept = frames.filter((_, i) => i !== which)
  if (kind === 'repeat') kept = frames.flatMap((frame, i) => (i === which ? [frame, frame] : [frame]))
  // Everything up to there comes again.
  if (kind === 'replay') kept = [...frames.slice(0, which + 1), ...frames]
  let bytes = Buffer.concat(kept)
  if (kind === 'cut') bytes = bytes.subarray(0, Math.floor(share * bytes.length))
  // In pieces of any length: what is one frame is nobody's business on the way.
  return Array.from({ length: Math.ceil(bytes.length / piece) }, (_, i) => bytes.subarray(i * piece, (i + 1) * piece))
}

const ops = fc.array(
  fc.tuple(fc.constantFrom('revoke', 'hold', 'release', 'agent'), fc.nat(serials.length - 1)) as fc.Arbitrary<Op>,
  { minLength: 1, maxLength: 24 },
)
const disturbances = fc.array(
  fc.record({
    kind: fc.constantFrom('cut', 'lose', 'repeat', 'replay'),
    share: fc.double({ min: 0, max: 0.999, noNaN: true }),
    piece: fc.integer({ min: 1, max: 400 }),
  }) as fc.Arbitrary<Disturbance>,
  { maxLength: 8 },
)

it('what is known at a position is what the ledger said there, and in the end all of it', async () => {
  const worlds = fc.record({ first: ops, second: ops, restoreAfter: fc.nat(8), disturbances })
  await fc.assert(
    fc.asyncProperty(worlds, async ({ first, second, restoreAfter, disturbances: planned }) => {
      // An older backup is restored after so many streams: another epoch, which shares its beginning at most.
      const ledgers = [ledgerOf('00000000000000aa', first), ledgerOf('00000000000000bb', second)] as const
      const timing = createTiming()
      const policy = { onStale: 'refuse', maxStalenessMs: 1000 } as const
      const keeper = createKeeper({ clock: timing.clock, log: silentLog, policy, directory: null })
      let streams = 0
      const done = Promise.withResolvers<void>()
      const check = (): void => {
        const known = keeper.position()
        if (known === null) return
        const ledger = ledgers.find(({ epoch }) => epoch === known.epoch)!
        const found = serials.map(serial => keeper.state.status(serialKeyOf(serial)))
        expect(found).toEqual(ledger.statusesAt(known.n))
        expect(keeper.state.principal('agent', 'a')?.version ?? 0).toBe(ledger.versionAt(known.n))
      }
      const fetch = async (
        url: string,
        init: { readonly headers?: Readonly<Record<string, string>>; signal: AbortSignal },
      ) => {
        if (url.includes('/ack')) return { status: 204, text: async () => '' }
        const ledger = ledgers[streams < restoreAfter && streams < planned.length ? 0 : 1]
        const frames = framesFrom(ledger, parsePosition(init.headers?.['last-event-id'] ?? ''))
        const pieces = disturb(frames, planned[streams] ?? { kind: 'repeat', share: 0, piece: 400 })
        const isLast = streams++ >= planned.length
        return {
          status: 200,
          body: (async function* () {
            for (const piece of pieces) yield piece
            const { epoch, n } = keeper.position() ?? { epoch: '', n: -1 }
            if (!isLast || epoch !== ledger.epoch || n !== ledger.head) return
            done.resolve()
            await new Promise(resolve => init.signal.addEventListener('abort', resolve))
          })(),
        }
      }
      const client = startFeedClient({
        identity: {
          current: () => ({ trustDomain: 'example.org', url: 'https://ca' }) as never,
          fetch: fetch as never,
          onChange: () => () => {},
        },
        log: silentLog,
        subscriber: 'one',
        maxStalenessSeconds: 1,
        position: keeper.position,
        take: (event, asked) => {
          const applied = keeper.take(event, asked)
          check()
          return applied
        },
        timing,
      })
      await done.promise
      await client.close()
      check()
      expect(keeper.position()).toEqual({ epoch: ledgers[1].epoch, n: ledgers[1].head })
      expect(keeper.freshness().rung).toBe('live')
    }),
    { numRuns: 300 },
  )
}, 180_000)
