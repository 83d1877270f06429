// Any leaf comes back octet for octet from what the row holds, and leaves of issuance are held in a fraction of their length.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createLeaf, type LeafValue } from '../../src/audit/leaf.ts'
import { toHex } from '../../src/base/bytes.ts'
import type { LeafDraft } from '../../src/store/records.ts'
import { leafFromStored, storedLeaf } from '../../src/store/sqlite/leaf-codec.ts'

const makeWords = () => {
  const texts: string[] = []
  const ids = new Map<string, number>()
  return {
    texts,
    id: (text: string): number => {
      const id = ids.get(text) ?? texts.push(text)
      ids.set(text, id)
      return id
    },
    text: (id: number): string => {
      const text = texts[id - 1]
      if (text === undefined) throw new Error(`expected word ${id}`)
      return text
    },
  }
}

const words = makeWords()
const roundTrip = (draft: Omit<LeafDraft, 'also'>): Uint8Array => leafFromStored(storedLeaf(draft, words), draft, words)

const hex = (octets: number) => fc.uint8Array({ minLength: octets, maxLength: octets }).map(bytes => toHex(bytes))
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('"', '\\', '\\"', '":', '",', 'a/i/b', '1.2.3.4', '01.2.3.4', '256.0.0.1', '::1', 'ABCDEF0123456789'),
  ...[7, 8, 16, 20, 32, 33].map(hex),
)
const value: fc.Arbitrary<LeafValue> = fc.oneof(
  text,
  fc.maxSafeInteger(),
  fc.boolean(),
  fc.constant(null),
  fc.array(text, { maxLength: 3 }),
  fc.dictionary(text, text, { maxKeys: 2 }),
)
const who = fc.oneof(
  text,
  hex(8).map(id => `token:${id}`),
  hex(16).map(id => `spiffe://example.org/agent/crawler/i/${id}`),
  hex(16).map(id => `${'x'.repeat(200)}/${id}`),
  hex(32).map(id => `key:${id}`),
  fc.constant('operator:alice'),
)
const member = fc.oneof(text, fc.constantFrom('op', 'profile', 'serial', 'event', 'at', 'sub', 'who', 'src', 'reason'))

describe('a leaf as its row holds it', () => {
  it('gives back every leaf that can be made', () => {
    const drafts = fc.record({
      event: fc.oneof(fc.constantFrom('intent_recorded', 'certificate_issued'), text),
      at: fc.maxSafeNat(),
      who,
      requestId: text,
      source: text,
      subject: fc.oneof(fc.constantFrom(null, 'agent:crawler'), text),
      facts: fc.dictionary(member, value, { maxKeys: 6 }),
    })
    fc.assert(
      fc.property(drafts, ({ event, subject, facts, ...context }) => {
        const leaf = createLeaf(event, context, subject, facts)
        expect(roundTrip(leaf)).toEqual(leaf.bytes)
      }),
      { numRuns: 2_000 },
    )
  })

  it('gives back a leaf like the one before it, whatever its values are', () => {
    const values = fc.record({
      who,
      requestId: text,
      source: text,
      at: fc.maxSafeNat(),
      facts: fc.tuple(value, value, value),
    })
    const events = fc.constantFrom('lineage_locked', 'token_reuse')
    fc.assert(
      fc.property(events, fc.array(values, { minLength: 2, maxLength: 4 }), (event, made) => {
        for (const { facts, ...context } of made) {
          const [profile, serial, version] = facts
          const leaf = createLeaf(event, context, 'agent:crawler', { profile, serial, version })
          expect(roundTrip(leaf)).toEqual(leaf.bytes)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('has no word for an identifier, whoever came before', () => {
    const own = makeWords()
    const stored = (name: string) =>
      storedLeaf(createLeaf('certificate_void', { at: 5, who: name }, 'agent:a', {}), own)
    stored('operator:alice')
    for (let i = 0; i < 20; i++) {
      const id = i.toString(16).padStart(32, '0')
      stored(`token:${id}`)
      stored(`spiffe://example.org/agent/crawler/i/${id}`)
      stored('system')
    }
    expect(own.texts.filter(each => /[0-9a-f]{16}/.test(each))).toEqual([])
  })

  it('gives back bytes that are no leaf', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.uint8Array({ minLength: 1, maxLength: 40 }).map(tail => Uint8Array.from([1, ...tail])),
      fc.uint8Array({ minLength: 1, maxLength: 40 }).map(tail => Uint8Array.from([2, ...tail])),
      fc.string().map(tail => new TextEncoder().encode(`{"${tail}`)),
      fc.json().map(json => new TextEncoder().encode(json)),
    )
    fc.assert(
      fc.property(bytes, fc.string(), fc.nat(), (leaf, event, at) => {
        expect(roundTrip({ event, at, subject: null, bytes: leaf })).toEqual(leaf)
      }),
      { numRuns: 2_000 },
    )
  })

  it('takes the columns for what the leaf says only where they say the same', () => {
    const leaf = createLeaf('core_started', { at: 5, who: 'system' }, 'agent:a', { epoch: 1 })
    for (const other of [{ event: 'core_stopped' }, { at: 6 }, { subject: 'agent:b' }, { subject: null }])
      expect(roundTrip({ ...leaf, ...other })).toEqual(leaf.bytes)
  })

  it('shows what was changed on disk as another leaf, and never fails', () => {
    const leaf = createLeaf('certificate_issued', { at: 5, who: 'token:0011223344556677' }, 'agent:a', {
      serial: '01'.repeat(16),
      sha256: 'ab'.repeat(32),
    })
    const stored = storedLeaf(leaf, words)
    fc.assert(
      fc.property(fc.nat(stored.length - 1), fc.integer({ min: 1, max: 255 }), (place, mask) => {
        const changed = stored.slice()
        changed[place]! ^= mask
        expect(leafFromStored(changed, leaf, words)).not.toEqual(leaf.bytes)
      }),
    )
    expect(leafFromStored(Uint8Array.from([...stored, 0]), leaf, words)).not.toEqual(leaf.bytes)
    for (let length = 1; length < stored.length; length++)
      expect(leafFromStored(stored.subarray(0, length), leaf, words)).not.toEqual(leaf.bytes)
  })

  it('holds the two leaves of an issuance in less than 250 octets, and one frame serves all of an event', () => {
    const own = makeWords()
    const lengths = Array.from({ length: 50 }, (_, i) => {
      const id = i.toString(16).padStart(32, '0')
      const context = { at: 1_790_000_000_000 + i, who: `token:${id.slice(16)}`, requestId: id, source: '10.1.2.3' }
      const intent = createLeaf('intent_recorded', context, 'agent:crawler', {
        op: 'enroll',
        attestor: undefined,
        instance: id,
        serial: id,
        key: `${id}${id}`,
        tbs: `${id}${id}`,
        profile: 'agent',
        profileHash: 'c'.repeat(64),
        version: 1,
      })
      const issued = createLeaf('certificate_issued', context, 'agent:crawler', { serial: id, sha256: `${id}${id}` })
      return storedLeaf(intent, own).length + storedLeaf(issued, own).length
    })
    expect(Math.max(...lengths)).toBeLessThan(250)
    expect(own.texts.filter(each => each.startsWith('{'))).toHaveLength(2)
  })
})
