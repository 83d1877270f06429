import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { SignerError } from '../../src/signer/errors.ts'
import type { SignPriority } from '../../src/signer/port.ts'
import { createRateCeiling } from '../../src/signer/rate-ceiling.ts'
import { createSignQueue } from '../../src/signer/sign-queue.ts'

const gate = () => {
  let open = () => {}
  const wait = new Promise<void>(resolve => {
    open = resolve
  })
  return { wait, open }
}

describe('the signing queue', () => {
  const fill = (slots: number) => {
    const queue = createSignQueue({ slots, clock: systemClock })
    const started: string[] = []
    const submit = (name: string, priority: SignPriority, deadlineMs = 10_000) => {
      const hold = gate()
      const done = queue.submit({
        priority,
        deadlineMs,
        run: async () => {
          started.push(name)
          await hold.wait
          return name
        },
      })
      return { done, open: hold.open }
    }
    return { queue, started, submit }
  }

  test('status goes before renewals, renewals before enrolments', async () => {
    const { started, submit } = fill(1)
    const first = submit('first', 'enrol')
    const rest = [submit('enrol', 'enrol'), submit('renew', 'renew'), submit('status', 'status')]
    for (const one of rest) one.open()
    first.open()
    await Promise.all([first.done, ...rest.map(r => r.done)])
    expect(started).toEqual(['first', 'status', 'renew', 'enrol'])
  })

  test('of twenty slots one stays free for status however many enrolments wait, and with fewer it is the next', async () => {
    const { started, submit } = fill(20)
    const enrolments = Array.from({ length: 22 }, (_, i) => submit(`enrol${i}`, 'enrol'))
    expect(started).toHaveLength(19)
    const status = submit('status', 'status')
    expect(started).toContain('status')
    for (const one of [...enrolments, status]) one.open()
    await Promise.all([...enrolments, status].map(o => o.done))
    expect(started).toHaveLength(23)
  })

  test('what cannot be reached before its deadline is refused on arrival', async () => {
    const { queue, submit } = fill(1)
    const running = submit('running', 'enrol')
    const waiting = Array.from({ length: 50 }, (_, i) => submit(`w${i}`, 'enrol'))
    const busy = queue.submit({ priority: 'enrol', deadlineMs: 10, run: async () => 'never' })
    await expect(busy).rejects.toMatchObject({ code: 'signer_busy', hsmCalled: 'no' })
    for (const one of [running, ...waiting]) one.open()
    await Promise.all([running, ...waiting].map(o => o.done))
  })

  test('a deadline that passes while waiting says no, while running says maybe, and the call counts as stuck', async () => {
    const { queue, started, submit } = fill(1)
    const running = submit('running', 'enrol', 30)
    const waiting = submit('waiting', 'enrol', 60)
    await expect(running.done).rejects.toMatchObject({ code: 'signer_deadline', hsmCalled: 'maybe' })
    await expect(waiting.done).rejects.toMatchObject({ code: 'signer_deadline', hsmCalled: 'no' })
    expect(started).toEqual(['running'])
    expect(queue.state()).toMatchObject({ busy: 1, queued: 0, stuck: 1 })
    running.open()
    await new Promise(resolve => setImmediate(resolve))
    expect(queue.state()).toMatchObject({ busy: 0, stuck: 0 })
  })

  test('stopping fails what waits and what comes', async () => {
    const { queue, submit } = fill(1)
    const running = submit('running', 'enrol')
    const waiting = submit('waiting', 'enrol')
    queue.stop(new SignerError('signer_unavailable', 'ends', { hsmCalled: 'no' }))
    await expect(waiting.done).rejects.toMatchObject({ code: 'signer_unavailable' })
    await expect(submit('late', 'status').done).rejects.toMatchObject({ code: 'signer_unavailable' })
    running.open()
    await running.done
  })
})

test('a rate ceiling holds per key and purpose, and fills up again with time', () => {
  let ms = 0
  const rates = createRateCeiling({ now: () => 0, monotonic: () => ms })
  for (let i = 0; i < 60; i++) rates.take('k', 'leaf', 60)
  expect(() => rates.take('k', 'leaf', 60)).toThrow(
    expect.objectContaining({ code: 'signer_busy', rule: 'rate_ceiling', hsmCalled: 'no' }),
  )
  rates.take('k', 'crl', 60)
  rates.take('other', 'leaf', 60)
  ms = 1000
  rates.take('k', 'leaf', 60)
  expect(() => rates.take('k', 'leaf', 60)).toThrow()
  expect(() => rates.take('k', 'checkpoint', 0)).toThrow()
})
