// Publication of CRLs over the real parts: keys in SoftHSM2, a signer process, the SQLite ledger, files; OpenSSL reads them.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/clock.ts'
import type { Metrics } from '../../src/base/metrics.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { eventually } from '../signer/harness.ts'
import { createRequester, leaf } from './authority.ts'
import { createIssuingCrl, createRootCrl } from './ceremony-crl.ts'
import { createPublication, crlFile, issuingCrl, type Publication, pemText, serialsOf } from './publication.ts'

let world: Publication
beforeAll(async () => {
  world = await createPublication()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

/** The system's clock, moved by hand; the signer allows for five minutes. */
const movableClock = (): Clock & { offset: number } => {
  const clock = { offset: 0, now: () => Date.now() + clock.offset, monotonic: () => performance.now() }
  return clock
}

describe('what is published', () => {
  it('is a CRL and a bundle that OpenSSL reads, in files that anybody may read', async () => {
    const directory = world.newDirectory()
    const [serial] = await world.enrolled('published')
    await world.revoke(serial!)
    await using publisher = await world.openPublisher(directory)
    const { number, der } = issuingCrl(publisher)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(der))
    expect(statSync(crlFile(directory)).mode & 0o777).toBe(0o644)
    expect(readdirSync(join(directory, 'crl')).sort()).toEqual(['bundle.pem', 'issuing-1.crl'])
    writeFileSync(join(directory, 'ca.pem'), encodePem('CERTIFICATE', world.ca.issuing.der))
    const read = spawnSync(
      'openssl',
      ['crl', '-inform', 'DER', '-in', crlFile(directory), '-noout', '-text', '-CAfile', join(directory, 'ca.pem')],
      { encoding: 'utf8' },
    )
    expect(read.stderr).toBe('verify OK\n')
    expect(read.stdout).toMatch(new RegExp(`X509v3 CRL Number: \\n +(${number}|0x0?${number.toString(16)})\\n`, 'i'))
    expect(read.stdout.toLowerCase()).toContain(serial)
    expect(parsePem(readFileSync(crlFile(directory, 'bundle.pem'), 'utf8'), 'X509 CRL')).toEqual([der])
  })

  it('makes OpenSSL accept a whole chain, and refuse it after a revocation', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    await publisher.setRootCrl('root-1', await createRootCrl(world.ca, { number: 1n }))
    const registration = await world.ca.registerAgent('whole-chain')
    const { certificate, record } = await world.ca.enrol(
      await world.ca.createToken(registration.id),
      await createRequester(),
    )
    const judge = (): string => {
      try {
        return world.ca.openssl(
          ['verify', '-x509_strict', '-crl_check_all', '-CAfile', 'root.pem', '-untrusted', 'issuing.pem'].concat([
            '-CRLfile',
            crlFile(directory, 'bundle.pem'),
            'leaf.pem',
          ]),
          {
            'root.pem': encodePem('CERTIFICATE', world.ca.root.der),
            'issuing.pem': encodePem('CERTIFICATE', world.ca.issuing.der),
            'leaf.pem': encodePem('CERTIFICATE', certificate),
          },
        )
      } catch (error) {
        return (error as { stderr: string }).stderr
      }
    }
    expect(judge()).toBe('leaf.pem: OK\n')
    await world.revoke(record.serial)
    await eventually('the bundle shows the revocation', () => judge().includes('certificate revoked'))
  })

  it('is written in the audit log, list by list', async () => {
    await using publisher = await world.openPublisher(world.newDirectory())
    const [list] = await publisher.publish('issuing-1')
    const [last] = world.ca.ledger.audit.tail({ event: 'crl_published', limit: 1 })
    expect(JSON.parse(Buffer.from(last!.bytes).toString())).toMatchObject({
      issuer: 'issuing-1',
      number: list!.number.toString(),
      sha256: list!.sha256,
      entries: list!.entries,
    })
  })

  it('is never seen half written', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    let writing = true
    const writer = (async () => {
      for (let i = 0; i < 20; i++) await publisher.publish()
      writing = false
    })()
    let reads = 0
    for (; writing; reads++) {
      parseCrl(readFileSync(crlFile(directory)))
      expect(parsePem(readFileSync(crlFile(directory, 'bundle.pem'), 'utf8'), 'X509 CRL')).toHaveLength(1)
      await new Promise(setImmediate)
    }
    await writer
    expect(reads).toBeGreaterThan(20)
  })

  it('shows how long it is still good in metrics', async () => {
    const seen: string[] = []
    const gauges = new Map<string, Parameters<Metrics['gauge']>[1]>()
    const metrics: Metrics = {
      count: name => seen.push(name),
      observe: name => seen.push(name),
      gauge: (name, read) => gauges.set(name, read),
    }
    await using _ = await world.openPublisher(world.newDirectory(), { metrics })
    expect(seen.sort()).toEqual(['agentca_crl_build_seconds', 'agentca_crl_published_total'])
    const samples = gauges.get('agentca_crl_next_update_seconds')!()
    expect(samples.map(sample => sample.labels)).toEqual([{ kind: 'root' }, { kind: 'issuing' }])
    // The root has no list: it is good for no time at all.
    expect(samples[0]!.value).toBe(0)
    expect(samples[1]!.value).toBeGreaterThan(86_000)
  })
})

