// Evidence of a workload on its way to an enrolment: who vouches for it, which registration it stands for, and that it is used once. What is
// admitted goes into the ledger as a token of one use, so that everything after is what join tokens have: the first key claims it, the
// same key is answered again, another one is refused and raises an alarm, and a restart forgets nothing.
import { hash } from 'node:crypto'
import { evidenceAdmitted, evidenceRefused } from '../audit/evidence-events.ts'
import type { Sampler } from '../audit/sampler.ts'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { Metrics } from '../base/metrics.ts'
import { CaError } from '../ca/errors.ts'
import type { RequestContext } from '../ca/issuance.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import type { Maintenance } from '../ca/maintenance.ts'
import { isOwnService } from '../ca/own-service.ts'
import { keyThumbprint } from '../jws/verify-token.ts'
import { type CertificationRequest, checkCertificationRequestSignature, parseCertificationRequest } from '../pki/csr.ts'
import { spkiHashHex } from '../pki/spki.ts'
import type { AuditPort, RegistrationsPort, TokensPort } from '../store/ports.ts'
import type { JoinToken, Registration } from '../store/records.ts'
import type { Attested, Attestor, WorkloadEvidence } from './attestor.ts'
import { EnrolError } from './errors.ts'
import { type Matched, matchRules } from './rules.ts'

export interface AdmissionDeps {
  readonly clock: Clock
  readonly metrics: Metrics
  readonly caId: string
  /** Those in force: a reload replaces them. */
  readonly attestors: () => readonly Attestor[]
  readonly registrations: Pick<RegistrationsPort, 'find'>
  readonly tokens: Pick<TokensPort, 'byHash' | 'create' | 'unclaimedEvidence'>
  readonly maintenance: Pick<Maintenance, 'check' | 'restored'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly sampler: Pick<Sampler, 'admit'>
  readonly randomBytes: (length: number) => Uint8Array
}

export interface Admission {
  /**
   * @returns what the ledger knows the evidence by, whether it was admitted now or before
   * @throws EnrolError, TokenError, JwsError, VerifyError, PkiError of the request; CaError `registration_not_found`, `key_not_bound`,
   * `maintenance`
   */
  admit(
    evidence: WorkloadEvidence,
    request: { readonly csr: Uint8Array; readonly context: RequestContext },
  ): Promise<JoinToken>
}

/** The refusal has its leaf, or was counted: nobody need write another. */
const audited = new WeakSet<object>()
export const hasEvidenceLeaf = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && audited.has(error)

const unknownIssuer = (attestors: readonly Attestor[], { type }: WorkloadEvidence): EnrolError =>
  new EnrolError('evidence_issuer_unknown', `no attestor here takes this ${type === 'jwt' ? 'token' : 'certificate'}`, {
    hint: attestors.some(attestor => attestor.type === type)
      ? 'compare its issuer and audience with those of the attestors: agentca attestor list'
      : 'an operator of this CA has to configure an attestor: docs/evidence.md',
  })

/** SHA-256 of what makes it one: hex, in a space of its own beside the hashes of join tokens. */
export const evidenceHash = ({ type }: Pick<WorkloadEvidence, 'type'>, { oneUse }: Attested): string =>
  hash('sha256', `agentca evidence\n${type}\n${oneUse}`)

const notMatched = (): EnrolError =>
  new EnrolError('evidence_not_matched', 'the evidence is good, and no rule makes a registration of it', {
    hint: 'an operator sees which claim did not match: agentca audit tail --event evidence_refused',
  })

interface Told {
  readonly attestor: Attestor
  readonly attested: Attested
  readonly context: RequestContext
}

const refuse = async (
  deps: AdmissionDeps,
  error: EnrolError | CaError,
  { attestor, attested, context }: Told,
  facts: Readonly<Record<string, string>>,
): Promise<never> => {
  audited.add(error)
  // Whoever holds good evidence of a provider could send it for ever.
  if (deps.sampler.admit(error.code, context.source, `attestor:${attestor.name}`))
    await deps.audit.append([
      evidenceRefused(leafContextOf(context, deps.clock.now()), {
        code: error.code,
        attestor: attestor.name,
        issuer: attested.issuer.slice(0, 200),
        subject: attested.subject.slice(0, 200),
        ...facts,
      }),
    ])
  throw error
}

const registrationOf = async (
  deps: AdmissionDeps,
  told: Told,
): Promise<{ readonly registration: Registration; readonly matched: Matched }> => {
  const match = matchRules(told.attestor.rules, told.attested.claims)
  if (match.matched === null) {
    const missed = match.missed.map(({ rule, claim, problem }) => `${rule}: ${claim}: ${problem}`)
    return refuse(deps, notMatched(), told, { missed: missed.join('; ').slice(0, 1000) })
  }
  const { matched } = match
  const registration = isOwnService(matched) ? null : deps.registrations.find(matched.kind, matched.name)
  if (registration !== null) return { registration, matched }
  const missing = new CaError('registration_not_found', 'nobody is registered for this evidence', {
    hint: `agentca ${matched.kind} create NAME; agentca audit tail --event evidence_refused says which name`,
  })
  return refuse(deps, missing, told, { rule: matched.rule, [matched.kind]: matched.name })
}

/** Known evidence stays what it was admitted for, and only while the rules of now say the same: a change of rules moves and keeps nobody. */
const stillOf = async (
  deps: AdmissionDeps,
  known: JoinToken,
  told: Told,
  { registration, matched: { rule, kind, name } }: { readonly registration: Registration; readonly matched: Matched },
): Promise<JoinToken> => {
  if (known.registrationId === registration.id) return known
  return refuse(deps, notMatched(), told, {
    token: known.id,
    rule,
    [kind]: name,
    missed: 'admitted for another before',
  })
}

