// Answers from memory: as fast as a look-up, never older than the ledger, and all there is while the HSM is away.
import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Labels, silentMetrics } from '../../src/base/metrics.ts'
import { CaError } from '../../src/ca/errors.ts'
import type { OcspResponder } from '../../src/ca/ocsp-responder.ts'
import type { OcspReply } from '../../src/ca/status-answers.ts'
import { encodeOcspRequest, parseOcspResponse } from '../../src/pki/ocsp.ts'
import { StoreError } from '../../src/store/errors.ts'
import { eventually, startSigner } from '../signer/harness.ts'
import { createOcspAuthority, freshSerial, type OcspAuthority } from './ocsp-authority.ts'

let ca: OcspAuthority
beforeAll(async () => {
  ca = await createOcspAuthority()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})
afterEach(async () => {
  await ca.closeResponders()
  ca.present()
  ca.valve.cut('on')
})

const issued = async (notAfter = Date.now() + 3_600_000): Promise<string> => {
  const intent = await ca.recordIntent({ notAfter })
  await ca.recordIssued(intent)
  return intent.serial
}
const ask = (responder: OcspResponder, serial: string) => responder.respond(ca.requestFor(serial))
const askWithNonce = (responder: OcspResponder, ...serials: readonly string[]) =>
  responder.respond(
    encodeOcspRequest({ certIds: serials.map(serial => ca.certIdOf(serial)), nonce: new Uint8Array(16).fill(7) }),
  )
/** The status in a reply that verifies, or the error. */
const said = (reply: OcspReply, serial: string): string => {
  const response = parseOcspResponse(reply.der)
  if (response.status !== 'successful') return response.status
  const { status } = ca.verified(reply, serial).answer
  return typeof status === 'string' ? status : status.reason
}
const saysNow = async (responder: OcspResponder, serial: string) => said(await ask(responder, serial), serial)
const answersSigned = () => ca.valve.signed.filter(({ purpose }) => purpose === 'ocsp-response').length

