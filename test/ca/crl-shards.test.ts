// Sharded lists over the real parts: keys in SoftHSM2, a signer process, the SQLite ledger, files. OpenSSL and our own verifier judge.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import type { CrlPublisher } from '../../src/ca/crl-publisher.ts'
import { createIssuers, statusUrls } from '../../src/ca/issuers.ts'
import { lookOutside } from '../../src/ca/outside.ts'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { type Shard, shardName, shardOf } from '../../src/pki/crl-shards.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { allReasons, pointsOf, reasonsCovered } from '../../src/verify/crl-scope.ts'
import { eventually } from '../signer/harness.ts'
import { createRequester } from './authority.ts'
import { createPublication, issuingCrl, type Publication, serialsOf } from './publication.ts'

let world: Publication
beforeAll(async () => {
  world = await createPublication()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

const urls = statusUrls('http://status.example')
const issuersOf = (shards: number) => createIssuers(world.ca.ledger.issuers, urls, shards)

/** A publisher whose leaves are divided among so many lists, and the certificates that name them. */
const sharded = async (
  shards: number,
  directory: string,
  changes: Parameters<Publication['openPublisher']>[1] = {},
) => {
  const publisher = await world.openPublisher(directory, { issuers: issuersOf(shards), ...changes })
  await publisher.publish('issuing-1')
  return publisher
}

const useShards = (of: number): void => {
  const issuer = world.ca.issuer as { crlShards: (typeof world.ca.issuer)['crlShards'] }
  issuer.crlShards = { of, url: shard => urls.crlShard('issuing-1', shard) }
}

/** A new instance's certificate. */
const enrol = async () => {
  const registration = await world.ca.registerAgent(`sharded-${Math.random().toString(36).slice(2)}`)
  const { certificate, record } = await world.ca.enrol(
    await world.ca.createToken(registration.id),
    await createRequester(),
  )
  return { der: certificate, serial: record.serial, parsed: parseCertificate(certificate) }
}
type Leaf = Awaited<ReturnType<typeof enrol>>

const shardNamed = ({ parsed }: Leaf): Shard => shardOf(parsed.serial, 8)
const shardListOf = (publisher: Pick<CrlPublisher, 'shardOf'>, of: Leaf) =>
  publisher.shardOf('issuing-1', shardNamed(of))!

/** Two leaves of different shards. */
const twoShards = async (): Promise<readonly [Leaf, Leaf]> => {
  const first = await enrol()
  for (;;) {
    const second = await enrol()
    if (shardNamed(second).number !== shardNamed(first).number) return [first, second]
  }
}

const opensslSays = (args: readonly string[], files: Readonly<Record<string, string | Uint8Array>>): string => {
  try {
    return world.ca.openssl(args, files)
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}
const verified = (of: Leaf, crl: Uint8Array): string =>
  opensslSays(
    ['verify', '-crl_check', '-extended_crl', '-x509_strict', '-partial_chain', '-CAfile', 'issuing.pem'].concat([
      '-CRLfile',
      'crl.pem',
      'leaf.pem',
    ]),
    {
      'issuing.pem': encodePem('CERTIFICATE', world.ca.issuing.der),
      'crl.pem': encodePem('X509 CRL', crl),
      'leaf.pem': encodePem('CERTIFICATE', of.der),
    },
  )

describe('a leaf and its shard', () => {
  it('name the same URL, byte for byte, critical in the list (RFC 5280 §5.2.5)', async () => {
    useShards(8)
    const one = await enrol()
    await using publisher = await sharded(8, world.newDirectory())
    const url = urls.crlShard('issuing-1', shardNamed(one))
    expect(one.parsed.crlDistributionPoints).toMatchObject([{ fullName: [{ kind: 'uri', value: url }] }])
    const crl = parseCrl(shardListOf(publisher, one).der)
    expect(crl.distributionPoint?.fullName).toEqual([{ kind: 'uri', value: url }])
    expect(crl.extensions.find(({ oid }) => oid === '2.5.29.28')?.critical).toBe(true)
    const raw = Buffer.from(url, 'latin1')
    expect(Buffer.from(one.der).includes(raw)).toBe(true)
    expect(Buffer.from(crl.der).includes(raw)).toBe(true)
  })

  it('are taken together by OpenSSL and by our verifier, and no other shard is taken for the leaf (§6.3.3)', async () => {
    useShards(8)
    const [mine, other] = await twoShards()
    await using publisher = await sharded(8, world.newDirectory())
    const [right, wrong] = [shardListOf(publisher, mine).der, shardListOf(publisher, other).der]
    expect(verified(mine, right)).toBe('leaf.pem: OK\n')
    expect(verified(mine, wrong)).toMatch(/different CRL scope|unable to get certificate CRL/i)
    // The list without a scope speaks of everybody.
    expect(verified(mine, issuingCrl(publisher).der)).toBe('leaf.pem: OK\n')
    const [point] = pointsOf(mine.parsed)
    expect(reasonsCovered(parseCrl(right), point!, mine.parsed)).toBe(allReasons)
    expect(reasonsCovered(parseCrl(wrong), point!, mine.parsed)).toBe(0)

    await world.revoke(mine.serial)
    await eventually('on its shard', () => serialsOf(shardListOf(publisher, mine).der).includes(mine.serial))
    expect(verified(mine, shardListOf(publisher, mine).der)).toMatch(/certificate revoked/)
    expect(verified(other, shardListOf(publisher, other).der)).toBe('leaf.pem: OK\n')
  })
})

describe('a revocation', () => {
  it('rebuilds its shard and the complete list, and no other shard', async () => {
    useShards(8)
    const [mine, other] = await twoShards()
    await using publisher = await sharded(8, world.newDirectory())
    const before = new Map(publisher.shardsOf('issuing-1').map(list => [shardName(list.shard!), list]))
    const complete = issuingCrl(publisher)
    await world.revoke(mine.serial)
    await eventually('on both', () =>
      [shardListOf(publisher, mine), issuingCrl(publisher)].every(({ der }) => serialsOf(der).includes(mine.serial)),
    )
    expect(issuingCrl(publisher).number).toBeGreaterThan(complete.number)
    const again = publisher.shardsOf('issuing-1')
    expect(again.filter(list => list !== before.get(shardName(list.shard!))).map(({ shard }) => shard)).toEqual([
      shardNamed(mine),
    ])
    expect(serialsOf(shardListOf(publisher, other).der)).not.toContain(mine.serial)
  })

  it('reaches its shard soon also when its row could not be read at first', async () => {
    useShards(8)
    const one = await enrol()
    const { revocations } = world.ca.ledger
    let unreadable = 0
    await using publisher = await sharded(8, world.newDirectory(), {
      revocations: {
        ...revocations,
        rowsSince: (...args) => {
          if (unreadable-- > 0) throw new Error('the ledger cannot be read')
          return revocations.rowsSince(...args)
        },
      },
    })
    unreadable = 1
    await world.revoke(one.serial)
    await eventually('on its shard', () => serialsOf(shardListOf(publisher, one).der).includes(one.serial))
    expect(unreadable).toBeLessThan(1)
  })

  it('is on all shards together exactly as on the complete list', async () => {
    useShards(8)
    const serials = await world.enrolled('spread', 24)
    for (const serial of serials) await world.revoke(serial)
    await using publisher = await sharded(8, world.newDirectory())
    const together = publisher.shardsOf('issuing-1').flatMap(({ der }) => serialsOf(der))
    expect(together.toSorted()).toEqual(serialsOf(issuingCrl(publisher).der))
    for (const list of publisher.shardsOf('issuing-1'))
      for (const serial of serialsOf(list.der)) expect(shardOf(Buffer.from(serial, 'hex'), 8)).toEqual(list.shard)
  })
})

describe('numbers', () => {
  it('grow for each shard by itself, over a restart and with the file ahead of the ledger', async () => {
    useShards(8)
    const directory = world.newDirectory()
    const numbersOf = (publisher: Pick<CrlPublisher, 'shardsOf'>) =>
      new Map(publisher.shardsOf('issuing-1').map(({ shard, number }) => [shardName(shard!), number]))
    const first = await sharded(8, directory)
    const before = numbersOf(first)
    await first.close()
    const second = await world.openPublisher(directory, { issuers: issuersOf(8) })
    // Nothing was revoked in between: what was published is still right, and is published as it is.
    expect(numbersOf(second)).toEqual(before)
    await second.publish('issuing-1')
    for (const [name, number] of numbersOf(second)) expect(number).toBeGreaterThan(before.get(name)!)
    await second.close()
  })

  it('are in the audit log with their shard', async () => {
    await using publisher = await sharded(2, world.newDirectory())
    const list = publisher.shardOf('issuing-1', { number: 2, of: 2 })!
    const leaves = world.ca.ledger.audit.tail({ event: 'crl_published', limit: 20 })
    const facts = leaves.map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString()))
    expect(facts).toContainEqual(expect.objectContaining({ shard: '2-of-2', number: list.number.toString() }))
  })
})

describe('another count of shards', () => {
  it('leaves the lists of the old one published until their last certificate has ended', async () => {
    useShards(4)
    const directory = world.newDirectory()
    const old = await sharded(4, directory)
    const one = await enrol()
    await old.close()
    useShards(2)
    const clock: Clock & { ahead: number } = {
      ahead: 0,
      now: () => Date.now() + clock.ahead,
      monotonic: () => performance.now(),
    }
    await using both = await sharded(2, directory, { clock })
    const nameOf = (of: number) => shardOf(one.parsed.serial, of)
    expect(both.shardOf('issuing-1', nameOf(2))).not.toBeNull()
    await world.revoke(one.serial)
    await eventually('on the shard that it names', () =>
      serialsOf(both.shardOf('issuing-1', nameOf(4))!.der).includes(one.serial),
    )
    expect(one.parsed.crlDistributionPoints).toMatchObject([
      { fullName: [{ value: urls.crlShard('issuing-1', nameOf(4)) }] },
    ])
    const sets = world.ca.ledger.shards.sets(world.ca.issuer.id)
    expect(sets.find(({ of }) => of === 2)?.until).toBeNull()
    expect(sets.find(({ of }) => of === 4)?.until).toBeGreaterThanOrEqual(one.parsed.notAfter)

    // Long after: the next start drops them, their files too.
    await both.close()
    clock.ahead = 40 * 86_400_000
    const dead = { ...world.ca.signer.client, sign: () => Promise.reject(new Error('not needed here')) }
    await using later = await world.openPublisher(directory, { issuers: issuersOf(2), clock, signer: dead })
    expect(later.shardOf('issuing-1', nameOf(4))).toBeNull()
    expect(existsSync(join(directory, 'crl/issuing-1', `${shardName(nameOf(4))}.crl`))).toBe(false)
    expect(world.ca.ledger.shards.sets(world.ca.issuer.id).map(({ of }) => of)).not.toContain(4)
  })

  it('of one leaves no shards, and no directory', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory, {
      issuers: createIssuers(world.ca.ledger.issuers, null),
    })
    expect(publisher.shardsOf('issuing-1')).toEqual([])
    expect(readdirSync(join(directory, 'crl'))).not.toContain('issuing-1')
  })
})

