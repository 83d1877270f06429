// From the ledger's records to the contract's answers: names for ids, text for times and bytes, states that only a clock can tell.
import { createHash } from 'node:crypto'
import { toHex } from '../../base/bytes.ts'
import type { Issuers } from '../../ca/issuers.ts'
import type { OperatorRecovery } from '../../ca/operator-recovery.ts'
import type { ChangeOutcome } from '../../ca/registration-change.ts'
import { parseCertificate } from '../../pki/certificate.ts'
import { nameToString } from '../../pki/names.ts'
import { encodePem } from '../../pki/pem.ts'
import { agentSpiffeId, operatorSpiffeId, type SpiffeId, serviceSpiffeId, type TrustDomain } from '../../pki/spiffe.ts'
import type * as answers from '../../schema/admin-answers.ts'
import type { BlastRadius } from '../../store/ports.ts'
import type { CertificateRecord, Instance, Issuer, JoinToken, Registration } from '../../store/records.ts'

const day = 86_400_000

export const time = (ms: number): string => new Date(ms).toISOString()
const timeOrNull = (ms: number | null): string | null => (ms === null ? null : time(ms))

/**
 * One page of a list.
 * @param rows one more than `limit` where there is more
 */
export const pageOf = <R, A>(
  rows: readonly R[],
  limit: number,
  cursor: (row: R) => string,
  answer: (row: R) => A,
): answers.List<A> => {
  const page = rows.slice(0, limit)
  const last = page.at(-1)
  return { items: page.map(answer), next: rows.length > limit && last !== undefined ? cursor(last) : null }
}

export const wholeList = <A>(items: readonly A[]): answers.List<A> => ({ items, next: null })

export const registrationAnswer = (registration: Registration): answers.RegistrationAnswer => {
  const { kind, name, owner, purpose, profile, roles, attributes, state, version } = registration
  return {
    kind,
    name,
    owner,
    purpose,
    profile,
    roles,
    attributes,
    dns: registration.dnsNames,
    instances: registration.instanceLimit,
    role: registration.operatorRole,
    until: timeOrNull(registration.until),
    boundKeyHash: registration.boundKeyHash,
    managedBy: registration.managedBy,
    state,
    version,
    createdAt: time(registration.createdAt),
    changedAt: time(registration.changedAt),
  }
}

export const radiusAnswer = (radius: BlastRadius): answers.RadiusAnswer => ({
  registrations: radius.registrations,
  instances: radius.instances,
  certificates: radius.certificates,
  intents: radius.intents,
  tokens: radius.tokens,
  subscriptions: radius.subscriptions,
  serials: radius.serials,
})

export const changeAnswer = ({ registration, radius, dryRun, archived }: ChangeOutcome): answers.ChangeAnswer => ({
  registration: registrationAnswer(registration),
  radius: radiusAnswer(radius),
  dryRun,
  ...(archived === undefined ? {} : { archived }),
})

const spiffeIdOf = (trustDomain: TrustDomain, { kind, name }: Registration, instance: string): SpiffeId => {
  if (kind === 'agent') return agentSpiffeId(trustDomain, name, instance)
  return kind === 'service' ? serviceSpiffeId(trustDomain, name) : operatorSpiffeId(trustDomain, name)
}

export const instanceAnswer = (
  trustDomain: TrustDomain,
  instance: Instance,
  registration: Registration,
  head: CertificateRecord | null,
): answers.InstanceAnswer => ({
  id: instance.id,
  kind: registration.kind,
  name: registration.name,
  spiffeId: spiffeIdOf(trustDomain, registration, instance.id),
  state: instance.state,
  lockReason: instance.lockReason,
  serial: instance.headSerial,
  generation: head?.generation ?? null,
  notAfter: timeOrNull(head?.notAfter ?? null),
  createdAt: time(instance.createdAt),
  changedAt: time(instance.changedAt),
})

/** What an operator wants to know first: that it was revoked, then that nothing of it is left, then that its time is over. */
const tokenState = (token: JoinToken, now: number): answers.TokenAnswer['state'] => {
  if (token.state === 'revoked') return 'revoked'
  if (token.usesTaken >= token.uses) return 'used'
  return token.expiresAt <= now ? 'expired' : 'active'
}

export const tokenAnswer = (token: JoinToken, { kind, name }: Registration, now: number): answers.TokenAnswer => ({
  id: token.id,
  kind,
  name,
  uses: token.uses,
  usesTaken: token.usesTaken,
  boundKeyHash: token.boundKeyHash,
  evidence: token.evidence,
  state: tokenState(token, now),
  expiresAt: time(token.expiresAt),
  createdAt: time(token.createdAt),
  createdBy: token.createdBy,
})

/** Stored states do not age: what was released and is past its end is expired, whether it was held or not. */
const certificateState = (record: CertificateRecord, now: number): answers.CertificateStateName =>
  (record.state === 'issued' || record.state === 'held') && record.notAfter <= now ? 'expired' : record.state

export const certificateAnswer = (
  record: CertificateRecord,
  { name }: Registration,
  now: number,
): answers.CertificateAnswer => ({
  serial: record.serial,
  state: certificateState(record, now),
  kind: record.kind,
  agent: name,
  instance: record.instanceId,
  generation: record.generation,
  notBefore: time(record.notBefore),
  notAfter: time(record.notAfter),
  issuedAt: timeOrNull(record.issuedAt),
  revokedAt: timeOrNull(record.revokedAt),
  reason: record.reason,
})

/** As `agentca enroll --ca-fingerprint` takes it. */
export const fingerprintOf = (der: Uint8Array): string => `sha256:${toHex(createHash('sha256').update(der).digest())}`

/** The root that the leaves of today chain to. @throws CaError `no_active_issuer` */
export const rootFingerprint = (issuers: Issuers): string => {
  let { record } = issuers.byId(issuers.active().id)
  while (record.parentId !== null) ({ record } = issuers.byId(record.parentId))
  return fingerprintOf(record.certificate)
}

/** By a running server, and where none runs. */
export const operatorRecoveredAnswer = (
  { created, text, token }: OperatorRecovery,
  { name, issuers, url }: { readonly name: string; readonly issuers: Issuers; readonly url: string },
): answers.OperatorRecoveredAnswer => ({
  id: token.id,
  token: text ?? '',
  expiresAt: time(token.expiresAt),
  uses: token.uses,
  subject: { kind: 'operator', name },
  caFingerprint: rootFingerprint(issuers),
  url,
  created,
})

export const issuerAnswer = (record: Issuer, issuers: Pick<Issuers, 'byId'>, now: number): answers.IssuerAnswer => {
  const certificate = parseCertificate(record.certificate)
  return {
    name: record.name,
    kind: record.kind,
    state: record.state,
    subject: nameToString(certificate.subject),
    serial: certificate.serialHex,
    keyLabel: record.keyLabel,
    keyHash: record.spkiHash,
    fingerprint: fingerprintOf(record.certificate),
    notBefore: time(record.notBefore),
    notAfter: time(record.notAfter),
    daysLeft: Math.floor((record.notAfter - now) / day),
    parent: record.parentId === null ? null : issuers.byId(record.parentId).record.name,
    certificate: encodePem('CERTIFICATE', record.certificate),
  }
}
