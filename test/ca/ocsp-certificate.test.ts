// The responder's certificates over time: kept between starts, renewed by themselves, never used unrecorded.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { CaError } from '../../src/ca/errors.ts'
import type { OcspResponder, OcspResponderDeps } from '../../src/ca/ocsp-responder.ts'
import { type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { parseOcspResponse } from '../../src/pki/ocsp.ts'
import { parseSubjectPublicKeyInfo } from '../../src/pki/spki.ts'
import { SignerError } from '../../src/signer/errors.ts'
import { createCertificateDrawer, createOcspAuthority, freshSerial, type OcspAuthority } from './ocsp-authority.ts'

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

const certificatesSigned = () => ca.valve.signed.filter(({ purpose }) => purpose === 'ocsp-responder').length
const keptIn = (drawer: ReturnType<typeof createCertificateDrawer>, issuer = 'issuing-1'): Certificate =>
  parseCertificate(drawer.kept.get(issuer) as Uint8Array)
const inUse = (responder: OcspResponder) =>
  responder.stats().responders.find(({ issuer }) => issuer === 'issuing-1')?.certificate ?? null
const statusOf = async (responder: OcspResponder) =>
  parseOcspResponse((await responder.respond(ca.requestFor(freshSerial()))).der).status

const started = async (changes: Partial<OcspResponderDeps> = {}) => {
  const responder = ca.createResponder(changes)
  await responder.start()
  return responder
}

describe('responder certificates', () => {
  it('are kept: another start makes none, and knows them without the HSM', async () => {
    const certificates = createCertificateDrawer()
    await started({ certificates })
    const before = certificatesSigned()
    ca.valve.cut('off')
    const again = await started({ certificates })
    expect(inUse(again)?.serial).toBe(keptIn(certificates).serialHex)
    ca.valve.cut('on')
    expect(await statusOf(again)).toBe('successful')
    expect(certificatesSigned()).toBe(before)
  })

  it('are made as soon as the HSM is there, when it was not at the start', async () => {
    ca.valve.cut('off')
    const responder = await started()
    expect(inUse(responder)).toBeNull()
    expect(await statusOf(responder)).toBe('tryLater')
    ca.valve.cut('on')
    await responder.maintain()
    expect(inUse(responder)).not.toBeNull()
    expect(await statusOf(responder)).toBe('successful')
  })

  it('are renewed when a third of their life is left, and kept again', async () => {
    const certificates = createCertificateDrawer()
    const responder = await started({ certificates, responderLifetimeSeconds: 300 })
    const first = keptIn(certificates)
    await responder.maintain()
    expect(inUse(responder)?.serial).toBe(first.serialHex)
    // 300 s and the minute it is backdated: due at 180 s.
    ca.advance(190_000)
    await responder.maintain()
    const second = keptIn(certificates)
    expect(second.serialHex).not.toBe(first.serialHex)
    expect(second.notAfter).toBeGreaterThan(first.notAfter)
    expect(inUse(responder)).toEqual({ serial: second.serialHex, notAfter: second.notAfter })
  })

  it('that cannot be renewed are used to their end, with answers that end with them', async () => {
    let refusing = false
    const { signer } = ca.valve
    const refusesCertificates: typeof signer = {
      isConnected: signer.isConnected,
      sign: request =>
        refusing && request.purpose === 'ocsp-responder'
          ? Promise.reject(new SignerError('signer_refused', 'not for a test', { hsmCalled: 'no' }))
          : signer.sign(request),
    }
    const responder = await started({ signer: refusesCertificates, responderLifetimeSeconds: 240 })
    const notAfter = inUse(responder)?.notAfter as number
    refusing = true
    ca.advance(200_000)
    await responder.maintain()
    const serial = freshSerial()
    const reply = await responder.respond(ca.requestFor(serial))
    expect(ca.verified(reply, serial).answer.nextUpdate).toBe(notAfter)
    ca.advance(notAfter - ca.clock.now())
    expect(inUse(responder)).toBeNull()
    expect(await statusOf(responder)).toBe('tryLater')
  })

  it('that end with their issuer are not renewed: there is nothing to gain', async () => {
    const end = Math.floor(Date.now() / 1000) * 1000 + 300_000
    const ending = { ...ca.active, certificate: { notAfter: end } as Certificate }
    const views: ReturnType<typeof ca.issuers.all> = []
    const responder = await started({
      issuers: { all: () => views, online: () => [ending] },
      responderLifetimeSeconds: 3600,
    })
    expect(inUse(responder)?.notAfter).toBe(end)
    const before = certificatesSigned()
    ca.advance(250_000)
    await responder.maintain()
    expect(certificatesSigned()).toBe(before)
  })

  it.each([
    ['rubbish', () => Uint8Array.of(1, 2, 3)],
    ['the certificate of an issuing CA', () => ca.issuing.der],
    ['the one of another issuer', (other: Uint8Array) => other],
  ])('are made anew where %s was kept', async (_, kept) => {
    const certificates = createCertificateDrawer()
    await started({ certificates })
    const bytes = kept(certificates.kept.get('issuing-0') as Uint8Array)
    certificates.kept.set('issuing-1', bytes)
    const responder = await started({ certificates })
    expect(certificates.kept.get('issuing-1')).not.toEqual(bytes)
    expect(inUse(responder)?.serial).toBe(keptIn(certificates).serialHex)
    expect(await statusOf(responder)).toBe('successful')
  })

  it('are not made for a key that the signer does not know as the responder’s', async () => {
    const label = 'ocsp-1'
    const responder = await started({ responderKey: { label, spki: parseSubjectPublicKeyInfo(ca.issuing.spkiDer) } })
    expect(inUse(responder)).toBeNull()
    expect(await statusOf(responder)).toBe('tryLater')
  })

  it('are not used when the log could not be written, and tried again after five seconds', async () => {
    let attempts = 0
    let broken = true
    let seconds = 0
    const clock = { now: ca.clock.now, monotonic: () => seconds * 1000 }
    const { audit } = ca.ledger
    const append: typeof audit.append = leaves => {
      attempts += 1
      return broken ? Promise.reject(new CaError('internal', 'no log for a test')) : audit.append(leaves)
    }
    const responder = ca.createResponder({ clock, audit: { append } })
    await responder.maintain()
    const issuers = attempts
    expect(issuers).toBe(2)
    expect(inUse(responder)).toBeNull()
    broken = false
    await responder.maintain()
    expect(attempts).toBe(issuers)
    seconds += 5
    await responder.maintain()
    expect(inUse(responder)).not.toBeNull()
  })

  it('are used from memory when they cannot be kept', async () => {
    const responder = await started({
      certificates: {
        load: () => {
          throw new Error('no drawer for a test')
        },
        save: () => {
          throw new Error('no drawer for a test')
        },
      },
    })
    expect(await statusOf(responder)).toBe('successful')
  })

  it('are asked for once, however many questions wait for one', async () => {
    const before = certificatesSigned()
    const responder = ca.createResponder()
    const statuses = await Promise.all(Array.from({ length: 20 }, () => statusOf(responder)))
    expect(new Set(statuses)).toEqual(new Set(['successful']))
    expect(certificatesSigned() - before).toBe(1)
  })

  it('follow the issuers: one that appears later gets its own', async () => {
    const all = ca.issuers.online()
    const [first] = all
    let online = [first!]
    let views: readonly unknown[] = []
    const issuers = { online: () => online, all: () => views as ReturnType<typeof ca.issuers.all> }
    const responder = await started({ issuers })
    expect(responder.stats().responders).toHaveLength(1)
    online = [...all]
    views = []
    await responder.maintain()
    const names = responder.stats().responders.map(({ issuer, certificate }) => certificate && issuer)
    expect(names.toSorted()).toEqual(['issuing-0', 'issuing-1'])
  })
})