describe('what a restore finds outside', () => {
  it('is every revocation of the shards and the complete list once, and the number of the complete list alone', async () => {
    useShards(2)
    const directory = world.newDirectory()
    for (const serial of await world.enrolled('outside', 6)) await world.revoke(serial)
    const publisher = await sharded(2, directory)
    const listed = serialsOf(issuingCrl(publisher).der)
    const { number } = issuingCrl(publisher)
    await publisher.close()
    const { id, name } = world.ca.issuer
    const issuers = [{ id, name, certificate: world.ca.issuing }]
    const look = () =>
      lookOutside([join(directory, 'crl')], { caId: 'ca', logOrigin: 'ca/log', logKeySpki: new Uint8Array(), issuers })
    const both = look()
    expect(both.ignored).toEqual([])
    expect(both.revocations.map(({ serial }) => serial).toSorted()).toEqual(listed)
    expect(both.crlNumbers).toEqual([{ issuerId: id, name, number }])
    // Where the complete list is lost, each shard still says its own.
    for (const file of ['issuing-1.crl', 'bundle.pem']) rmSync(join(directory, 'crl', file))
    const shardsAlone = look()
    expect(shardsAlone.revocations.map(({ serial }) => serial).toSorted()).toEqual(listed)
    expect(shardsAlone.crlNumbers).toEqual([])
  })
})

describe('a file in the place of a shard', () => {
  it.each([
    ['the complete list', (publisher: Pick<CrlPublisher, 'byIssuer' | 'shardOf'>) => issuingCrl(publisher).der],
    [
      'another shard',
      (publisher: Pick<CrlPublisher, 'byIssuer' | 'shardOf'>) =>
        publisher.shardOf('issuing-1', { number: 2, of: 2 })!.der,
    ],
  ])('is not believed when it is %s', async (_what, foreign) => {
    const directory = world.newDirectory()
    const first = await sharded(2, directory)
    await first.publish('issuing-1')
    const path = join(directory, 'crl/issuing-1/1-of-2.crl')
    const bytes = foreign(first)
    await first.close()
    writeFileSync(path, bytes)
    await using second = await world.openPublisher(directory, { issuers: issuersOf(2) })
    await second.publish('issuing-1')
    const crl = parseCrl(readFileSync(path))
    expect(crl.distributionPoint?.fullName).toEqual([
      { kind: 'uri', value: urls.crlShard('issuing-1', { number: 1, of: 2 }) },
    ])
  })
})
