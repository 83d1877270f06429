// The feed's events: what is written is what is read, and nothing else is taken.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeFeedData, encodePosition, type FeedEvent, parseFeedEvent } from '../../src/verify/feed-event.ts'

const hex = (length: number) =>
  fc.array(fc.constantFrom(...'0123456789abcdef'), { minLength: length, maxLength: length }).map(each => each.join(''))
const position = fc.record({ epoch: hex(16), n: fc.nat() })
const at = fc.nat()
const change = fc.record({ serial: hex(32), notAfter: fc.nat() })
const principal = fc.record({
  kind: fc.constantFrom('agent', 'service', 'operator'),
  name: fc.string(),
  state: fc.constantFrom('active', 'held', 'retired'),
  version: fc.nat(),
  roles: fc.array(fc.string()),
  attributes: fc.dictionary(
    fc.string().filter(key => key !== '__proto__'),
    fc.string(),
    { noNullPrototype: true },
  ),
  scopes: fc.array(fc.string()),
})
const event = fc.oneof(
  fc
    .record({ position, at, revoked: fc.array(change), held: fc.array(change), principals: fc.array(principal) })
    .chain(rest => fc.integer({ min: 1, max: 9 }).map(parts => ({ type: 'snapshot', part: 1, parts, ...rest }))),
  fc.record({
    type: fc.constantFrom('revoke', 'hold', 'release'),
    position,
    at,
    by: fc.string(),
    value: fc.string(),
    reason: fc.option(fc.string()),
    changes: fc.array(change),
  }),
  fc.record({ type: fc.constant('agent'), position, at, principal }),
  fc.record({ type: fc.constant('bundle'), position, at, bundlePem: fc.string() }),
  fc.record({ type: fc.constant('heartbeat'), position, at, leaseSeconds: fc.nat() }),
  fc.record({ type: fc.constant('end'), position, at, code: fc.string() }),
) as fc.Arbitrary<Exclude<FeedEvent, { type: 'unknown' }>>

test('an event is read back as it was written', () => {
  fc.assert(
    fc.property(event, each => {
      expect(parseFeedEvent(each.type, encodePosition(each.position), encodeFeedData(each))).toEqual(each)
    }),
  )
})

test('a type of tomorrow is known by its position and skipped', () => {
  expect(parseFeedEvent('weather', `${'0'.repeat(16)}.7`, '{"at":1,"sun":true}')).toEqual({
    type: 'unknown',
    position: { epoch: '0'.repeat(16), n: 7 },
    at: 1,
    name: 'weather',
  })
})

test.each([
  ['an id without an epoch', 'heartbeat', '7', '{"at":1,"leaseSeconds":5}'],
  ['a number with a leading zero', 'heartbeat', `${'0'.repeat(16)}.07`, '{"at":1,"leaseSeconds":5}'],
  ['data cut in the middle', 'heartbeat', `${'0'.repeat(16)}.7`, '{"at":1,"lease'],
  [
    'a serial that is none',
    'revoke',
    `${'0'.repeat(16)}.7`,
    '{"at":1,"by":"serial","value":"x","reason":null,"changes":[["XY",1]]}',
  ],
  [
    'part 3 of 2',
    'snapshot',
    `${'0'.repeat(16)}.7`,
    '{"at":1,"part":3,"parts":2,"revoked":[],"held":[],"principals":[]}',
  ],
  [
    'a principal in no known state',
    'agent',
    `${'0'.repeat(16)}.7`,
    '{"at":1,"principal":{"kind":"agent","name":"a","state":"odd","version":1,"roles":[],"attributes":{},"scopes":[]}}',
  ],
])('%s is refused', (_what, name, id, data) => {
  expect(() => parseFeedEvent(name, id, data)).toThrow(expect.objectContaining({ code: 'feed_malformed' }))
})
