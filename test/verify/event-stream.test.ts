// The stream's parser: the same events however the bytes are cut.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createEventStreamReader } from '../../src/verify/event-stream.ts'

const text = fc.string({ unit: 'grapheme' }).map(each => each.replace(/[\r\n\0\u2028\u2029]/g, ' '))
const event = fc.record({
  event: text.map(each => `e${each}`),
  id: text.map(each => `i${each}`),
  data: text.map(each => `d${each}`),
})

test('events do not depend on where the bytes are cut, and a cut event is none', () => {
  fc.assert(
    fc.property(fc.array(event), fc.array(fc.integer({ min: 1, max: 30 })), fc.nat(20), (events, cuts, dropped) => {
      const whole = new TextEncoder().encode(
        events.map(each => `event: ${each.event}\nid: ${each.id}\ndata: ${each.data}\n\n: comment\n`).join(''),
      )
      const bytes = whole.subarray(0, Math.max(0, whole.length - (events.length === 0 ? 0 : dropped)))
      const reader = createEventStreamReader()
      const seen = []
      let at = 0
      for (const size of [...cuts, bytes.length]) {
        seen.push(...reader.push(bytes.subarray(at, at + size)))
        at += size
      }
      expect(events.slice(0, seen.length)).toEqual(seen)
      if (dropped === 0) expect(seen).toEqual(events)
      else expect(seen.length).toBeGreaterThanOrEqual(events.length - 20)
    }),
  )
})

test('bytes that are no text, and events without an end, are refused', () => {
  expect(() => createEventStreamReader().push(Uint8Array.of(0x64, 0xff))).toThrow(
    expect.objectContaining({ code: 'feed_malformed' }),
  )
  const reader = createEventStreamReader()
  expect(() => {
    for (let i = 0; i < 10; i++) reader.push(new TextEncoder().encode('x'.repeat(1 << 20)))
  }).toThrow(expect.objectContaining({ code: 'feed_malformed' }))
})
