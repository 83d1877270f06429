// Certificates: issuing for a request that an operator vouches for, listing, one with everything about it, and revocation.
import { isAgentCaError } from '../../base/errors.ts'
import { CaError } from '../../ca/errors.ts'
import type { IssuancePreview } from '../../ca/issue-preview.ts'
import { previewInstanceId } from '../../ca/issue-preview.ts'
import { refuseOwnService } from '../../ca/own-service.ts'
import { signatureAlgorithmFor } from '../../pki/algorithms.ts'
import { assembleCertificate } from '../../pki/certificate.ts'
import { encodePem } from '../../pki/pem.ts'
import { parseSerialHex } from '../../pki/serial.ts'
import type { CertificateDetail, CertificateStateName, IdentityAnswer } from '../../schema/admin-answers.ts'
import type { BlastRadius, CertificateFilter } from '../../store/ports.ts'
import type { CertificateWithBytes } from '../../store/records.ts'
import { hasLeaf } from '../agent-issuance.ts'
import { markRecorded } from '../answer-error.ts'
import { parseCsrText } from '../csr-text.ts'
import { identityAnswer } from '../identity-answer.ts'
import { certificateAnswer, radiusAnswer, time } from './answers.ts'
import { checkRank, checkRole } from './authorize.ts'
import type { AdminDeps } from './deps.ts'
import type { AdminCall, Handlers } from './handler.ts'
import { filled, namedRegistration, registrationsById, soughtRegistration } from './query.ts'
import { checkTokenRank } from './tokens.ts'

/** The identity as it would be: no serial, no certificate, because none was made. */
const logIdentityOf = ({ about, checkpoints }: AdminDeps) => ({ caId: about.caId, logKey: checkpoints.publicKeyPem })

const previewAnswer = (deps: AdminDeps, { registration, draft }: IssuancePreview): IdentityAnswer => {
  const { notBefore, notAfter, spiffeId, notGranted } = draft
  const now = deps.clock.now()
  const halfway = time(notBefore + (notAfter - notBefore) / 2)
  return {
    spiffeId,
    agent: registration.name,
    instance: previewInstanceId,
    serial: '',
    generation: 1,
    notBefore: time(notBefore),
    notAfter: time(notAfter),
    renewAfter: halfway,
    renewBefore: time(notAfter),
    renewInSeconds: Math.max(0, Math.floor((Date.parse(halfway) - now) / 1000)),
    expiresInSeconds: Math.max(0, Math.floor((notAfter - now) / 1000)),
    certificate: '',
    chain: deps.issuers.chainPem(draft.issuer.id),
    bundle: deps.issuers.bundlePem(),
    notGranted,
    ...logIdentityOf(deps),
  }
}

const issue = async (deps: AdminDeps, { body, actor, context }: AdminCall<'certificatesIssue'>) => {
  const { kind, name, dryRun } = body
  refuseOwnService({ kind, name })
  // Whoever holds an operator's certificate has that operator's role.
  if (kind === 'operator') checkRole(actor, 'admin', 'a certificate for an operator')
  // Said as what it is here, a name nobody has, and not as evidence that proves nothing.
  namedRegistration(deps.ledger, kind, name)
  const request = {
    operation: 'issue',
    evidence: { kind: 'registration', subject: kind, name },
    csr: parseCsrText(body.csr),
    context,
  } as const
  if (dryRun) return previewAnswer(deps, deps.previewIssuance(request))
  try {
    const issued = await deps.issuance.issue(request)
    return identityAnswer(issued, { issuers: deps.issuers, logIdentity: logIdentityOf(deps) }, deps.clock.now())
  } catch (error) {
    if (isAgentCaError(error) && hasLeaf(error)) markRecorded(error)
    throw error
  }
}

/** Stored states know no time: an expired one is what was released and is past its end. */
const stateFilter = (
  state: CertificateStateName | undefined,
  now: number,
): Pick<CertificateFilter, 'states' | 'liveAt' | 'expiredAt'> => {
  switch (state) {
    case undefined:
      return {}
    case 'expired':
      return { states: ['issued', 'held'], expiredAt: now }
    case 'issued':
    case 'held':
      return { states: [state], liveAt: now }
    default:
      return { states: [state] }
  }
}

const list = (deps: AdminDeps, { query }: AdminCall<'certificatesList'>): ReturnType<Handlers['certificatesList']> => {
  const { kind, name, instance, state, after, limit } = query
  const named = soughtRegistration(deps.ledger, { kind, name })
  const filter = {
    ...(named === null ? { kind } : { registration: { kind: named.kind, name: named.name } }),
    instanceId: instance,
    before: after === undefined ? undefined : parseSerialHex(after),
  }
  const now = deps.clock.now()
  const { rows, next } = deps.ledger.certificates.list({ ...filled(filter), ...stateFilter(state, now), limit })
  const registrationOf = registrationsById(deps.ledger)
  return { items: rows.map(row => certificateAnswer(row, registrationOf(row.registrationId), now)), next }
}

/** Only what was released exists for anybody: signatures that came too late stay in the ledger. */
const releasedPem = (deps: AdminDeps, row: CertificateWithBytes): string | null => {
  if (row.issuedAt === null || row.signature === null) return null
  const { spki } = deps.issuers.byId(row.issuerId).certificate
  return encodePem('CERTIFICATE', assembleCertificate(row.tbs, signatureAlgorithmFor(spki.algorithm), row.signature))
}

const show = (deps: AdminDeps, text: string): CertificateDetail => {
  const serial = parseSerialHex(text)
  const row = deps.ledger.certificates.get(serial)
  if (row === null) throw new CaError('not_found', `no certificate has serial ${serial}`, { hint: 'agentca cert list' })
  return {
    ...certificateAnswer(row, registrationsById(deps.ledger)(row.registrationId), deps.clock.now()),
    issuer: deps.issuers.byId(row.issuerId).record.name,
    predecessor: row.predecessor,
    replaced: row.replaced,
    keyHash: row.keyHash,
    profile: row.profile,
    profileHash: row.profileHash,
    requester: row.requester,
    certificate: releasedPem(deps, row),
    chain: deps.issuers.chainPem(row.issuerId),
  }
}

const revoke = async (
  deps: AdminDeps,
  { body, actor, context }: AdminCall<'revoke'>,
): Promise<Awaited<ReturnType<Handlers['revoke']>>> => {
  const { by, value, reason, why, expected, dryRun } = body
  // A token that was never used hits nothing, and is somebody's way in all the same.
  if (by === 'token') checkTokenRank(deps, actor, value)
  const check = ({ registrations }: BlastRadius): void => {
    for (const { kind, name } of registrations)
      if (kind === 'operator') checkRank(actor, deps.ledger.registrations.find(kind, name), 'a revocation')
  }
  const done = await deps.revoke({ by, value }, reason, { context, why, expected, dryRun, check })
  return {
    ...done.selector,
    reason: done.reason,
    radius: radiusAnswer(done.radius),
    feed: done.feed,
    at: time(done.at),
    dryRun: done.dryRun,
  }
}

type Names = 'certificatesIssue' | 'certificatesList' | 'certificatesShow' | 'revoke'

export const certificateHandlers = (deps: AdminDeps): Pick<Handlers, Names> => ({
  certificatesIssue: call => issue(deps, call),
  certificatesList: call => list(deps, call),
  certificatesShow: ({ params }) => show(deps, params.serial),
  revoke: call => revoke(deps, call),
})
