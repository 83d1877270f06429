import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concatBytes } from '../../src/base/bytes.ts'
import { createFrameReader, encodeFrame, type Frame, FrameError } from '../../src/base/frames.ts'

const header = fc.dictionary(
  fc.string({ maxLength: 8 }).filter(k => k !== '__proto__'),
  fc.oneof(fc.string(), fc.integer(), fc.boolean()),
)
const frame = fc.record({ header, body: fc.uint8Array({ maxLength: 300 }) })
const unlimited = () => 1_000_000

describe('frames', () => {
  test('any frames, cut anywhere, arrive whole and in order', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        (frames, cuts) => {
          const stream = concatBytes(frames.map(f => encodeFrame(f.header, f.body)))
          const got: Frame[] = []
          const read = createFrameReader(unlimited, f => got.push({ header: f.header, body: f.body.slice() }))
          for (let at = 0, i = 0; at < stream.length; i++) {
            const size = cuts[i % cuts.length]!
            read(stream.subarray(at, at + size))
            at += size
          }
          expect(got.map(f => ({ header: { ...f.header }, body: [...f.body] }))).toEqual(
            frames.map(f => ({ header: { ...f.header }, body: [...f.body] })),
          )
        },
      ),
    )
  })

  test('arbitrary bytes are a frame error or nothing, never another exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const read = createFrameReader(unlimited, () => {})
        try {
          read(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError)
        }
      }),
    )
  })

  test('a body beyond the limit of its kind is refused as soon as its header is there', () => {
    const read = createFrameReader(
      h => (h.big === true ? 1000 : 10),
      () => {},
    )
    read(encodeFrame({ big: true }, new Uint8Array(1000)))
    const whole = encodeFrame({ big: false }, new Uint8Array(11))
    expect(() => read(whole.subarray(0, whole.length - 11))).toThrow(
      expect.objectContaining({ code: 'frame_too_large' }),
    )
  })

  test.each([
    ['a header longer than its frame', [0, 0, 0, 5, 0, 0, 0, 2, 0x7b, 0x7d], 'frame_malformed'],
    ['a header that is an array', [0, 0, 0, 6, 0, 0, 0, 2, 0x5b, 0x5d], 'frame_malformed'],
    ['a header that is not JSON', [0, 0, 0, 6, 0, 0, 0, 2, 0x7b, 0x7b], 'frame_malformed'],
    ['a header of 4 GiB', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0], 'frame_too_large'],
  ])('%s is refused', (_, bytes, code) => {
    expect(() => createFrameReader(unlimited, () => {})(Uint8Array.from(bytes))).toThrow(
      expect.objectContaining({ code }),
    )
  })
})