describe('an answer in memory', () => {
  it('comes back as the same object, synchronously, with what HTTP caches need (RFC 5019 §6.2)', async () => {
    const responder = ca.createResponder()
    const serial = await issued()
    const first = await ask(responder, serial)
    expect(ask(responder, serial)).toBe(first)
    const { thisUpdate, nextUpdate } = ca.verified(first, serial).answer
    const sha1Hex = createHash('sha1').update(first.der).digest('hex')
    expect(first.validity).toEqual({ thisUpdate, nextUpdate, sha1Hex })
    expect((nextUpdate as number) - thisUpdate).toBe(4 * 3_600_000)
  })

  it('keeps nothing of the bytes that asked for it', async () => {
    const responder = ca.createResponder()
    const serial = await issued()
    const request = ca.requestFor(serial)
    const reply = responder.respond(request)
    request.fill(0)
    expect(said(await reply, serial)).toBe('good')
    expect(ask(responder, serial)).toBe(await reply)
    const nonce = new Uint8Array(16).fill(9)
    const nonced = encodeOcspRequest({ certIds: [ca.certIdOf(serial)], nonce })
    const single = ca.createResponder({ nonce: 'on' }).respond(nonced)
    nonced.fill(0)
    expect(ca.verified(await single, serial, ca.active, nonce).answer.status).toBe('good')
  })

  it('is signed once for everybody who asks meanwhile', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const serial = await issued()
    const before = answersSigned()
    const replies = await Promise.all(Array.from({ length: 50 }, () => ask(responder, serial)))
    expect(new Set(replies).size).toBe(1)
    expect(answersSigned() - before).toBe(1)
  })

  it('makes room for the others: what was not asked for longest goes', async () => {
    const responder = ca.createResponder({ maxCached: 2 })
    const [a, b, c] = [await issued(), await issued(), await issued()]
    const kept = await ask(responder, a)
    await ask(responder, b)
    expect(ask(responder, a)).toBe(kept)
    await ask(responder, c)
    expect(ask(responder, a)).toBe(kept)
    expect(ask(responder, b)).toBeInstanceOf(Promise)
  })

  it('is signed ahead after an issuance, behind everything else that the signer has to do', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const serial = await issued()
    responder.presign(serial)
    await eventually('signed ahead', () => responder.stats().cached === 1)
    expect(ca.valve.signed.at(-1)).toMatchObject({ purpose: 'ocsp-response', priority: 'enrol' })
    const before = answersSigned()
    expect(said(ask(responder, serial) as OcspReply, serial)).toBe('good')
    responder.presign(serial)
    responder.presign(freshSerial())
    responder.presign('no serial')
    expect([responder.stats().queued, answersSigned() - before]).toEqual([0, 0])
  })

  it('is not signed ahead a second time when it was asked for while it waited', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const serials = await ca.recordMany('queue', 17)
    const before = answersSigned()
    const gate = ca.valve.hold()
    for (const serial of serials) responder.presign(serial)
    expect(responder.stats().queued).toBe(1)
    const reply = ask(responder, serials[16] as string)
    await eventually('all signed', () => answersSigned() - before === 17)
    gate.release()
    await reply
    await eventually('the queue is empty', () => responder.stats().queued === 0)
    await responder.close()
    expect(answersSigned() - before).toBe(17)
  })

  it('is renewed in the background after half of its life, while it is still served', async () => {
    const responder = ca.createResponder({ lifetimeSeconds: 240 })
    const serial = await issued()
    const old = await ask(responder, serial)
    ca.advance(130_000)
    expect(ask(responder, serial)).toBe(old)
    await eventually('renewed', () => ask(responder, serial) !== old)
    const renewed = ask(responder, serial) as OcspReply
    expect(renewed.validity!.thisUpdate).toBeGreaterThan(old.validity!.thisUpdate)
    expect(said(renewed, serial)).toBe('good')
  })

  it('is renewed by the upkeep while the certificate lives or somebody asks, and forgotten otherwise', async () => {
    const responder = ca.createResponder({ lifetimeSeconds: 240 })
    const past = Date.now() - 60_000
    const [living, wanted, ended] = [await issued(), await issued(past), await issued(past)]
    for (const serial of [living, wanted, ended]) responder.presign(serial)
    await eventually('signed ahead', () => responder.stats().cached === 3)
    ask(responder, wanted)
    const before = answersSigned()
    ca.advance(130_000)
    await responder.maintain()
    await eventually('renewed', () => answersSigned() - before === 2)
    ca.advance(115_000)
    await responder.maintain()
    expect(responder.stats().cached).toBe(2)
    for (const serial of [living, wanted]) expect(said(ask(responder, serial) as OcspReply, serial)).toBe('good')
  })
})

describe('unknown', () => {
  it('is repeated for five seconds at most, and never cached on the way', async () => {
    let at = Date.now()
    const responder = ca.createResponder({ clock: { now: () => at, monotonic: ca.clock.monotonic } })
    const serial = freshSerial()
    const first = await ask(responder, serial)
    expect(said(first, serial)).toBe('unknown')
    expect(first.validity).toBeNull()
    at += 4_999
    expect(ask(responder, serial)).toBe(first)
    at += 1
    const next = ask(responder, serial)
    expect(next).toBeInstanceOf(Promise)
    expect(await next).not.toBe(first)
  })

  it('is signed under a budget; known serials are not touched by it', async () => {
    let seconds = 0
    const clock = { now: ca.clock.now, monotonic: () => seconds * 1000 }
    const responder = ca.createResponder({ clock, unknownBudget: 2 })
    const spend = async () => {
      const serial = freshSerial()
      return said(await ask(responder, serial), serial)
    }
    expect([await spend(), await spend(), await spend()]).toEqual(['unknown', 'unknown', 'tryLater'])
    const intent = freshSerial()
    const mixed = encodeOcspRequest({ certIds: [ca.certIdOf(await issued()), ca.certIdOf(intent)] })
    expect(said(await responder.respond(mixed), intent)).toBe('tryLater')
    expect(await saysNow(responder, await issued())).toBe('good')
    seconds += 0.5
    expect([await spend(), await spend()]).toEqual(['unknown', 'tryLater'])
  })

  it('turns into good when the certificate is issued while the answer is being signed', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const intent = await ca.recordIntent()
    const gate = ca.valve.hold()
    const reply = ask(responder, intent.serial)
    await gate.arrived
    await ca.recordIssued(intent)
    gate.release()
    expect(said(await reply, intent.serial)).toBe('good')
  })
})

