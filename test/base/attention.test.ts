// The clock that stands still while the event loop does.
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createAttention } from '../../src/base/attention.ts'

test('goes on while the event loop turns, and no further than two of its turns while it stands still', async () => {
  let at = 1000
  const attention = createAttention({ monotonic: () => at })
  try {
    expect(attention.now()).toBe(1000)
    at += 150
    expect(attention.now()).toBe(1150)
    await delay(150)
    at += 60_000
    // At once, as a timer would ask that runs before the pulse; and after it.
    expect(attention.now()).toBe(1350)
    await delay(150)
    expect(attention.now()).toBe(1350)
    at += 100
    expect(attention.now()).toBe(1450)
  } finally {
    attention.close()
  }
})