/** What was used after the backup was made is in no row: what can be so old is good for nothing, with what it led to yet to be looked at. */
export const madeBeforeRestore = (
  { madeAfter }: Pick<Attested, 'madeAfter'>,
  { restored }: Pick<Maintenance, 'restored'>,
): EnrolError | null => {
  const restoredAt = restored()?.restoredAt
  if (restoredAt === undefined || madeAfter > restoredAt) return null
  return new EnrolError('evidence_before_restore', 'the evidence can be older than the restore of this CA', {
    hint: 'ask for fresh evidence: whether this one was used is not known any more',
    facts: { restoredAt: Math.floor(restoredAt / 1000) },
  })
}

/** What was admitted and led to nothing, as where a policy forbids it: a row each, of whoever can make evidence without end. */
const maxUnclaimed = 1_000

const checkUnclaimed = async (deps: AdmissionDeps, told: Told, { id, kind, name }: Registration): Promise<void> => {
  const asked = { registrationId: id, now: deps.clock.now(), limit: maxUnclaimed }
  if (deps.tokens.unclaimedEvidence(asked) < maxUnclaimed) return
  const refusal = new EnrolError('evidence_limit_reached', 'too much evidence was shown and not used', {
    hint: 'ask again later; an operator sees why nothing came of it: agentca audit tail --event issuance_refused',
    facts: { retryAfterSeconds: 60 },
  })
  return refuse(deps, refusal, told, { [kind]: name })
}

/** The key that the evidence names is this request's, or nothing is admitted. @returns its hash, where one is named */
const boundKeyOf = async (deps: AdmissionDeps, told: Told, { spki }: CertificationRequest): Promise<string | null> => {
  const { keyThumbprint: wanted } = told.attested
  if (wanted === null) return null
  if ((await keyThumbprint(spki.der)) === wanted) return spkiHashHex(spki.der)
  const refusal = new CaError('key_not_bound', 'the evidence is bound to another key than that of the request', {
    hint: 'ask with the key that the evidence names',
  })
  return refuse(deps, refusal, told, { claim: 'cnf.jkt' })
}

type Creation = Parameters<TokensPort['create']>

const record = async ({ tokens }: AdmissionDeps, ...[draft, leaf]: Creation): Promise<JoinToken> => {
  try {
    return await tokens.create(draft, leaf)
  } catch (error) {
    // Sent twice at once: one of them was first.
    const first = isAgentCaError(error) && error.code === 'already_exists' ? tokens.byHash(draft.hash) : null
    if (first === null) throw error
    return first
  }
}

interface AdmissionRequest {
  readonly csr: Uint8Array
  readonly context: RequestContext
}

const admitBy = async (
  deps: AdmissionDeps,
  attestor: Attestor,
  evidence: WorkloadEvidence,
  { csr, context }: AdmissionRequest,
): Promise<JoinToken> => {
  // Issuance would refuse it too, with a row and a leaf left behind each time.
  deps.maintenance.check(context)
  const now = deps.clock.now()
  const attested = await attestor.attest(evidence, { csr, now })
  const tokenHash = evidenceHash(evidence, attested)
  const told = { attestor, attested, context }
  const stale = madeBeforeRestore(attested, deps.maintenance)
  if (stale !== null) return refuse(deps, stale, told, {})
  const { registration, matched } = await registrationOf(deps, told)
  const known = deps.tokens.byHash(tokenHash)
  if (known !== null) return stillOf(deps, known, told, { registration, matched })
  const parsed = parseCertificationRequest(csr)
  const boundKeyHash = await boundKeyOf(deps, told, parsed)
  checkCertificationRequestSignature(parsed)
  await checkUnclaimed(deps, told, registration)
  const { kind, name } = registration
  const { type } = attestor
  const [issuer, subject] = [attested.issuer.slice(0, 500), attested.subject.slice(0, 500)]
  const draft = {
    id: toHex(deps.randomBytes(8)),
    hash: tokenHash,
    registrationId: registration.id,
    audience: deps.caId,
    uses: 1,
    boundKeyHash,
    expiresAt: Math.min(attested.expiresAt, registration.until ?? Number.POSITIVE_INFINITY),
    createdAt: now,
    createdBy: `attestor:${attestor.name}`,
    evidence: { type, attestor: attestor.name, issuer, subject },
  }
  const { id: token, expiresAt } = draft
  const facts = { token, attestor: attestor.name, type, rule: matched.rule, issuer, subject, expiresAt }
  const leaf = evidenceAdmitted(leafContextOf(context, now), { kind, name }, { ...facts, boundKey: boundKeyHash })
  return record(deps, draft, leaf)
}

export const createAdmission = (deps: AdmissionDeps): Admission => ({
  admit: async (evidence, request) => {
    let outcome = 'unknown_issuer'
    let attestor: Attestor | undefined
    try {
      attestor = deps.attestors().find(each => each.recognises(evidence))
      if (attestor === undefined) throw unknownIssuer(deps.attestors(), evidence)
      outcome = 'refused'
      const token = await admitBy(deps, attestor, evidence, request)
      outcome = 'admitted'
      return token
    } catch (error) {
      if (isAgentCaError(error) && error.code === 'attestor_unavailable') outcome = 'unavailable'
      throw error
    } finally {
      deps.metrics.count('agentca_evidence_total', { attestor: attestor?.name ?? 'none', outcome })
    }
  },
})
