// What fronts and core say to each other: whatever comes is one of the known messages, or nothing.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createFrameReader, encodeFrame, type Frame, FrameError } from '../../src/base/frames.ts'
import {
  decodeSeen,
  encodeSeen,
  type FromCore,
  type FromFront,
  fromCoreLimit,
  fromFrontLimit,
  maxCallBytes,
  parseFromCore,
  parseFromFront,
  protocolVersion,
} from '../../src/front/protocol.ts'

const text = fc.string({ maxLength: 64 })
const count = fc.nat()
const seen = { source: text, resumed: fc.boolean(), lengths: fc.array(count, { maxLength: 16 }) }
const hello = { t: fc.constant('hello' as const), version: fc.constant(protocolVersion), secret: text }

const fromFront: fc.Arbitrary<FromFront> = fc.oneof(
  fc.record({ ...hello, for: fc.constant('calls' as const) }),
  fc.record({ ...hello, for: fc.constant('stream' as const), ...seen }),
  fc.record({ t: fc.constant('listening' as const), port: count }),
  fc.record({ t: fc.constant('failed' as const), code: text, message: text }),
  fc.record({ t: fc.constant('open' as const), connection: count, ...seen }),
  fc.record({ t: fc.constant('shut' as const), connection: count }),
  fc.record({
    t: fc.constant('call' as const),
    ...{ id: count, connection: count, path: text },
    possession: fc.constantFrom('checked' as const, 'unchecked' as const),
  }),
  fc.record({ t: fc.constant('pong' as const), connections: count, rssBytes: count }),
)
const fromCore: fc.Arbitrary<FromCore> = fc.oneof(
  fc.record({ t: fc.constantFrom('start' as const, 'credentials' as const, 'ping' as const) }),
  fc.record({ t: fc.constant('drain' as const), graceMs: count }),
  fc.record({ t: fc.constant('answer' as const), id: count, status: count, headers: fc.array(text) }),
)

const overTheWire = (header: object): Frame['header'] => {
  const frames: Frame[] = []
  createFrameReader(
    () => 0,
    frame => frames.push(frame),
  )(encodeFrame(header, new Uint8Array(0)))
  return frames[0]!.header
}

describe('a message', () => {
  it('of a front is what was said', () => {
    fc.assert(
      fc.property(fromFront, message => {
        expect(parseFromFront(overTheWire(message))).toEqual(message)
      }),
    )
  })

  it('of the core is what was said', () => {
    fc.assert(
      fc.property(fromCore, message => {
        expect(parseFromCore(overTheWire(message))).toEqual(message)
      }),
    )
  })

  it('that is none of the known ones, or has a member of another kind, is nothing', () => {
    const known = new Set(['hello', 'listening', 'failed', 'open', 'shut', 'call', 'pong'])
    fc.assert(
      fc.property(fc.dictionary(text, fc.jsonValue()), header => {
        if (!known.has(header.t as string)) expect(parseFromFront(header)).toBeNull()
      }),
    )
    fc.assert(
      fc.property(fromFront, fc.jsonValue(), (message, value) => {
        for (const name of Object.keys(message)) {
          const parsed = parseFromFront({ ...message, [name]: value })
          // Whoever did not check a signature did not check it, whatever is said instead.
          if (parsed?.t === 'call' && name === 'possession' && value !== 'checked')
            expect(parsed.possession).toBe('unchecked')
          else if (parsed !== null) expect(parsed).toEqual({ ...message, [name]: value })
        }
      }),
    )
  })

  it('with a member left out is nothing', () => {
    fc.assert(
      fc.property(fromFront, message => {
        for (const name of Object.keys(message).filter(each => each !== 'possession')) {
          const { [name as 't']: _, ...rest } = message
          expect(parseFromFront(rest)).toBeNull()
        }
      }),
    )
  })

  it.each([
    ['fewer than none', -1],
    ['a fraction', 1.5],
    ['more than a number counts exactly', 2 ** 53],
    ['a text', '1'],
  ])('whose number is %s is nothing', (_, id) => {
    const call = { t: 'call', id: 1, connection: 1, path: '/v1/renew', possession: 'checked' }
    expect(parseFromFront(call)).not.toBeNull()
    for (const name of ['id', 'connection']) expect(parseFromFront({ ...call, [name]: id })).toBeNull()
  })

  it('of another version is nothing', () => {
    const first = { t: 'hello', secret: 's', for: 'calls' }
    expect(parseFromFront({ ...first, version: protocolVersion })).not.toBeNull()
    expect(parseFromFront({ ...first, version: protocolVersion + 1 })).toBeNull()
  })
})

describe('a body', () => {
  const refused = (limit: (header: Frame['header']) => number, header: object, length: number): void => {
    const read = createFrameReader(limit, () => {})
    // Refused by the header alone: nothing of the body needs to have come.
    const head = encodeFrame(header, new Uint8Array(length)).subarray(0, 8 + JSON.stringify(header).length)
    expect(() => read(head)).toThrow(FrameError)
  }

  it('that is longer than its kind may be is refused before it comes', () => {
    refused(fromFrontLimit, { t: 'call' }, maxCallBytes + 1)
    refused(fromFrontLimit, { t: 'hello' }, 131_073)
    refused(fromFrontLimit, { t: 'pong' }, 1)
    refused(fromFrontLimit, { t: 'constructor' }, 1)
    refused(fromCoreLimit, { t: 'answer' }, 1_048_577)
    refused(fromCoreLimit, { t: 'ping' }, 1)
  })
})

describe('what was seen of a caller', () => {
  const peer = fc.record({
    source: text,
    resumed: fc.boolean(),
    chain: fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 }),
  })

  it('arrives as it was', () => {
    fc.assert(
      fc.property(peer, sent => {
        const { header, body } = encodeSeen(sent)
        expect(decodeSeen(header, body)).toEqual(sent)
      }),
    )
  })

  it('is nothing where lengths and bytes differ', () => {
    fc.assert(
      fc.property(peer, fc.integer({ min: 1, max: 100 }), (sent, more) => {
        const { header, body } = encodeSeen(sent)
        expect(decodeSeen(header, new Uint8Array(body.length + more))).toBeNull()
        expect(decodeSeen({ ...header, lengths: [...header.lengths, more] }, body)).toBeNull()
      }),
    )
  })
})
