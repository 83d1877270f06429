// One signed OCSP answer (RFC 6960 §4.2): what the ledger says of each serial, signed by the issuer's delegate, and compared with the
// ledger once more before it is let go. Caching, budgets and the choice of the issuer are ocsp-responder.ts.
import type { Clock } from '../base/clock.ts'
import { signatureAlgorithmFor } from '../pki/algorithms.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { RevocationReason } from '../pki/crl-reasons.ts'
import { assembleBasicOcspResponse, type CertStatus, encodeTbsResponseData, type ResponderId } from '../pki/ocsp.ts'
import { keyIdentifier } from '../pki/spki.ts'
import type { SignerPort, SignPriority } from '../signer/port.ts'
import type { StatusPort } from '../store/ports.ts'
import { CaError } from './errors.ts'
import type { OnlineIssuer } from './issuers.ts'
import type { AskedCertificate } from './ocsp-cache.ts'
import type { ResponderCertificateView, ResponderKey } from './ocsp-certificate.ts'
import { certificateStatus } from './state-table.ts'

export interface OcspAnswerDeps {
  readonly clock: Clock
  readonly status: Pick<StatusPort, 'states'>
  readonly signer: Pick<SignerPort, 'sign' | 'isConnected'>
  readonly responderKey: ResponderKey
  /** How answers name their signer (RFC 6960 §4.2.2.3). */
  readonly responderId: 'byKey' | 'byName'
  /** @throws CaError `clock_refused` */
  readonly checkClock: (now: number) => void
  readonly lifetimeSeconds: number
  readonly signDeadlineMs: number
}

export interface AnswerRequest {
  readonly issuer: OnlineIssuer
  readonly asked: readonly AskedCertificate[]
  readonly nonce: Uint8Array | null
  readonly priority: SignPriority
}

/** What is said of one certificate. */
export interface AnsweredStatus {
  readonly status: CertStatus
  readonly nextUpdate: number
  /** The certificate's end; null where none was recorded. */
  readonly notAfter: number | null
}

export interface SignedAnswer {
  readonly der: Uint8Array
  readonly thisUpdate: number
  /** In the order of the question. */
  readonly answers: readonly AnsweredStatus[]
}

export interface OcspAnswerer {
  /** Whether one of them was never issued, as far as the ledger knows now. */
  anyUnknown(issuer: OnlineIssuer, asked: readonly AskedCertificate[]): boolean
  /**
   * True when the promise resolves: what changed while the HSM was signing is signed again.
   * @throws CaError `signer_unavailable`, `clock_refused`, `conflict` (it changes faster than it can be signed), `internal`;
   * SignerError, StoreError
   */
  sign(request: AnswerRequest): Promise<SignedAnswer>
}

/**
 * What is unknown now may be issued in the next moment: it is not to be believed as long as the rest. Above the time for which the
 * responder repeats it, so that it never goes out stale.
 */
const unknownLifetimeMs = 60_000
const maxAttempts = 4

type StateRow = ReturnType<StatusPort['states']>[number]

/** @throws CaError `internal` when the ledger has a revocation without its time */
const statusOf = (row: StateRow): CertStatus => {
  const word = row === null ? 'unknown' : certificateStatus[row.state].ocsp
  if (row === null || word !== 'revoked') return word as 'good' | 'unknown'
  if (row.revokedAt === null) throw new CaError('internal', `certificate ${row.serial} is ${row.state} without a time`)
  const reason = row.reason as RevocationReason | null
  return { revokedAt: row.revokedAt, ...(reason === null ? {} : { reason }) }
}

const sameState = (a: StateRow, b: StateRow): boolean =>
  a === null || b === null ? a === b : a.state === b.state && a.revokedAt === b.revokedAt && a.reason === b.reason

export const createOcspAnswerer = (deps: OcspAnswerDeps, certificates: ResponderCertificateView): OcspAnswerer => {
  const { clock, responderKey } = deps
  const algorithm = signatureAlgorithmFor(responderKey.spki.algorithm)
  const keyHash = keyIdentifier(responderKey.spki)

  const read = (issuer: OnlineIssuer, asked: readonly AskedCertificate[]): readonly StateRow[] =>
    deps.status.states(
      issuer.id,
      asked.map(each => each.serial),
    )

  const idOf = (delegate: Certificate): ResponderId =>
    deps.responderId === 'byKey' ? { byKey: keyHash } : { byName: delegate.subjectDer }

  /** RFC 6960 §4.2.2.1; nobody could check an answer after its signer's certificate has ended. */
  const answersOf = (rows: readonly StateRow[], thisUpdate: number, delegate: Certificate): AnsweredStatus[] =>
    rows.map(row => {
      const status = statusOf(row)
      const lifetimeMs = deps.lifetimeSeconds * 1000
      const wanted = thisUpdate + (status === 'unknown' ? Math.min(unknownLifetimeMs, lifetimeMs) : lifetimeMs)
      return { status, nextUpdate: Math.min(wanted, delegate.notAfter), notAfter: row?.notAfter ?? null }
    })

  const signOnce = async (
    request: AnswerRequest,
    rows: readonly StateRow[],
    delegate: Certificate,
  ): Promise<SignedAnswer> => {
    const now = clock.now()
    deps.checkClock(now)
    const thisUpdate = Math.floor(now / 1000) * 1000
    const answers = answersOf(rows, thisUpdate, delegate)
    const tbs = encodeTbsResponseData({
      responderId: idOf(delegate),
      producedAt: thisUpdate,
      responses: answers.map(({ status, nextUpdate }, i) => ({
        certIdDer: (request.asked[i] as AskedCertificate).certIdDer,
        status,
        thisUpdate,
        nextUpdate,
      })),
      ...(request.nonce === null ? {} : { nonce: request.nonce }),
    })
    // The signer verified it before it let it go (SignerPort).
    const signature = await deps.signer.sign({
      purpose: 'ocsp-response',
      key: responderKey.label,
      tbs,
      priority: request.priority,
      deadlineMs: deps.signDeadlineMs,
    })
    return { der: assembleBasicOcspResponse(tbs, algorithm, signature, [delegate.der]), thisUpdate, answers }
  }

  return {
    anyUnknown: (issuer, asked) => read(issuer, asked).some(row => statusOf(row) === 'unknown'),
    sign: async request => {
      const { issuer, asked } = request
      // Known to be down: the asker is told at once instead of after a wait for a connection.
      if (!deps.signer.isConnected())
        throw new CaError('signer_unavailable', 'the signer is not running', { hint: 'agentca hsm status' })
      const delegate = await certificates.ensure(issuer)
      let rows = read(issuer, asked)
      for (let attempt = 0; attempt < maxAttempts; attempt++) {
        const signed = await signOnce(request, rows, delegate)
        // Revoked, held, released or issued while the HSM was signing: the caller of that change may have been answered already,
        // so this one must not get out. From here to the cache and the answer no other event runs.
        const after = read(issuer, asked)
        if (after.every((row, i) => sameState(row, rows[i] ?? null))) return signed
        rows = after
      }
      throw new CaError('conflict', 'the status changes faster than it can be signed')
    },
  }
}