describe('when something changes', () => {
  it('follows by itself: revoked, held, released', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    const [serial] = await world.enrolled('changing')
    const lists = () => serialsOf(readFileSync(crlFile(directory))).includes(serial!)
    const change = (state: 'held' | 'active') =>
      world.ca.ledger.registrations.change({
        kind: 'agent',
        name: 'changing',
        at: Date.now(),
        decide: () => ({ set: {}, state }),
        leaf: () => leaf('registration_changed'),
      })
    await change('held')
    await eventually('held', lists)
    await change('active')
    await eventually('released', () => !lists())
    await world.revoke(serial!)
    await eventually('revoked', lists)
    expect(serialsOf(issuingCrl(publisher).der)).toContain(serial)
  })

  it('makes one list of many changes, and yet one after the other while they go on', async () => {
    const serials = [...(await world.enrolled('burst', 50))]
    const published: number[] = []
    const metrics: Metrics = { count: () => published.push(performance.now()), observe: () => {}, gauge: () => {} }
    await using publisher = await world.openPublisher(world.newDirectory(), { metrics })
    const began = performance.now()
    let revoked = 0
    // Changes never pause: a list that waited for a pause would never come.
    while (published.length < 4 && revoked < serials.length) {
      await world.revoke(serials[revoked++]!)
      await new Promise(resolve => setTimeout(resolve, 30))
    }
    const others = serials.slice(revoked)
    for (const serial of others) await world.revoke(serial)
    await eventually('all are listed', () =>
      serials.every(serial => serialsOf(issuingCrl(publisher).der).includes(serial)),
    )
    const mostAllowed = 2 + Math.ceil((performance.now() - began) / 500)
    expect(published.length).toBeGreaterThanOrEqual(2)
    expect(published.length).toBeLessThanOrEqual(mostAllowed)
  })

  it('makes no list when nothing changes', async () => {
    const published: string[] = []
    const metrics: Metrics = { count: name => published.push(name), observe: () => {}, gauge: () => {} }
    await using publisher = await world.openPublisher(world.newDirectory(), { metrics })
    const { number } = issuingCrl(publisher)
    await world.enrolled('no-change')
    await new Promise(resolve => setTimeout(resolve, 1200))
    expect(published).toHaveLength(1)
    expect(issuingCrl(publisher).number).toBe(number)
  })

  it('renews the list well before it ends', async () => {
    await using publisher = await world.openPublisher(world.newDirectory(), {
      lifetimeSeconds: 10,
      refreshBeforeSeconds: 9,
    })
    const first = issuingCrl(publisher)
    await eventually('a second list', () => issuingCrl(publisher).number > first.number)
    const second = issuingCrl(publisher)
    expect(second.thisUpdate).toBeLessThan(first.nextUpdate)
    await eventually('a third list', () => issuingCrl(publisher).number > second.number)
  })

  it('keeps an expired entry for a whole regular interval and on one list beyond it (RFC 5280 §3.3)', async () => {
    const clock = movableClock()
    const notAfter = Date.now() + 20_000
    const [serial] = await enrolledUntil('expires', notAfter)
    // A regular interval of 30 s: what ends at 20 s is listed until 50 s, and on the next list.
    await using publisher = await world.openPublisher(world.newDirectory(), {
      clock,
      lifetimeSeconds: 3600,
      refreshBeforeSeconds: 3570,
    })
    const listedAt = async (second: number): Promise<boolean> => {
      clock.offset = notAfter - 20_000 + second * 1000 - Date.now()
      const [list] = await publisher.publish()
      return serialsOf(list!.der).includes(serial!)
    }
    expect(await listedAt(10)).toBe(true)
    // The first list beyond the end; and another one that a revocation may have caused, a slow clock still taking it for valid.
    expect(await listedAt(25)).toBe(true)
    expect(await listedAt(40)).toBe(true)
    expect(await listedAt(60)).toBe(false)
  })
})

