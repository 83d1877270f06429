// Answers from memory: as fast as a look-up, never older than the ledger, and all there is while the HSM is away.
import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Labels, silentMetrics } from '../../src/base/metrics.ts'
import { CaError } from '../../src/ca/errors.ts'
import type { OcspResponder } from '../../src/ca/ocsp-responder.ts'
import type { OcspReply } from '../../src/ca/status-answers.ts'
import { encodeOcspRequest } from '../../src/pki/ocsp.ts'
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

const issued = (notAfter?: number) => ca.issued(notAfter)
const ask = (responder: OcspResponder, serial: string) => responder.respond(ca.requestFor(serial))
const said = (reply: OcspReply, serial: string) => ca.said(reply, serial)
const saysNow = async (responder: OcspResponder, serial: string) => said(await ask(responder, serial), serial)
const askWithNonce = (responder: OcspResponder, ...serials: readonly string[]) =>
  responder.respond(ca.requestWithNonce(serials))
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

  it('and without anything to sign the clock is not asked: being asked counts as a signing', async () => {
    let asked = 0
    const responder = ca.createResponder({ checkClock: () => void asked++ })
    const serial = await issued()
    expect(await saysNow(responder, serial)).toBe('good')
    // Makes what is missing: a responder certificate for each issuer.
    await responder.maintain()
    const before = asked
    for (let i = 0; i < 3; i++) await responder.maintain()
    expect(asked).toBe(before)
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