describe('after the promise of a revocation resolved', () => {
  it('no earlier answer is served, whoever was revoked', async () => {
    const responder = ca.createResponder()
    const [one, other] = [await ca.enrolAgent('one'), await ca.enrolAgent('other')]
    for (const { serial } of [one, other])
      for (const hash of ['sha1', 'sha256'] as const) await responder.respond(ca.requestFor(serial, hash))
    const kept = ask(responder, other.serial)
    await ca.revoke('agent', 'one', 'keyCompromise')
    for (const hash of ['sha1', 'sha256'] as const) {
      const reply = responder.respond(ca.requestFor(one.serial, hash))
      expect(reply).toBeInstanceOf(Promise)
      expect(said(await reply, one.serial)).toBe('keyCompromise')
    }
    expect(ask(responder, other.serial)).toBe(kept)
  })

  it('an answer that was being signed meanwhile is not released either, to whoever waits for it', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const { serial } = await ca.enrolAgent('raced')
    const gate = ca.valve.hold()
    const before = ask(responder, serial)
    const beforeWithSha256 = responder.respond(ca.requestFor(serial, 'sha256'))
    await gate.arrived
    await ca.revoke('serial', serial, 'keyCompromise')
    const after = ask(responder, serial)
    gate.release()
    for (const reply of [before, beforeWithSha256, after]) expect(said(await reply, serial)).toBe('keyCompromise')
    expect(said(ask(responder, serial) as OcspReply, serial)).toBe('keyCompromise')
  })

  it.each([
    ['with a nonce', 1],
    ['to several certIDs', 2],
  ])('nor is an answer %s', async (_, count) => {
    const responder = ca.createResponder({ nonce: 'on' })
    await responder.start()
    const serials = await Promise.all(Array.from({ length: count }, () => issued()))
    const last = serials.at(-1) as string
    const gate = ca.valve.hold()
    const reply = askWithNonce(responder, ...serials)
    await gate.arrived
    await ca.revoke('serial', last, 'superseded')
    gate.release()
    expect(said(await reply, last)).toBe('superseded')
  })

  it('nor one that was being signed ahead or renewed', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const serial = await issued()
    const gate = ca.valve.hold()
    responder.presign(serial)
    await gate.arrived
    await ca.revoke('serial', serial, 'superseded')
    gate.release()
    await eventually('signed ahead', () => responder.stats().cached === 1)
    expect(said(ask(responder, serial) as OcspReply, serial)).toBe('superseded')
  })

  it('under load no answer is older than its question', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const names = Array.from({ length: 6 }, (_, i) => `loaded-${i}`)
    let changing = names.length
    let stated = 0
    const load = async (name: string) => {
      const { serial } = await ca.enrolAgent(name)
      // Every state there was, and how many of them are certain: the next may be durable before its promise resolves.
      const states = ['good']
      let certain = 1
      const change = async () => {
        for (let round = 0; round < 20; round++) {
          const state = round % 2 === 0 ? 'held' : 'active'
          states.push(state === 'held' ? 'certificateHold' : 'good')
          await ca.setState(name, state)
          certain = states.length
          if (state === 'active') responder.presign(serial)
          await new Promise(setImmediate)
        }
        changing -= 1
      }
      const keepAsking = async (hash: 'sha1' | 'sha256') => {
        while (changing > 0) {
          const since = certain - 1
          const word = said(await responder.respond(ca.requestFor(serial, hash)), serial)
          // `tryLater` is no statement: it changed faster than it could be signed.
          expect(['tryLater', ...states.slice(since)]).toContain(word)
          if (word !== 'tryLater') stated += 1
          await new Promise(setImmediate)
        }
      }
      await Promise.all([change(), keepAsking('sha1'), keepAsking('sha256')])
      await ca.revoke('agent', name, 'superseded')
      expect(said(await ask(responder, serial), serial)).toBe('superseded')
    }
    await Promise.all(names.map(load))
    expect(stated).toBeGreaterThan(names.length)
  })

  it('a status that never rests is not answered at all', async () => {
    const serial = await issued()
    let reads = 0
    const states = (_: number, serials: readonly string[]) =>
      serials.map(each => ({
        serial: each,
        notAfter: Date.now() + 1000,
        ...(reads++ % 2 === 0
          ? { state: 'issued' as const, revokedAt: null, reason: null }
          : { state: 'held' as const, revokedAt: 1_000, reason: 'certificateHold' }),
      }))
    expect(await saysNow(ca.createResponder({ status: { states } }), serial)).toBe('tryLater')
  })

  it('of thousands, the whole memory of the issuer goes instead of each serial', async () => {
    const responder = ca.createResponder()
    const serial = (await ca.recordMany('many', 2_100))[2_050] as string
    const bystander = await issued()
    expect(await saysNow(responder, serial)).toBe('good')
    expect(await saysNow(responder, bystander)).toBe('good')
    await ca.revoke('agent', 'many', 'cessationOfOperation')
    expect(responder.stats().cached).toBe(0)
    expect(await saysNow(responder, serial)).toBe('cessationOfOperation')
    expect(await saysNow(responder, bystander)).toBe('good')
  })

  it('everything is forgotten when the ledger cannot say what changed', async () => {
    let broken = false
    const { revocations } = ca.ledger
    const responder = ca.createResponder({
      revocations: {
        ...revocations,
        changedSince: (...args) => {
          if (broken) throw new StoreError('store_failed', 'no changes for a test')
          return revocations.changedSince(...args)
        },
      },
    })
    const serial = await issued()
    expect(await saysNow(responder, serial)).toBe('good')
    broken = true
    await ca.revoke('serial', serial, 'keyCompromise')
    expect(await saysNow(responder, serial)).toBe('keyCompromise')
  })

  it('the upkeep finds a change that it was not told of', async () => {
    const responder = ca.createResponder({ revocations: { ...ca.ledger.revocations, onChange: () => () => {} } })
    const serial = await issued()
    expect(await saysNow(responder, serial)).toBe('good')
    await ca.revoke('serial', serial, 'keyCompromise')
    await responder.maintain()
    expect(await saysNow(responder, serial)).toBe('keyCompromise')
  })
})

