// To-be-signed bytes come back octet for octet from their template and what the row says; only those that others are like make one.
import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shardName, shardOf } from '../../src/pki/crl-shards.ts'
import { createLeafTemplate, type LeafFields } from '../../src/pki/leaf-template.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { parseSpiffeId } from '../../src/pki/spiffe.ts'
import { openConnection } from '../../src/store/sqlite/connection.ts'
import { createTbsCodec, type TbsFacts } from '../../src/store/sqlite/tbs-codec.ts'

const keyOf = (curve: string): Uint8Array =>
  new Uint8Array(generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ format: 'der', type: 'spki' }))
const keys = Array.from({ length: 8 }, () => keyOf('P-256'))
const otherKeys = [
  keyOf('P-384'),
  new Uint8Array(generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' })),
]

const profileOf = (list: string) =>
  createLeafTemplate({
    issuerDer: encodeName([['CN', 'issuing-1']]),
    signatureAlgorithm: 'ecdsa-with-SHA256',
    authorityKeyId: new Uint8Array(20).fill(7),
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: [oidOf.clientAuth],
    crlDistributionPoint: `http://127.0.0.1:8081/crl/issuing-1${list}.crl`,
  })
const listOf = (serial: Uint8Array, shards: number): string =>
  shards === 1 ? '' : `/${shardName(shardOf(serial, shards))}`

const second = 1000
const fields = fc.record({
  serial: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(bytes => bytes.with(0, 1)),
  notBefore: fc.integer({ min: 0, max: 4_000_000_000 }).map(at => at * second),
  lives: fc.integer({ min: 1, max: 86_400_000 }),
  name: fc.constantFrom('a', 'i', '0', 'crawler', 'crawler-2', 'invoices', 'x'.repeat(50)),
  instanceId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(bytes => Buffer.from(bytes).toString('hex')),
  version: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 100_000 })),
  shards: fc.constantFrom<number>(1, 2, 16, 256),
  dns: fc.constantFrom<string[]>([], [], ['orders.internal'], ['localhost', 'orders.internal']),
  key: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...keys) },
    { weight: 1, arbitrary: fc.constantFrom(...otherKeys) },
  ),
})
type Fields = typeof fields extends fc.Arbitrary<infer T> ? T : never

const leafOf = (of: Fields): { readonly tbs: Uint8Array; readonly facts: TbsFacts } => {
  const { serial, notBefore, name, instanceId, version } = of
  const notAfter = notBefore + of.lives
  const leaf: LeafFields = {
    serial,
    notBefore,
    notAfter,
    subjectCn: `agent-${name}`,
    spkiDer: of.key,
    spiffeId: parseSpiffeId(`spiffe://example.org/agent/${name}/i/${instanceId}`),
    dnsNames: of.dns,
    scopesVersion: version,
  }
  return {
    tbs: profileOf(listOf(serial, of.shards)).encode(leaf),
    facts: { serial, notBefore, notAfter, name, instanceId, registrationVersion: version },
  }
}

const templates = (db: ReturnType<typeof openConnection>): number =>
  db.get<{ n: number }>('SELECT count(*) AS n FROM tbs_template')!.n

describe('the bytes of a leaf as its row holds them', () => {
  it('come back as they were, from this process and from the next', () => {
    const db = openConnection(':memory:')
    fc.assert(
      fc.property(fc.array(fields, { minLength: 1, maxLength: 20 }), all => {
        const codec = createTbsCodec(db)
        const leaves = all.map(leafOf)
        const stored = leaves.map(({ tbs, facts }) => codec.store(tbs, facts, `${facts.name.length}`))
        for (const from of [codec, createTbsCodec(db)])
          for (const [i, { tbs, facts }] of leaves.entries()) expect(from.whole(stored[i]!, facts)).toEqual(tbs)
      }),
      { numRuns: 200 },
    )
  })

  it('come back when they are nothing that anybody knows, or not what the row says', () => {
    const db = openConnection(':memory:')
    const codec = createTbsCodec(db)
    fc.assert(
      fc.property(
        fields,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.integer({ min: 0, max: 3 }),
        (of, place, mask, what) => {
          const { tbs, facts } = leafOf(of)
          const changed = tbs.slice(what === 1 ? place % tbs.length : 0)
          if (what < 2) changed[place % changed.length]! ^= mask
          const said =
            what === 2
              ? { ...facts, notAfter: facts.notAfter + second }
              : what === 3
                ? { ...facts, name: 'other' }
                : facts
          expect(codec.whole(codec.store(changed, said, 'any'), said)).toEqual(changed)
        },
      ),
      { numRuns: 500 },
    )
    expect(
      codec.whole(
        codec.store(new Uint8Array(0), leafOf(fc.sample(fields, 1)[0]!).facts, 'any'),
        leafOf(fc.sample(fields, 1)[0]!).facts,
      ),
    ).toEqual(new Uint8Array(0))
  })

  it.each([
    [1, 1],
    [8, 1],
    [256, 3],
  ])(
    'have, of one profile and names of one length, with %i shards of lists %i templates, and a row keeps the key alone',
    (shards, made) => {
      const db = openConnection(':memory:')
      const codec = createTbsCodec(db)
      const base = fc.sample(fields, 1)[0]!
      for (let i = 0; i < 300; i++) {
        const name = `agent-${String(i).padStart(3, '0')}`
        const serial = new Uint8Array(16)
          .fill(i % 256)
          .with(0, 1)
          .with(1, Math.floor(i / 256))
        const instanceId = i.toString(16).padStart(32, 'a')
        const { tbs, facts } = leafOf({
          ...base,
          ...{
            name,
            serial,
            instanceId,
            shards,
            notBefore: i * 100_000,
            dns: [],
            version: 1 + (i % 100),
            key: keys[i % 8]!,
          },
        })
        expect(codec.store(tbs, facts, 'agent').bytes).toHaveLength(64)
      }
      expect(templates(db)).toBe(made)
    },
  )

  it('are kept whole where the key is of another kind, and make no template', () => {
    const db = openConnection(':memory:')
    const codec = createTbsCodec(db)
    for (const key of otherKeys) {
      const { tbs, facts } = leafOf({ ...fc.sample(fields, 1)[0]!, key })
      expect(codec.store(tbs, facts, 'agent')).toEqual({ template: null, bytes: tbs })
    }
    expect(templates(db)).toBe(0)
  })

  it('are refused where their template is not there', () => {
    const codec = createTbsCodec(openConnection(':memory:'))
    const { facts } = leafOf(fc.sample(fields, 1)[0]!)
    expect(() => codec.whole({ template: 9, bytes: new Uint8Array(64) }, facts)).toThrow(RangeError)
  })
})
