import { expect, test } from 'vitest'
import type { Connection } from '../../src/verifier/connections.ts'
import { createWatchedCallers } from '../../src/verifier/watched-callers.ts'
import type { Peer } from '../../src/verify/decision.ts'

const peer = (name: string, notAfter: number): Peer =>
  ({ spiffeId: `spiffe://t.example/agent/${name}`, notAfter }) as Peer
const [first, second] = [{}, {}] as [Connection, Connection]

test('all calls of a caller have one signal, judged by the certificate that ends last', () => {
  const watched = createWatchedCallers()
  const signal = watched.signalOf(peer('a', 20), {}, first)
  expect(watched.signalOf(peer('a', 10), {}, second)).toBe(signal)
  expect(watched.signalOf(peer('b', 10), {}, first)).not.toBe(signal)
  const judged: number[] = []
  watched.judge(({ notAfter }) => judged.push(notAfter))
  expect(judged).toEqual([20, 10])
  expect(signal.aborted).toBe(false)
})

test('who may not call any more is told once, with the reason, and watched anew when it calls again', () => {
  const watched = createWatchedCallers()
  const signal = watched.signalOf(peer('a', 10), {}, first)
  const other = watched.signalOf(peer('b', 10), {}, first)
  const refuse = ({ spiffeId }: Peer): void => {
    if (spiffeId.endsWith('/a')) throw new Error('held')
  }
  watched.judge(refuse)
  expect([signal.aborted, (signal.reason as Error).message, other.aborted]).toEqual([true, 'held', false])
  expect(watched.signalOf(peer('a', 10), {}, first).aborted).toBe(false)
})

test('a connection that proves nothing any more takes along who came over it last', () => {
  const watched = createWatchedCallers()
  const moved = watched.signalOf(peer('a', 10), {}, first)
  const stayed = watched.signalOf(peer('b', 10), {}, first)
  watched.signalOf(peer('a', 10), {}, second)
  watched.lose(first, new Error('anchor gone'))
  expect([moved.aborted, stayed.aborted]).toEqual([false, true])
})

test('a demand has a signal of its own, judged by what it demands', () => {
  const watched = createWatchedCallers()
  const any = watched.signalOf(peer('a', 10), {}, first)
  const reader = watched.signalOf(peer('a', 10), { roles: ['reader'] }, first)
  expect(watched.signalOf(peer('a', 10), { roles: ['reader'], scopes: [] }, second)).toBe(reader)
  watched.judge((_, { roles = [] }) => {
    if (roles.includes('reader')) throw new Error('gone')
  })
  expect([any.aborted, reader.aborted]).toEqual([false, true])
})
