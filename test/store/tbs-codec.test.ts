// To-be-signed bytes come back octet for octet from their template and what the row says; only those that others are like make one.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { shardName, shardOf } from '../../src/pki/crl-shards.ts'
import { createLeafTemplate, type LeafFields } from '../../src/pki/leaf-template.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { parseSpiffeId } from '../../src/pki/spiffe.ts'
import { openConnection } from '../../src/store/sqlite/connection.ts'
import { createTbsCodec, type TbsFacts } from '../../src/store/sqlite/tbs-codec.ts'
import * as w from './make-ledger.ts'

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

  it('have one template for all names of one length where the only host name is the own one', () => {
    const db = openConnection(':memory:')
    const codec = createTbsCodec(db)
    const base = { ...fc.sample(fields, 1)[0]!, key: keys[0]!, version: 1, shards: 1 }
    for (let i = 0; i < 20; i++) {
      const name = `crawler-${10 + i}`
      const { tbs, facts } = leafOf({ ...base, name, dns: [`${name}.agent.example.org`] })
      const stored = codec.store(tbs, facts, 'agent', [])
      expect(stored.bytes).toHaveLength(64)
      expect(codec.whole(stored, facts)).toEqual(tbs)
    }
    expect(templates(db)).toBe(1)
  })

  it('make no template where the requester chose host names that are not all those of the registration, in its order', () => {
    const db = openConnection(':memory:')
    const codec = createTbsCodec(db)
    const base = { ...fc.sample(fields, 1)[0]!, key: keys[0]!, name: 'invoices' }
    const registered = ['A.example.org', 'b.example.org']
    const others = [
      ...[['b.example.org', 'a.example.org'], ['a.example.org'], ['b.example.org'], ['c.example.net']],
      ...[['invoices.agent.example.net'], ['a.example.org', 'b.example.org', 'c.example.org']],
    ]
    for (const dns of others) {
      const { tbs, facts } = leafOf({ ...base, dns })
      expect(codec.store(tbs, facts, 'agent', registered)).toEqual({ template: null, bytes: tbs })
    }
    expect(templates(db)).toBe(0)
    for (const dns of [['a.example.org', 'b.example.org'], []]) {
      const { tbs, facts } = leafOf({ ...base, dns })
      const stored = codec.store(tbs, facts, 'agent', registered)
      expect(stored.bytes).toHaveLength(64)
      expect(codec.whole(stored, facts)).toEqual(tbs)
    }
    expect(templates(db)).toBe(2)
  })

  it('make no template of the ledger where an order chose the host names, and one where it did not', async () => {
    using at = w.temporaryDatabase()
    const ledger = w.makeLedger(at.path)
    const world = await w.makeWorld(ledger)
    const issued = []
    for (const orderId of ['order', undefined]) {
      const base = { ...fc.sample(fields, 1)[0]!, key: keys[0]!, name: world.agent.name, dns: ['orders.internal'] }
      const serial = new Uint8Array(randomBytes(16)).with(0, 1)
      const { tbs, facts } = leafOf({ ...base, serial, version: world.agent.version })
      const { instanceId, notBefore, notAfter } = facts
      const hex = Buffer.from(serial).toString('hex')
      issued.push(await w.issue(world, { serial: hex, instanceId, tbs, notBefore, notAfter, orderId }))
    }
    for (const { serial, tbs } of issued) expect(ledger.certificates.get(serial)?.tbs).toEqual(tbs)
    await ledger.close()
    const db = new Database(at.path, { readonly: true })
    expect(db.prepare('SELECT template FROM certificate ORDER BY row').pluck().all()).toEqual([null, 1])
    db.close()
  })

  it('are right where there is room for no more templates, and no statement looks through those that are there', () => {
    const db = openConnection(':memory:')
    const asked: string[] = []
    const watched: Parameters<typeof createTbsCodec>[0] = {
      onForget: db.onForget,
      run: db.run,
      get: (sql, ...values) => {
        asked.push(sql)
        return db.get(sql, ...values)
      },
    }
    const base = { ...fc.sample(fields, 1)[0]!, key: keys[0]!, name: 'invoices' }
    const leaves = Array.from({ length: 8 }, (_, i) => leafOf({ ...base, dns: [`orders-${i}.internal`] }))
    const stored = (codec = createTbsCodec(watched, 4)) =>
      leaves.map(({ tbs, facts }) => codec.store(tbs, facts, 'agent'))
    const first = stored()
    expect(templates(db)).toBe(4)
    expect(first.map(({ template }) => template !== null)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map(i => i < 4))
    expect(stored()).toEqual(first)
    for (const [i, { tbs, facts }] of leaves.entries()) expect(createTbsCodec(db).whole(first[i]!, facts)).toEqual(tbs)
    expect(templates(db)).toBe(4)
    const isCount = (sql: string): boolean => sql.startsWith('SELECT count(*)')
    expect(asked.filter(isCount)).toHaveLength(2)
    const looked = [...new Set(asked)].filter(sql => !isCount(sql))
    expect(looked).not.toEqual([])
    for (const sql of looked) {
      const plan = db.all<{ detail: string }>(`EXPLAIN QUERY PLAN ${sql}`, ...(sql.match(/\?/g) ?? []).map(() => null))
      for (const { detail } of plan) expect(detail).toMatch(/^SEARCH /)
    }
  })

  it('are left as they are, also in a Buffer', () => {
    const db = openConnection(':memory:')
    const codec = createTbsCodec(db)
    const { tbs, facts } = leafOf({ ...fc.sample(fields, 1)[0]!, key: keys[0]! })
    const buffer = Buffer.from(tbs)
    for (const _ of [1, 2]) {
      const stored = codec.store(buffer, facts, 'agent')
      expect(new Uint8Array(buffer)).toEqual(tbs)
      buffer.fill(0)
      expect(codec.whole(stored, facts)).toEqual(tbs)
      buffer.set(tbs)
    }
  })

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
