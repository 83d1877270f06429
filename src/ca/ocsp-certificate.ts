// The delegated OCSP responder's certificates (RFC 6960 §4.2.2.2): one per issuing CA, all over the same key, made and renewed
// without an operator. They are kept outside, so that a start with a dead HSM has them. Answers are ocsp-answer.ts.
import { createHash } from 'node:crypto'
import { ocspResponderRenewed } from '../audit/events.ts'
import { equalBytes, toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { assembleCertificate, type Certificate, parseCertificate } from '../pki/certificate.ts'
import { createLeafTemplate } from '../pki/leaf-template.ts'
import { oidOf } from '../pki/oid.ts'
import { encodeSerial } from '../pki/serial.ts'
import { checkSignature, verifySignature } from '../pki/signature.ts'
import type { SubjectPublicKeyInfo } from '../pki/spki.ts'
import type { SignerPort } from '../signer/port.ts'
import type { AuditPort } from '../store/ports.ts'
import { CaError } from './errors.ts'
import type { OnlineIssuer } from './issuers.ts'

/** Where the certificates are kept between starts, by the issuer's name. Losing them costs a signature of the issuing CA each. */
export interface ResponderCertificates {
  load(issuer: string): Uint8Array | null
  save(issuer: string, der: Uint8Array): void
}

export interface ResponderKey {
  /** Label of the key in the signer. */
  readonly label: string
  readonly spki: SubjectPublicKeyInfo
}

export interface ResponderCertificateDeps {
  readonly clock: Clock
  readonly log: Log
  readonly signer: Pick<SignerPort, 'sign' | 'isConnected'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly responderKey: ResponderKey
  readonly certificates: ResponderCertificates
  /** @throws CaError `clock_refused` */
  readonly checkClock: (now: number) => void
  readonly randomBytes: (length: number) => Uint8Array
  readonly serialPrefix: number
  readonly responderLifetimeSeconds: number
  readonly signDeadlineMs: number
}

export interface ResponderCertificateView {
  /** What answers go out with; null: there is none that is valid now. */
  current(issuer: OnlineIssuer): Certificate | null
  /** The same, made if there is none. @throws CaError `signer_unavailable`, `clock_refused`; SignerError, StoreError */
  ensure(issuer: OnlineIssuer): Promise<Certificate>
  /** Makes what is missing and renews what has a third of its life left. Never rejects: what failed is tried again later. */
  renew(issuers: readonly OnlineIssuer[]): Promise<void>
}

/**
 * The same for every issuer: the signer, which keeps one name a key, accepts a responder id by name only under the subject it
 * signed last. Leaves never have it: their common names begin with their kind.
 */
export const responderCommonName = 'ocsp-responder'

const backdateMs = 60_000
/** Between two attempts for one issuer, so that a refusal does not become a loop. */
const retryMs = 5_000

/** Why a kept certificate is of no use here; null: none. */
const faultOf = (
  certificate: Certificate,
  issuer: OnlineIssuer,
  key: SubjectPublicKeyInfo,
): 'another key' | 'another issuer' | 'not a responder' | null => {
  if (!equalBytes(certificate.spkiDer, key.der)) return 'another key'
  if (
    !equalBytes(certificate.issuerDer, issuer.subjectDer) ||
    !verifySignature(issuer.spki, issuer.signatureAlgorithm, certificate.tbs, certificate.signature)
  )
    return 'another issuer'
  const usages = certificate.extendedKeyUsage
  return usages?.length === 1 && usages[0] === oidOf.ocspSigning && certificate.hasOcspNoCheck
    ? null
    : 'not a responder'
}

/** @throws PkiError not_encodable */
const encodeResponderTbs = (deps: ResponderCertificateDeps, issuer: OnlineIssuer, now: number): Uint8Array => {
  const second = Math.floor(now / 1000) * 1000
  return createLeafTemplate({
    issuerDer: issuer.subjectDer,
    signatureAlgorithm: issuer.signatureAlgorithm,
    authorityKeyId: issuer.keyIdentifier,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: [oidOf.ocspSigning],
    ocspNoCheck: 'present',
  }).encode({
    serial: encodeSerial({ prefix: deps.serialPrefix, nowMs: now, random10: deps.randomBytes(10) }),
    notBefore: second - backdateMs,
    notAfter: Math.min(second + deps.responderLifetimeSeconds * 1000, issuer.certificate.notAfter),
    subjectCn: responderCommonName,
    spkiDer: deps.responderKey.spki.der,
  })
}

export const createResponderCertificates = (deps: ResponderCertificateDeps): ResponderCertificateView => {
  const { clock, log, signer } = deps
  // Owned by this closure, by issuer id. A missing entry in `held` was not looked for yet; null was not found.
  const held = new Map<number, Certificate | null>()
  const making = new Map<number, Promise<Certificate>>()
  const failedAt = new Map<number, number>()

  const load = (issuer: OnlineIssuer): Certificate | null => {
    try {
      const der = deps.certificates.load(issuer.name)
      if (der === null) return null
      const certificate = parseCertificate(der)
      const fault = faultOf(certificate, issuer, deps.responderKey.spki)
      if (fault === null) return certificate
      log.warn({ issuer: issuer.name, fault }, 'the kept OCSP responder certificate does not fit, making another')
    } catch (error) {
      log.warn(
        { issuer: issuer.name, err: error },
        'the kept OCSP responder certificate cannot be read, making another',
      )
    }
    return null
  }

  const current = (issuer: OnlineIssuer): Certificate | null => {
    let certificate = held.get(issuer.id)
    if (certificate === undefined) {
      certificate = load(issuer)
      held.set(issuer.id, certificate)
    }
    const now = clock.now()
    return certificate !== null && now >= certificate.notBefore && now < certificate.notAfter ? certificate : null
  }

  const make = async (issuer: OnlineIssuer): Promise<Certificate> => {
    const now = clock.now()
    deps.checkClock(now)
    const tbs = encodeResponderTbs(deps, issuer, now)
    const signature = await signer.sign({
      purpose: 'ocsp-responder',
      key: issuer.keyLabel,
      tbs,
      priority: 'status',
      deadlineMs: deps.signDeadlineMs,
    })
    checkSignature(issuer.spki, issuer.signatureAlgorithm, tbs, signature)
    const der = assembleCertificate(tbs, issuer.signatureAlgorithm, signature)
    const certificate = parseCertificate(der)
    const sha256 = toHex(createHash('sha256').update(der).digest())
    const { serialHex: serial, notAfter } = certificate
    // Nothing goes out under a certificate that the log does not know.
    await deps.audit.append([
      ocspResponderRenewed({ at: now, who: 'system' }, { issuer: issuer.name, serial, sha256, notAfter }),
    ])
    held.set(issuer.id, certificate)
    try {
      deps.certificates.save(issuer.name, der)
    } catch (error) {
      log.warn({ issuer: issuer.name, err: error }, 'the OCSP responder certificate could not be kept')
    }
    log.info({ issuer: issuer.name, serial, notAfter }, 'new OCSP responder certificate')
    return certificate
  }

  /** One attempt at a time and issuer, whoever asks. */
  const makeOnce = (issuer: OnlineIssuer): Promise<Certificate> => {
    const running = making.get(issuer.id)
    if (running !== undefined) return running
    const failed = failedAt.get(issuer.id)
    if (!signer.isConnected() || (failed !== undefined && clock.monotonic() - failed < retryMs))
      return Promise.reject(
        new CaError('signer_unavailable', 'there is no OCSP responder certificate, and none can be made now', {
          hint: 'agentca hsm status',
        }),
      )
    const made = make(issuer)
      .then(
        certificate => {
          failedAt.delete(issuer.id)
          return certificate
        },
        (error: unknown) => {
          failedAt.set(issuer.id, clock.monotonic())
          log.warn({ issuer: issuer.name, reason: messageOf(error) }, 'no OCSP responder certificate could be made')
          throw error
        },
      )
      .finally(() => making.delete(issuer.id))
    making.set(issuer.id, made)
    return made
  }

  /** One that ends with its issuer has nothing to gain. */
  const isDue = (certificate: Certificate, issuer: OnlineIssuer): boolean =>
    certificate.notAfter < issuer.certificate.notAfter &&
    clock.now() >= certificate.notAfter - (certificate.notAfter - certificate.notBefore) / 3

  return {
    current,
    ensure: async issuer => current(issuer) ?? makeOnce(issuer),
    renew: async issuers => {
      const due = issuers.filter(issuer => {
        const certificate = current(issuer)
        return certificate === null || isDue(certificate, issuer)
      })
      await Promise.allSettled(due.map(makeOnce))
    },
  }
}
