// What the responder says, judged by OpenSSL and by our own reader: every state of a serial, every kind of question.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { responderCommonName } from '../../src/ca/ocsp-certificate.ts'
import type { OcspResponder } from '../../src/ca/ocsp-responder.ts'
import type { OcspReply } from '../../src/ca/status-answers.ts'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { encodeName } from '../../src/pki/names.ts'
import {
  type BasicOcspResponse,
  encodeCertId,
  encodeOcspRequest,
  parseOcspRequest,
  parseOcspResponse,
} from '../../src/pki/ocsp.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { createRequester, leaf } from './authority.ts'
import { createOcspAuthority, freshSerial, type OcspAuthority } from './ocsp-authority.ts'

let ca: OcspAuthority
let responder: OcspResponder
beforeAll(async () => {
  ca = await createOcspAuthority()
  responder = ca.createResponder()
  await responder.start()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const statusIn = async (serial: string, from = responder) =>
  ca.verified(await from.respond(ca.requestFor(serial)), serial).answer.status
const basic = (reply: OcspReply): BasicOcspResponse => {
  const response = parseOcspResponse(reply.der)
  if (response.status !== 'successful') throw new Error(`expected an answer, got ${response.status}`)
  return response
}
const errorIn = (reply: OcspReply): string => parseOcspResponse(reply.der).status

describe('OpenSSL', () => {
  /** Asks with openssl's request and lets openssl judge the reply. */
  const ask = async (
    serial: string,
    from: OcspResponder,
    hash: '-sha1' | '-sha256' = '-sha1',
    nonce: '-nonce' | '-no_nonce' = '-no_nonce',
  ): Promise<string> => {
    const about = ['-issuer', 'issuing.pem', hash, '-serial', `0x${serial}`]
    ca.openssl(['ocsp', ...about, nonce, '-reqout', 'request.der'], {
      'issuing.pem': ca.pem(ca.issuing.der),
      'root.pem': ca.pem(ca.root.der),
    })
    const { der } = await from.respond(new Uint8Array(readFileSync(join(ca.directory, 'request.der'))))
    return ca.openssl(
      [
        ...['ocsp', '-reqin', 'request.der', '-no_nonce', '-respin', 'response.der', ...about],
        ...['-CAfile', 'root.pem', '-verify_other', 'issuing.pem'],
      ],
      { 'response.der': der },
    )
  }

  it.each(['byKey', 'byName'] as const)('believes a responder named %s: good, revoked, unknown', async responderId => {
    const from = ca.createResponder({ responderId })
    await from.start()
    const { serial } = await ca.enrolAgent(`judged-${responderId.toLowerCase()}`)
    for (const hash of ['-sha1', '-sha256'] as const) expect(await ask(serial, from, hash)).toContain(': good\n')
    const at = Math.floor(Date.now() / 1000) * 1000
    await ca.revoke('serial', serial, 'keyCompromise', at)
    const time = new Date(at).toUTCString().replace(/^\w+, (\d+) (\w+) (\d+) (.*) GMT$/, '$2 $1 $4 $3 GMT')
    for (const hash of ['-sha1', '-sha256'] as const) {
      const said = await ask(serial, from, hash)
      expect(said).toMatch(/: revoked\n[\s\S]*Reason: keyCompromise\n/)
      expect(said.replaceAll(/ +/g, ' ')).toContain(`Revocation Time: ${time}`)
    }
    expect(await ask(freshSerial(), from)).toContain(': unknown\n')
    expect('byName' in basic(await from.respond(ca.requestFor(serial))).responderId).toBe(responderId === 'byName')
  })

  it('finds its nonce in the answer when nonces are on, and is answered without when they are off', async () => {
    const { serial } = await ca.enrolAgent('nonces')
    const withNonce = ca.createResponder({ nonce: 'on' })
    await withNonce.start()
    expect(await ask(serial, withNonce, '-sha1', '-nonce')).toContain(': good\n')
    expect(await ask(serial, responder, '-sha1', '-nonce')).toContain(': good\n')
  })
})

describe('the answer to', () => {
  it('a certificate that was issued is good, also when it has expired since (its last state stays)', async () => {
    const live = await ca.recordIntent()
    const expired = await ca.recordIntent({ notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 3_600_000 })
    for (const intent of [live, expired]) {
      await ca.recordIssued(intent)
      expect(await statusIn(intent.serial)).toBe('good')
    }
  })

  it('a revoked one is its time and reason, and stays so after its end', async () => {
    const end = Date.now() + 60_000
    const intent = await ca.recordIntent({ notAfter: end })
    await ca.recordIssued(intent)
    const at = Math.floor(Date.now() / 1000) * 1000
    await ca.revoke('serial', intent.serial, 'affiliationChanged', at)
    const expected = { revokedAt: at, reason: 'affiliationChanged' }
    expect(await statusIn(intent.serial)).toEqual(expected)
    ca.advance(120_000)
    const later = ca.createResponder()
    expect(await statusIn(intent.serial, later)).toEqual(expected)
    ca.present()
  })

  it('a held one is certificateHold, and good again after the release', async () => {
    const { serial } = await ca.enrolAgent('on-hold')
    expect(await statusIn(serial)).toBe('good')
    await ca.setState('on-hold', 'held')
    expect(await statusIn(serial)).toMatchObject({ reason: 'certificateHold' })
    await ca.setState('on-hold', 'active')
    expect(await statusIn(serial)).toBe('good')
  })

  it('a superseded one is revoked as superseded', async () => {
    const { serial } = await ca.enrolAgent('supersedes')
    const lost = (await ca.renew(serial, await createRequester())).record.serial
    const kept = (await ca.renew(serial, await createRequester())).record.serial
    expect(await statusIn(lost)).toMatchObject({ reason: 'superseded' })
    expect(await statusIn(kept)).toBe('good')
    expect(await statusIn(serial)).toBe('good')
  })

  it('an intent is unknown; orphaned by the sweep it is revoked', async () => {
    const { serial } = await ca.recordIntent()
    expect(await statusIn(serial)).toBe('unknown')
    await ca.sweepAll()
    expect(await statusIn(serial)).toMatchObject({ reason: 'unspecified' })
  })

  it('a void one and one that was never issued are unknown', async () => {
    const { serial } = await ca.recordIntent()
    await ca.ledger.issuance.recordVoid([{ serial, leaf: leaf('certificate_void') }])
    expect(await statusIn(serial)).toBe('unknown')
    expect(await statusIn(freshSerial())).toBe('unknown')
    expect(await statusIn('00'), 'the smallest serial').toBe('unknown')
  })

  it('an intent becomes good with its issuance, without waiting for the cached unknown', async () => {
    const intent = await ca.recordIntent()
    expect(await statusIn(intent.serial)).toBe('unknown')
    await ca.recordIssued(intent)
    responder.presign(intent.serial)
    expect(await statusIn(intent.serial)).toBe('good')
  })

  it('a serial under another issuer of ours is unknown there and good where it belongs', async () => {
    const intent = await ca.recordIntent({ issuerId: ca.retired.id })
    await ca.recordIssued(intent)
    const { serial } = intent
    expect(await statusIn(serial)).toBe('unknown')
    const reply = await responder.respond(ca.requestFor(serial, 'sha1', ca.retired))
    expect(ca.verified(reply, serial, ca.retired).answer.status).toBe('good')
  })
})

describe('a question', () => {
  it('about several certificates is answered in its order, each with its own state', async () => {
    const [good, revoked] = [await ca.enrolAgent('several-good'), await ca.enrolAgent('several-revoked')]
    await ca.revoke('agent', 'several-revoked')
    const serials = [good.serial, revoked.serial, freshSerial()]
    const certIds = serials.map((serial, i) => ca.certIdOf(serial, i === 1 ? 'sha256' : 'sha1'))
    const reply = await responder.respond(encodeOcspRequest({ certIds }))
    expect(basic(reply).responses.map(({ certId }) => certId.der)).toEqual(certIds)
    const said = serials.map(serial => ca.verified(reply, serial).answer.status)
    expect(said).toEqual(['good', expect.objectContaining({ reason: 'keyCompromise' }), 'unknown'])
    expect(reply.validity).toBeNull()
  })

  it.each(['sha1', 'sha256'] as const)(
    'with %s gets its own certID back, byte for byte (RFC 6960 §4.2.1)',
    async hash => {
      const serial = freshSerial()
      const reply = await responder.respond(ca.requestFor(serial, hash))
      expect(basic(reply).responses.map(({ certId }) => certId.der)).toEqual([ca.certIdOf(serial, hash)])
    },
  )

  it('about an issuer that is not ours is unauthorized, also beside one of ours (RFC 6960 §2.3)', async () => {
    const foreign = encodeCertId({
      hash: 'sha1',
      issuerNameDer: encodeName([['CN', 'somebody else']]),
      issuerKeyBits: new Uint8Array(65),
      serial: Uint8Array.of(1),
    })
    const ours = ca.certIdOf(freshSerial())
    for (const certIds of [[foreign], [ours, foreign], [foreign, ours]])
      expect(errorIn(await responder.respond(encodeOcspRequest({ certIds })))).toBe('unauthorized')
  })

  it('about our root is unauthorized: its key is not online, its CRL comes from a ceremony', async () => {
    const certId = encodeCertId({
      hash: 'sha1',
      issuerNameDer: ca.root.subjectDer,
      issuerKeyBits: ca.root.spki.keyBytes,
      serial: ca.issuing.serial,
    })
    expect(errorIn(await responder.respond(encodeOcspRequest({ certIds: [certId] })))).toBe('unauthorized')
  })

  it('that mixes two of our issuers is unauthorized: no one delegate may speak for both', async () => {
    const certIds = [ca.certIdOf(freshSerial()), ca.certIdOf(freshSerial(), 'sha1', ca.retired)]
    expect(errorIn(await responder.respond(encodeOcspRequest({ certIds })))).toBe('unauthorized')
  })

  it('under an issuer that has ended is unauthorized: nobody could check the answer', async () => {
    const request = ca.requestFor(freshSerial())
    ca.advance(366 * 86_400_000)
    const reply = await ca.createResponder().respond(request)
    ca.present()
    expect(errorIn(reply)).toBe('unauthorized')
  })

  it('that cannot be read is malformedRequest, answered at once', () => {
    const good = ca.requestFor(freshSerial())
    const bad = [new Uint8Array(0), Uint8Array.of(0x30, 0x80), good.subarray(0, -1), new Uint8Array(4096)]
    for (const bytes of bad) expect(errorIn(responder.respond(bytes) as OcspReply)).toBe('malformedRequest')
  })

  it('with a nonce is answered without one when nonces are off, and from memory', async () => {
    const { serial } = await ca.enrolAgent('nonce-off')
    const first = await responder.respond(ca.requestFor(serial))
    const nonce = new Uint8Array(16).fill(1)
    const again = responder.respond(encodeOcspRequest({ certIds: [ca.certIdOf(serial)], nonce }))
    expect(again).toBe(first)
    expect(basic(first).nonce).toBeNull()
  })

  it('with a nonce is signed anew each time when they are on, and not to be cached', async () => {
    const from = ca.createResponder({ nonce: 'on' })
    const { serial } = await ca.enrolAgent('nonce-on')
    for (const fill of [1, 2]) {
      const nonce = new Uint8Array(32).fill(fill)
      const request = encodeOcspRequest({ certIds: [ca.certIdOf(serial)], nonce })
      expect(parseOcspRequest(request).nonce).toEqual(nonce)
      const reply = await from.respond(request)
      expect(ca.verified(reply, serial, ca.active, nonce).answer.status).toBe('good')
      expect(reply.validity).toBeNull()
    }
  })
})

describe('the responder certificate', () => {
  it('is a delegate of its issuer with OCSPSigning alone and no-check (RFC 6960 §4.2.2.2)', async () => {
    for (const issuer of [ca.active, ca.retired]) {
      const serial = freshSerial()
      const reply = await responder.respond(ca.requestFor(serial, 'sha1', issuer))
      const { responder: signer } = ca.verified(reply, serial, issuer)
      expect(signer).toMatchObject({ kind: 'delegate', revocation: 'no-check' })
      const certificate = parseCertificate(basic(reply).certificates[0] as Uint8Array)
      expect(certificate.extendedKeyUsage).toEqual([oidOf.ocspSigning])
      expect(certificate.keyUsage).toEqual(['digitalSignature'])
      expect(certificate.basicConstraints).toMatchObject({ isCa: false })
      expect(certificate.subjectAltName).toBeNull()
      expect(certificate.subjectDer).toEqual(encodeName([['CN', responderCommonName]]))
      expect(certificate.issuerDer).toEqual(issuer.subjectDer)
    }
  })

  it('is in the audit log before anything goes out under it', async () => {
    const leaves = ca.ledger.audit.tail({ event: 'ocsp_responder_renewed', limit: 100 })
    const inUse = responder.stats().responders.map(({ certificate }) => certificate?.serial)
    expect(inUse).toHaveLength(2)
    for (const serial of inUse)
      expect(leaves.some(({ bytes }) => new TextDecoder().decode(bytes).includes(`"serial":"${serial}"`))).toBe(true)
  })

  it('limits nextUpdate, which never lies behind its end', async () => {
    const from = ca.createResponder({ responderLifetimeSeconds: 600 })
    const { serial } = await ca.enrolAgent('clamped')
    const reply = await from.respond(ca.requestFor(serial))
    const { notAfter } = parseCertificate(basic(reply).certificates[0] as Uint8Array)
    expect(basic(reply).responses[0]?.nextUpdate).toBe(notAfter)
    expect(reply.validity?.nextUpdate).toBe(notAfter)
  })
})