/** A revoked certificate with an end of our choosing: an intent that came to nothing counts as revoked. */
const enrolledUntil = async (name: string, notAfter: number): Promise<readonly string[]> => {
  const registration = await world.ca.registerAgent(name)
  const serial = `01${Date.now().toString(16).padStart(12, '0')}${'ab'.repeat(9)}`
  await world.ca.ledger.issuance.recordIntents([
    {
      query: { evidence: { kind: 'registration', subject: 'agent', name }, keyHash: 'cd'.repeat(32), now: Date.now() },
      decide: () => ({
        act: 'record',
        leaf: leaf('intent_recorded'),
        intent: {
          serial,
          issuerId: world.ca.issuer.id,
          kind: 'agent',
          registrationId: registration.id,
          registrationVersion: registration.version,
          instanceId: 'ef'.repeat(16),
          newInstance: true,
          generation: 1,
          predecessor: null,
          supersedes: null,
          tokenId: null,
          recovery: false,
          keyHash: 'cd'.repeat(32),
          tbs: new Uint8Array([0x30, 0]),
          profile: 'agent',
          profileHash: '00'.repeat(32),
          requester: 'operator:test',
          notBefore: Date.now(),
          notAfter,
          epoch: 0,
          deadline: Date.now(),
          createdAt: Date.now(),
        },
      }),
    },
  ])
  await world.ca.sweepAll()
  return [serial]
}

describe('roots', () => {
  it('have the CRL that a ceremony left in the directory, or that is given later, and no other', async () => {
    const directory = world.newDirectory()
    mkdirSync(join(directory, 'crl'))
    const [first, second] = [
      await createRootCrl(world.ca, { number: 7n }),
      await createRootCrl(world.ca, { number: 8n }),
    ]
    writeFileSync(crlFile(directory, 'root-1.crl'), first)
    await using publisher = await world.openPublisher(directory)
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 7n, der: new Uint8Array(first) })
    expect(await publisher.setRootCrl('root-1', second)).toMatchObject({ number: 8n })
    expect(readFileSync(crlFile(directory, 'root-1.crl'))).toEqual(Buffer.from(second))
    expect(parsePem(pemText(publisher.bundle().pem), 'X509 CRL')).toEqual([
      issuingCrl(publisher).der,
      new Uint8Array(second),
    ])
    await publisher.setRootCrl('root-1', second)
    await expect(publisher.setRootCrl('root-1', first)).rejects.toMatchObject({ code: 'crl_number_regressed' })
    await expect(publisher.setRootCrl('issuing-1', second)).rejects.toMatchObject({ code: 'not_found' })
    const foreign = await createIssuingCrl(world.ca, { number: 9n })
    await expect(publisher.setRootCrl('root-1', foreign)).rejects.toMatchObject({ code: 'crl_malformed' })
    const forged = Uint8Array.from(await createRootCrl(world.ca, { number: 9n }))
    forged[forged.length - 1]! ^= 1
    await expect(publisher.setRootCrl('root-1', forged)).rejects.toMatchObject({ code: 'signature_invalid' })
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 8n })
  })

  it('have their CRL read again from the directory when all are published', async () => {
    const directory = world.newDirectory()
    await using publisher = await world.openPublisher(directory)
    expect(publisher.byIssuer('root-1')).toBeNull()
    writeFileSync(crlFile(directory, 'root-1.crl'), await createRootCrl(world.ca, { number: 3n }))
    await publisher.publish()
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 3n })
    await expect(publisher.publish('root-1')).rejects.toMatchObject({ code: 'conflict' })
    await expect(publisher.publish('nobody')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('a CA at its end', () => {
  it('publishes while it is retired, until its certificate has ended', async () => {
    const directory = world.newDirectory()
    const setState = (state: 'active' | 'retired') =>
      world.ca.ledger.issuers.setState(world.ca.issuer.id, state, Date.now(), leaf('issuer_state_changed'), null)
    await setState('retired')
    try {
      const retired = await world.openPublisher(directory)
      const last = issuingCrl(retired)
      const [serial] = await world.enrolled('retired-ca')
      await world.revoke(serial!)
      await eventually('a new list', () => serialsOf(issuingCrl(retired).der).includes(serial!))
      const final = issuingCrl(retired)
      expect(final.number).toBeGreaterThan(last.number)
      await retired.close()

      const clock: Clock = { now: () => world.ca.issuing.notAfter, monotonic: () => performance.now() }
      await using ended = await world.openPublisher(directory, { clock })
      expect(issuingCrl(ended)).toEqual(final)
      expect(ended.bundle().pem).toHaveLength(0)
      await expect(ended.publish('issuing-1')).rejects.toMatchObject({ code: 'conflict' })
      expect(await ended.publish()).toEqual([])
    } finally {
      await setState('active')
    }
  })
})