describe('nonces', () => {
  it('are signed under a budget of their own, several certIDs too', async () => {
    let seconds = 0
    const clock = { now: ca.clock.now, monotonic: () => seconds * 1000 }
    const responder = ca.createResponder({ clock, nonce: 'on', nonceBudget: 2 })
    const [a, b] = [await issued(), await issued()]
    const nonced = async (...serials: readonly string[]) => said(await askWithNonce(responder, ...serials), a)
    expect([await nonced(a), await nonced(a, b), await nonced(a), await nonced(a, b)]).toEqual([
      ...['good', 'good'],
      ...['tryLater', 'tryLater'],
    ])
    expect(await saysNow(responder, a)).toBe('good')
    seconds += 1
    expect(await nonced(a)).toBe('good')
  })
})

describe('replies', () => {
  it('are counted by what they said, and reported in one go', async () => {
    const reported: Record<string, number> = {}
    const count = (name: string, labels: Labels = {}, by = 1) => {
      reported[`${name} ${labels.answer}`] = (reported[`${name} ${labels.answer}`] ?? 0) + by
    }
    const responder = ca.createResponder({ metrics: { ...silentMetrics, count } })
    const serial = await issued()
    for (let i = 0; i < 3; i++) await ask(responder, serial)
    responder.respond(new Uint8Array(0))
    await responder.maintain()
    await ask(responder, serial)
    await responder.maintain()
    await responder.maintain()
    expect(reported).toEqual({
      'agentca_ocsp_answers_total good': 4,
      'agentca_ocsp_answers_total malformedRequest': 1,
    })
    expect(responder.stats().replies).toEqual({ good: 4, malformedRequest: 1 })
  })
})

describe('a closed responder', () => {
  it('has waited for what was being signed, and for whoever asked for it', async () => {
    const responder = ca.createResponder()
    await responder.start()
    const serial = await issued()
    const gate = ca.valve.hold()
    const reply = ask(responder, serial)
    await gate.arrived
    let closed = false
    const closing = responder.close().then(() => {
      closed = true
    })
    await new Promise(setImmediate)
    expect(closed).toBe(false)
    gate.release()
    await closing
    expect(said(await reply, serial)).toBe('good')
    expect(responder.stats().cached).toBe(0)
  })

  it('has forgotten everything and follows nothing', async () => {
    let listening = 0
    const { revocations } = ca.ledger
    const responder = ca.createResponder({
      revocations: {
        ...revocations,
        onChange: listener => {
          listening += 1
          const stop = revocations.onChange(listener)
          return () => {
            listening -= 1
            stop()
          }
        },
      },
    })
    expect(listening).toBe(1)
    await responder.start()
    await responder.close()
    expect(listening).toBe(0)
    expect(responder.stats().cached).toBe(0)
    expect(await saysNow(responder, freshSerial())).toBe('tryLater')
  })
})

