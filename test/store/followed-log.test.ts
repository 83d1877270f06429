// Whoever follows the audit log hears of each commit that appended something, of no other, and reads what it looks for in its order.
import { expect, it } from 'vitest'
import { leaf, makeLedger } from './make-ledger.ts'

it('is told after a commit that appended leaves, and not after one that appended none', async () => {
  await using ledger = makeLedger()
  let heard = 0
  const stop = ledger.audit.onAppend(() => {
    heard++
    // What it was told of is there.
    expect(ledger.audit.head().size).toBeGreaterThan(0)
  })
  await ledger.audit.append([leaf('one'), leaf('two')])
  expect(heard).toBe(1)
  await ledger.audit.append([])
  await ledger.meta.set({ audit_dropped: '1' })
  expect(heard).toBe(1)
  stop()
  await ledger.audit.append([leaf('three')])
  expect(heard).toBe(1)
})

it('gives the leaves of some events within a range, byte for byte as they were appended', async () => {
  await using ledger = makeLedger()
  expect(ledger.audit.ofEvents(0, 10, ['token_reuse'])).toEqual([])
  const reuse = leaf('token_reuse', 'agent:a')
  await ledger.audit.append([leaf('intent_recorded'), reuse, leaf('other'), leaf('token_reuse', 'agent:b')])
  const subjects = (from: number, to: number, ...events: string[]) =>
    ledger.audit.ofEvents(from, to, events).map(({ event, subject }) => `${event} ${subject}`)
  expect(subjects(0, 4, 'token_reuse', 'intent_recorded', 'never')).toEqual([
    'intent_recorded null',
    'token_reuse agent:a',
    'token_reuse agent:b',
  ])
  expect(subjects(2, 4, 'token_reuse')).toEqual(['token_reuse agent:b'])
  expect(subjects(0, 3, 'token_reuse')).toEqual(['token_reuse agent:a'])
  expect(ledger.audit.ofEvents(1, 2, ['token_reuse'])[0]?.bytes).toEqual(reuse.bytes)
})

it('gives leaves that are remembered no more as it gives the last ones', async () => {
  await using ledger = makeLedger()
  const leaves = Array.from({ length: 2500 }, (_, i) => leaf(i % 5 === 0 ? 'token_reuse' : 'other', `agent:a${i}`))
  await ledger.audit.append(leaves.slice(0, 1500))
  await ledger.audit.append(leaves.slice(1500))
  for (const [from, to] of [
    [0, 2500],
    [0, 10],
    [1490, 1510],
    [2480, 2600],
    [2500, 2600],
  ] as const)
    expect(ledger.audit.ofEvents(from, to, ['token_reuse'])).toEqual(
      leaves.slice(from, to).filter(({ event }) => event === 'token_reuse'),
    )
})
