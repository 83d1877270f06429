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
import { isOwnService } from '../ca/own-service.ts'
import { keyThumbprint } from '../jws/verify-token.ts'
import { parseCertificationRequest } from '../pki/csr.ts'
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
  readonly tokens: Pick<TokensPort, 'byHash' | 'create'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly sampler: Pick<Sampler, 'admit'>
  readonly randomBytes: (length: number) => Uint8Array
}

export interface Admission {
  /**
   * @returns what the ledger knows the evidence by, whether it was admitted now or before
   * @throws EnrolError, TokenError, JwsError, VerifyError, PkiError of the request; CaError `registration_not_found`, `key_not_bound`
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

export const createAdmission = (deps: AdmissionDeps): Admission => {
  const { clock, metrics, tokens } = deps

  const refuse = async (
    error: EnrolError | CaError,
    told: { readonly attestor: Attestor; readonly attested: Attested; readonly context: RequestContext },
    facts: Readonly<Record<string, string>>,
  ): Promise<never> => {
    const { attestor, attested, context } = told
    audited.add(error)
    // Whoever holds good evidence of a provider could send it for ever.
    if (deps.sampler.admit(error.code, context.source, `attestor:${attestor.name}`))
      await deps.audit.append([
        evidenceRefused(leafContextOf(context, clock.now()), {
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
    attestor: Attestor,
    attested: Attested,
    context: RequestContext,
  ): Promise<{ readonly registration: Registration; readonly matched: Matched }> => {
    const told = { attestor, attested, context }
    const match = matchRules(attestor.rules, attested.claims)
    if (match.matched === null) {
      const missed = match.missed.map(({ rule, claim, problem }) => `${rule}: ${claim}: ${problem}`)
      return refuse(notMatched(), told, { missed: missed.join('; ').slice(0, 1000) })
    }
    const { matched } = match
    const registration = isOwnService(matched) ? null : deps.registrations.find(matched.kind, matched.name)
    if (registration !== null) return { registration, matched }
    const missing = new CaError('registration_not_found', 'nobody is registered for this evidence', {
      hint: `agentca ${matched.kind} create NAME; agentca audit tail --event evidence_refused says which name`,
    })
    return refuse(missing, told, { rule: matched.rule, [matched.kind]: matched.name })
  }

  /** The key that the evidence names is this request's, or nothing is admitted. @returns its hash, where one is named */
  const boundKeyOf = async (
    told: { readonly attestor: Attestor; readonly attested: Attested; readonly context: RequestContext },
    csr: Uint8Array,
  ): Promise<string | null> => {
    const { keyThumbprint: wanted } = told.attested
    if (wanted === null) return null
    const { spki } = parseCertificationRequest(csr)
    if ((await keyThumbprint(spki.der)) === wanted) return spkiHashHex(spki.der)
    const refusal = new CaError('key_not_bound', 'the evidence is bound to another key than that of the request', {
      hint: 'ask with the key that the evidence names',
    })
    return refuse(refusal, told, { claim: 'cnf.jkt' })
  }

  const record = async (draft: Parameters<TokensPort['create']>[0], leaf: Parameters<TokensPort['create']>[1]) => {
    try {
      return await tokens.create(draft, leaf)
    } catch (error) {
      // Sent twice at once: one of them was first.
      const first = isAgentCaError(error) && error.code === 'already_exists' ? tokens.byHash(draft.hash) : null
      if (first === null) throw error
      return first
    }
  }

  const admitBy = async (
    attestor: Attestor,
    evidence: WorkloadEvidence,
    { csr, context }: { readonly csr: Uint8Array; readonly context: RequestContext },
  ): Promise<JoinToken> => {
    const now = clock.now()
    const attested = await attestor.attest(evidence, { csr, now })
    const tokenHash = evidenceHash(evidence, attested)
    const known = tokens.byHash(tokenHash)
    // Under the rules of then: the same evidence does not become somebody else's by a change of rules.
    if (known !== null) return known
    const { registration, matched } = await registrationOf(attestor, attested, context)
    const boundKeyHash = await boundKeyOf({ attestor, attested, context }, csr)
    const { kind, name } = registration
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
      evidence: {
        type: attestor.type,
        attestor: attestor.name,
        issuer: attested.issuer.slice(0, 500),
        subject: attested.subject.slice(0, 500),
      },
    } as const
    const facts = {
      token: draft.id,
      attestor: attestor.name,
      type: attestor.type,
      rule: matched.rule,
      issuer: draft.evidence.issuer,
      subject: draft.evidence.subject,
      expiresAt: draft.expiresAt,
      boundKey: boundKeyHash,
    }
    return record(draft, evidenceAdmitted(leafContextOf(context, now), { kind, name }, facts))
  }

  return {
    admit: async (evidence, request) => {
      let outcome = 'unknown_issuer'
      let attestor: Attestor | undefined
      try {
        attestor = deps.attestors().find(each => each.recognises(evidence))
        if (attestor === undefined) throw unknownIssuer(deps.attestors(), evidence)
        outcome = 'refused'
        const token = await admitBy(attestor, evidence, request)
        outcome = 'admitted'
        return token
      } catch (error) {
        if (isAgentCaError(error) && error.code === 'attestor_unavailable') outcome = 'unavailable'
        throw error
      } finally {
        metrics.count('agentca_evidence_total', { attestor: attestor?.name ?? 'none', outcome })
      }
    },
  }
}
