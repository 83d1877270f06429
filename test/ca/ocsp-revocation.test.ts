// No answer is older than its question: what was cached, what was being signed and what was signed ahead, against every change.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { OcspResponder } from '../../src/ca/ocsp-responder.ts'
import type { OcspReply } from '../../src/ca/status-answers.ts'
import { StoreError } from '../../src/store/errors.ts'
import { eventually } from '../signer/harness.ts'
import { createOcspAuthority, type OcspAuthority } from './ocsp-authority.ts'

let ca: OcspAuthority
beforeAll(async () => {
  ca = await createOcspAuthority()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})
afterEach(() => ca.closeResponders())

const issued = () => ca.issued()
const ask = (responder: OcspResponder, serial: string) => responder.respond(ca.requestFor(serial))
const said = (reply: OcspReply, serial: string) => ca.said(reply, serial)
const saysNow = async (responder: OcspResponder, serial: string) => said(await ask(responder, serial), serial)

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

  it('the very bytes that were answered from memory before get the new answer', async () => {
    const responder = ca.createResponder()
    const { serial } = await ca.enrolAgent('repeated')
    const question = ca.requestFor(serial)
    await responder.respond(question)
    for (let again = 0; again < 3; again++)
      expect(said(responder.respond(question.slice()) as OcspReply, serial)).toBe('good')
    await ca.revoke('serial', serial, 'keyCompromise')
    expect(said(await responder.respond(question), serial)).toBe('keyCompromise')
    expect(said(responder.respond(question) as OcspReply, serial)).toBe('keyCompromise')
  })

  it('what the listener repeats by itself ends with the revocation, and at the latest after a second', async () => {
    const responder = ca.createResponder()
    const { serial } = await ca.enrolAgent('repeated-by-listener')
    const question = ca.requestFor(serial)
    await responder.respond(question)
    const reply = responder.respond(question) as OcspReply
    expect(responder.again(reply)).toBe(true)
    expect(responder.again({ ...reply })).toBe(false)
    expect(responder.stats().replies.good).toBe(3)
    ca.advance(1_000)
    expect(responder.again(reply)).toBe(false)
    expect(responder.respond(question)).toBe(reply)
    expect(responder.again(reply)).toBe(true)
    await ca.revoke('serial', serial, 'keyCompromise')
    expect(responder.again(reply)).toBe(false)
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
    const reply = responder.respond(ca.requestWithNonce(serials))
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
