// Publication of CRLs over the real parts: keys in SoftHSM2, a signer process, the SQLite ledger, files; OpenSSL reads them.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { Metrics } from '../../src/base/metrics.ts'
import { noSteps } from '../../src/base/steps.ts'
import { type CrlPublisher, type CrlPublisherDeps, createCrlPublisher } from '../../src/ca/crl-publisher.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import type { SignerPort } from '../../src/signer/port.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { eventually } from '../signer/harness.ts'
import { createRequester, createTestAuthority, leaf, type TestAuthority } from './authority.ts'
import { createIssuingCrl, createRootCrl } from './ceremony-crl.ts'

const day = 86_400_000
let ca: TestAuthority
beforeAll(async () => {
  ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const newDirectory = (): string => mkdtempSync(join(ca.directory, 'status-'))

const depsFor = (directory: string, changes: Partial<CrlPublisherDeps> = {}): CrlPublisherDeps => ({
  clock: systemClock,
  log: silentLog,
  metrics: { count: () => {}, observe: () => {}, gauge: () => {} },
  issuers: createIssuers(ca.ledger.issuers, null),
  revocations: ca.ledger.revocations,
  status: ca.ledger.status,
  signer: ca.signer.client,
  directory,
  lifetimeSeconds: 86_400,
  refreshBeforeSeconds: 43_200,
  signDeadlineMs: 5000,
  reached: noSteps,
  ...changes,
})

const openPublisher = async (directory: string, changes: Partial<CrlPublisherDeps> = {}) => {
  const publisher = await createCrlPublisher(depsFor(directory, changes))
  return { ...publisher, [Symbol.asyncDispose]: () => publisher.close() }
}

const shown = (publisher: CrlPublisher) => publisher.byIssuer('issuing-1')!
const crlFile = (directory: string, name = 'issuing-1.crl') => join(directory, 'crl', name)
const serialsOf = (der: Uint8Array) =>
  [...parseCrl(der).entries()].map(entry => Buffer.from(entry.serial).toString('hex'))

const enrolled = async (name: string, count = 1): Promise<readonly string[]> => {
  const registration = await ca.registerAgent(name)
  const token = await ca.createToken(registration.id, count)
  const issued = await Promise.all(Array.from({ length: count }, async () => ca.enrol(token, await createRequester())))
  return issued.map(each => each.record.serial)
}

const revoke = (value: string) =>
  ca.ledger.revocations.revoke({
    selector: { by: 'serial', value },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => leaf('revoked'),
  })

/** The system's clock, moved by hand; the signer allows for five minutes. */
const movableClock = (): Clock & { offset: number } => {
  const clock = { offset: 0, now: () => Date.now() + clock.offset, monotonic: () => performance.now() }
  return clock
}

/** Faults on demand in front of the real signer: no signature, as when its process is gone. */
const breakableSigner = () => {
  const gone = createSignerClient({
    socket: join(ca.directory, 'no-signer.sock'),
    clock: systemClock,
    log: silentLog,
    connectWaitMs: 10,
  })
  const signer: SignerPort = {
    sign: request => (state.dead ? gone : ca.signer.client).sign(request),
    isConnected: () => !state.dead,
    health: () => ca.signer.client.health(),
    close: () => gone.close(),
  }
  const state = { dead: false, signer, [Symbol.asyncDispose]: () => gone.close() }
  return state
}

describe('what is published', () => {
  it('is a CRL and a bundle that OpenSSL reads, in files that anybody may read', async () => {
    const directory = newDirectory()
    const [serial] = await enrolled('published')
    await revoke(serial!)
    await using publisher = await openPublisher(directory)
    const { number, der } = shown(publisher)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(der))
    expect(statSync(crlFile(directory)).mode & 0o777).toBe(0o644)
    expect(readdirSync(join(directory, 'crl')).sort()).toEqual(['bundle.pem', 'issuing-1.crl'])
    writeFileSync(join(directory, 'ca.pem'), encodePem('CERTIFICATE', ca.issuing.der))
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
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    await publisher.setRootCrl('root-1', await createRootCrl(ca, { number: 1n }))
    const registration = await ca.registerAgent('whole-chain')
    const { certificate, record } = await ca.enrol(await ca.createToken(registration.id), await createRequester())
    const judge = (): string => {
      try {
        return ca.openssl(
          ['verify', '-x509_strict', '-crl_check_all', '-CAfile', 'root.pem', '-untrusted', 'issuing.pem'].concat([
            '-CRLfile',
            crlFile(directory, 'bundle.pem'),
            'leaf.pem',
          ]),
          {
            'root.pem': encodePem('CERTIFICATE', ca.root.der),
            'issuing.pem': encodePem('CERTIFICATE', ca.issuing.der),
            'leaf.pem': encodePem('CERTIFICATE', certificate),
          },
        )
      } catch (error) {
        return (error as { stderr: string }).stderr
      }
    }
    expect(judge()).toBe('leaf.pem: OK\n')
    await revoke(record.serial)
    await eventually('the bundle shows the revocation', () => judge().includes('certificate revoked'))
  })

  it('is written in the audit log, list by list', async () => {
    await using publisher = await openPublisher(newDirectory())
    const [list] = await publisher.publish('issuing-1')
    const [last] = ca.ledger.audit.tail({ event: 'crl_published', limit: 1 })
    expect(JSON.parse(Buffer.from(last!.bytes).toString())).toMatchObject({
      issuer: 'issuing-1',
      number: list!.number.toString(),
      sha256: list!.sha256,
      entries: list!.entries,
    })
  })

  it('is never seen half written', async () => {
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
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
    await using _ = await openPublisher(newDirectory(), { metrics })
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
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    const [serial] = await enrolled('changing')
    const lists = () => serialsOf(readFileSync(crlFile(directory))).includes(serial!)
    const change = (state: 'held' | 'active') =>
      ca.ledger.registrations.change({
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
    await revoke(serial!)
    await eventually('revoked', lists)
    expect(serialsOf(shown(publisher).der)).toContain(serial)
  })

  it('makes one list of many changes, and yet one after the other while they go on', async () => {
    const serials = [...(await enrolled('burst', 50))]
    const published: number[] = []
    const metrics: Metrics = { count: () => published.push(performance.now()), observe: () => {}, gauge: () => {} }
    await using publisher = await openPublisher(newDirectory(), { metrics })
    const began = performance.now()
    let revoked = 0
    // Changes never pause: a list that waited for a pause would never come.
    while (published.length < 4 && revoked < serials.length) {
      await revoke(serials[revoked++]!)
      await new Promise(resolve => setTimeout(resolve, 30))
    }
    const others = serials.slice(revoked)
    for (const serial of others) await revoke(serial)
    await eventually('all are listed', () => serials.every(serial => serialsOf(shown(publisher).der).includes(serial)))
    const mostAllowed = 2 + Math.ceil((performance.now() - began) / 500)
    expect(published.length).toBeGreaterThanOrEqual(2)
    expect(published.length).toBeLessThanOrEqual(mostAllowed)
  })

  it('makes no list when nothing changes', async () => {
    const published: string[] = []
    const metrics: Metrics = { count: name => published.push(name), observe: () => {}, gauge: () => {} }
    await using publisher = await openPublisher(newDirectory(), { metrics })
    const { number } = shown(publisher)
    await enrolled('no-change')
    await new Promise(resolve => setTimeout(resolve, 1200))
    expect(published).toHaveLength(1)
    expect(shown(publisher).number).toBe(number)
  })

  it('renews the list well before it ends', async () => {
    await using publisher = await openPublisher(newDirectory(), { lifetimeSeconds: 10, refreshBeforeSeconds: 9 })
    const first = shown(publisher)
    await eventually('a second list', () => shown(publisher).number > first.number)
    const second = shown(publisher)
    expect(second.thisUpdate).toBeLessThan(first.nextUpdate)
    await eventually('a third list', () => shown(publisher).number > second.number)
  })

  it('keeps an expired entry for a whole regular interval and on one list beyond it (RFC 5280 §3.3)', async () => {
    const clock = movableClock()
    const notAfter = Date.now() + 20_000
    const [serial] = await enrolledUntil('expires', notAfter)
    // A regular interval of 30 s: what ends at 20 s is listed until 50 s, and on the next list.
    await using publisher = await openPublisher(newDirectory(), {
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
    expect(await listedAt(40)).toBe(true)
    // The last list before is of the 40th second, older than the certificate's end plus the interval.
    expect(await listedAt(60)).toBe(false)
  })
})

/** A revoked certificate with an end of our choosing: an intent that came to nothing counts as revoked. */
const enrolledUntil = async (name: string, notAfter: number): Promise<readonly string[]> => {
  const registration = await ca.registerAgent(name)
  const serial = `01${Date.now().toString(16).padStart(12, '0')}${'ab'.repeat(9)}`
  await ca.ledger.issuance.recordIntents([
    {
      query: { evidence: { kind: 'registration', subject: 'agent', name }, keyHash: 'cd'.repeat(32), now: Date.now() },
      decide: () => ({
        act: 'record',
        leaf: leaf('intent_recorded'),
        intent: {
          serial,
          issuerId: ca.issuer.id,
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
  await ca.sweepAll()
  return [serial]
}

describe('when a part fails', () => {
  it('serves the last list at a start with a dead signer, and publishes again when it is back', async () => {
    const directory = newDirectory()
    const before = await createCrlPublisher(depsFor(directory))
    const last = shown(before)
    await before.close()
    const [serial] = await enrolled('during-outage')
    await revoke(serial!)

    await using broken = breakableSigner()
    broken.dead = true
    await using publisher = await openPublisher(directory, { signer: broken.signer })
    expect(shown(publisher)).toEqual(last)
    expect(Buffer.from(publisher.bundle().pem).toString()).toBe(encodePem('X509 CRL', last.der))
    await expect(publisher.publish()).rejects.toMatchObject({ code: 'signer_unavailable' })
    expect(shown(publisher)).toEqual(last)
    broken.dead = false
    await eventually('a new list', () => serialsOf(readFileSync(crlFile(directory))).includes(serial!))
    expect(shown(publisher).number).toBeGreaterThan(last.number)
  })

  it('survives the death of the signer process', async () => {
    await using publisher = await openPublisher(newDirectory())
    const [serial] = await enrolled('killed-signer')
    process.kill(ca.signer.supervisor.state().pid as number, 'SIGKILL')
    await revoke(serial!)
    await eventually('listed', () => serialsOf(shown(publisher).der).includes(serial!))
    await ca.signer.supervisor.ready(15_000)
  })

  it('goes on from memory when the disk fails, and writes the file when it is back', async () => {
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    const path = crlFile(directory)
    rmSync(path)
    mkdirSync(path)
    const [serial] = await enrolled('no-disk')
    await revoke(serial!)
    await eventually('in memory', () => serialsOf(shown(publisher).der).includes(serial!))
    await expect(publisher.publish()).rejects.toThrow()
    rmSync(path, { recursive: true })
    await eventually('in the file', () => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
    expect(serialsOf(readFileSync(path))).toContain(serial)
  })

  it('publishes after a crash what was recorded just before it', async () => {
    const directory = newDirectory()
    let crashes = false
    const reached = (step: string) => {
      if (crashes && step === 'crl 4') throw new Error('the process ends here')
    }
    await using publisher = await openPublisher(directory, { reached })
    const first = shown(publisher)
    crashes = true
    await expect(publisher.publish()).rejects.toThrow('ends here')
    await publisher.close()
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(first.der))

    await using broken = breakableSigner()
    broken.dead = true
    await using again = await openPublisher(directory, { signer: broken.signer })
    expect(shown(again).number).toBeGreaterThan(first.number)
    expect(shown(again).der).toEqual(ca.ledger.status.latestCrl(ca.issuer.id)?.der)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(shown(again).der))
  })

  it('writes a file again that was damaged or removed', async () => {
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    writeFileSync(crlFile(directory), 'rubbish')
    writeFileSync(crlFile(directory, '.issuing-1.crl.tmp'), 'left by a crash')
    const [list] = await publisher.publish()
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(list!.der))
    await publisher.close()
    rmSync(crlFile(directory))
    await using again = await openPublisher(directory)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(shown(again).der))
    expect(readdirSync(join(directory, 'crl')).sort()).toEqual(['bundle.pem', 'issuing-1.crl'])
  })

  it('never publishes a number at or below the published one, and goes on serving that', async () => {
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    const ahead = await createIssuingCrl(ca, { number: BigInt(Date.now() + day), nextUpdate: Date.now() + day })
    writeFileSync(crlFile(directory), ahead)
    await expect(publisher.publish()).rejects.toMatchObject({ code: 'crl_number_regressed' })
    expect(shown(publisher).der).toEqual(ahead)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(ahead))
    await publisher.close()
    await using again = await openPublisher(directory)
    expect(shown(again).der).toEqual(ahead)
    await expect(again.publish()).rejects.toMatchObject({ code: 'crl_number_regressed' })
  })

  it('does not believe a file that another CA signed, or nobody', async () => {
    const directory = newDirectory()
    mkdirSync(join(directory, 'crl'))
    const forged = Uint8Array.from(await createIssuingCrl(ca, { number: BigInt(Date.now() + day) }))
    forged[forged.length - 1]! ^= 1
    writeFileSync(crlFile(directory), forged)
    await using publisher = await openPublisher(directory)
    const first = shown(publisher)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(first.der))
    writeFileSync(crlFile(directory), await createRootCrl(ca, { number: BigInt(Date.now() + day) }))
    await publisher.publish()
    expect(shown(publisher).number).toBeGreaterThan(first.number)
    expect(readFileSync(crlFile(directory))).toEqual(Buffer.from(shown(publisher).der))
  })
})

describe('roots', () => {
  it('have the CRL that a ceremony left in the directory, or that is given later, and no other', async () => {
    const directory = newDirectory()
    mkdirSync(join(directory, 'crl'))
    const [first, second] = [await createRootCrl(ca, { number: 7n }), await createRootCrl(ca, { number: 8n })]
    writeFileSync(crlFile(directory, 'root-1.crl'), first)
    await using publisher = await openPublisher(directory)
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 7n, der: new Uint8Array(first) })
    expect(await publisher.setRootCrl('root-1', second)).toMatchObject({ number: 8n })
    expect(readFileSync(crlFile(directory, 'root-1.crl'))).toEqual(Buffer.from(second))
    expect(parsePem(Buffer.from(publisher.bundle().pem).toString(), 'X509 CRL')).toEqual([
      shown(publisher).der,
      new Uint8Array(second),
    ])
    await publisher.setRootCrl('root-1', second)
    await expect(publisher.setRootCrl('root-1', first)).rejects.toMatchObject({ code: 'crl_number_regressed' })
    await expect(publisher.setRootCrl('issuing-1', second)).rejects.toMatchObject({ code: 'not_found' })
    const foreign = await createIssuingCrl(ca, { number: 9n })
    await expect(publisher.setRootCrl('root-1', foreign)).rejects.toMatchObject({ code: 'crl_malformed' })
    const forged = Uint8Array.from(await createRootCrl(ca, { number: 9n }))
    forged[forged.length - 1]! ^= 1
    await expect(publisher.setRootCrl('root-1', forged)).rejects.toMatchObject({ code: 'signature_invalid' })
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 8n })
  })

  it('have their CRL read again from the directory when all are published', async () => {
    const directory = newDirectory()
    await using publisher = await openPublisher(directory)
    expect(publisher.byIssuer('root-1')).toBeNull()
    writeFileSync(crlFile(directory, 'root-1.crl'), await createRootCrl(ca, { number: 3n }))
    await publisher.publish()
    expect(publisher.byIssuer('root-1')).toMatchObject({ number: 3n })
    await expect(publisher.publish('root-1')).rejects.toMatchObject({ code: 'conflict' })
    await expect(publisher.publish('nobody')).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('a CA at its end', () => {
  it('publishes while it is retired, until its certificate has ended', async () => {
    const directory = newDirectory()
    const setState = (state: 'active' | 'retired') =>
      ca.ledger.issuers.setState(ca.issuer.id, state, Date.now(), leaf('issuer_state_changed'), null)
    await setState('retired')
    try {
      const retired = await createCrlPublisher(depsFor(directory))
      const last = shown(retired)
      const [serial] = await enrolled('retired-ca')
      await revoke(serial!)
      await eventually('a new list', () => serialsOf(shown(retired).der).includes(serial!))
      const final = shown(retired)
      expect(final.number).toBeGreaterThan(last.number)
      await retired.close()

      const clock: Clock = { now: () => ca.issuing.notAfter, monotonic: () => performance.now() }
      await using ended = await openPublisher(directory, { clock })
      expect(shown(ended)).toEqual(final)
      expect(ended.bundle().pem).toHaveLength(0)
      await expect(ended.publish('issuing-1')).rejects.toMatchObject({ code: 'conflict' })
      expect(await ended.publish()).toEqual([])
    } finally {
      await setState('active')
    }
  })
})