describe('while nothing can be signed', () => {
  it('what is fresh is served until its nextUpdate and what is not is tryLater, never a guess', async () => {
    const responder = ca.createResponder({ lifetimeSeconds: 240, nonce: 'on' })
    const [cached, uncached] = [await issued(), await issued()]
    const reply = await ask(responder, cached)
    ca.valve.cut('off')
    ca.advance(130_000)
    expect(ask(responder, cached)).toBe(reply)
    await responder.maintain()
    expect(ask(responder, cached)).toBe(reply)
    expect(await askWithNonce(responder, cached), 'without the nonce').toBe(reply)
    expect(said(await askWithNonce(responder, cached, uncached), cached)).toBe('tryLater')
    expect(await saysNow(responder, uncached)).toBe('tryLater')
    ca.advance(110_000)
    expect(await saysNow(responder, cached)).toBe('tryLater')
    ca.present()
    ca.valve.cut('on')
    expect(await saysNow(responder, uncached)).toBe('good')
  })

  it('a revoked certificate is tryLater rather than its last good', async () => {
    const responder = ca.createResponder()
    const serial = await issued()
    expect(await saysNow(responder, serial)).toBe('good')
    ca.valve.cut('off')
    await ca.revoke('serial', serial, 'keyCompromise')
    expect(await saysNow(responder, serial)).toBe('tryLater')
    ca.valve.cut('on')
    expect(await saysNow(responder, serial)).toBe('keyCompromise')
  })

  it('because the clock was refused, nothing is signed and nothing renewed', async () => {
    let refused = false
    const responder = ca.createResponder({
      lifetimeSeconds: 240,
      checkClock: () => {
        if (refused) throw new CaError('clock_refused', 'the clock jumped')
      },
    })
    const [cached, uncached] = [await issued(), await issued()]
    const reply = await ask(responder, cached)
    refused = true
    ca.advance(130_000)
    const before = ca.valve.signed.length
    await responder.maintain()
    expect(ask(responder, cached)).toBe(reply)
    expect(await saysNow(responder, uncached)).toBe('tryLater')
    expect(ca.valve.signed.length).toBe(before)
    refused = false
    expect(await saysNow(responder, uncached)).toBe('good')
  })

  it('because the ledger is away, the same; and what it says without sense is internalError', async () => {
    let fault: 'none' | 'away' | 'senseless' = 'none'
    const responder = ca.createResponder({
      status: {
        states: (issuerId, serials) => {
          if (fault === 'away') throw new StoreError('store_failed', 'no states for a test')
          const rows = ca.ledger.status.states(issuerId, serials)
          return fault === 'none' ? rows : rows.map(row => row && { ...row, state: 'revoked', revokedAt: null })
        },
      },
    })
    const [cached, uncached] = [await issued(), await issued()]
    const reply = await ask(responder, cached)
    fault = 'away'
    expect(ask(responder, cached)).toBe(reply)
    expect(await saysNow(responder, uncached)).toBe('tryLater')
    fault = 'senseless'
    expect(await saysNow(responder, uncached)).toBe('internalError')
  })

  it('because the signer was killed, a restarted one is used again', async () => {
    const responder = ca.createResponder()
    const [cached, uncached] = [await issued(), await issued()]
    const reply = await ask(responder, cached)
    await ca.signer.supervisor.close()
    expect(ask(responder, cached)).toBe(reply)
    expect(await saysNow(responder, uncached)).toBe('tryLater')
    await using again = startSigner(ca.signer.config, { hangMs: 20_000 })
    await again.supervisor.ready(15_000)
    ca.useSigner(again.client)
    await eventually('connected', () => again.client.isConnected())
    expect(await saysNow(responder, uncached)).toBe('good')
    expect(ask(responder, cached)).toBe(reply)
    await ca.closeResponders()
  })
})
