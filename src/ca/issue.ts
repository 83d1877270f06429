// One certificate, from evidence to answer, in the six steps of ISSUANCE.md; the numbers in the comments are that page's. This file
// holds the order and what happens when a step fails. What is decided is decide-issuance.ts, what goes into the bytes (steps 2 and 3)
// is the drafter's, durability is the ledger's.
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { ReachedStep } from '../base/steps.ts'
import { assembleCertificate, parseCertificate } from '../pki/certificate.ts'
import { type CertificationRequest, checkCertificationRequestSignature, parseCertificationRequest } from '../pki/csr.ts'
import { spkiHashHex } from '../pki/spki.ts'
import type { DecisionRules } from '../policy/issuance-profile.ts'
import type { SignerPort } from '../signer/port.ts'
import type {
  CertificatesPort,
  IntentRecord,
  IssuanceDecision,
  IssuanceFacts,
  IssuancePort,
  IssuanceQuery,
  TokensPort,
} from '../store/ports.ts'
import type { CertificateWithBytes, Registration } from '../store/records.ts'
import { checkAssembled } from './check-assembled.ts'
import { type Decision, decideIssuance } from './decide-issuance.ts'
import { notGrantedOf } from './draft.ts'
import { CaError, type IssuanceRefusal, refusalError } from './errors.ts'
import type {
  CertificateOf,
  Drafter,
  Issuance,
  IssuanceEvents,
  IssuanceRequest,
  IssuedCertificate,
  LintedDraft,
} from './issuance.ts'
import type { IssuancePace } from './issuance-pace.ts'
import { issuedRecord } from './issued-record.ts'
import type { Maintenance } from './maintenance.ts'
import type { IssuancePolicy } from './scopes-issuance.ts'
import { priorityOf } from './sign-priority.ts'

export interface IssuanceDeps {
  readonly clock: Clock
  readonly log: Log
  readonly issuance: IssuancePort
  readonly certificates: CertificatesPort
  readonly tokens: TokensPort
  readonly signer: SignerPort
  readonly drafter: Drafter
  readonly events: IssuanceEvents
  /** What policies say of it, beside the rules of state and lineage. */
  readonly policy: IssuancePolicy
  /** This CA's id: what join tokens are made for. */
  readonly caId: string
  readonly epoch: number
  /** A new instance id: 128 bits, lower-case hex. */
  readonly newInstanceId: () => string
  readonly signDeadlineMs: number
  readonly pace: IssuancePace
  /** @throws CaError `clock_refused` when the wall clock cannot be trusted for signing */
  readonly checkClock: (now: number) => void
  readonly maintenance: Pick<Maintenance, 'check'>
  readonly reached: ReachedStep
}

/** How long after the signer's own deadline an intent may still be recorded as issued. */
const recordGraceMs = 30_000

const nobodysRules: DecisionRules = {
  profileHash: '',
  instanceLimit: 0,
  keyReuse: 'never',
  recovery: { mode: 'none', count: 0, windowSeconds: 0 },
}

const inProgress = (serial: string): CaError =>
  new CaError('issuance_in_progress', 'this very request is being signed', {
    hint: 'ask again in a second',
    facts: { serial },
  })

/** One request on its way. A transaction that failed is run again, with everything in it: what is done once for a request is kept here. */
interface Attempt {
  readonly request: IssuanceRequest
  readonly csr: CertificationRequest
  readonly query: IssuanceQuery
  /** A fresh instance's id is drawn once. */
  instanceId: string | null
  proved: boolean
  giveBack: (() => void) | null
  /** Of the last run: what was decided from, and what was granted. */
  facts: IssuanceFacts | null
  draft: LintedDraft | null
}

type Granted = Extract<Decision, { readonly act: 'start' | 'continue' }>
type Binding = IssuanceDecision<IssuanceRefusal>

export const createIssuance = (deps: IssuanceDeps): Issuance => {
  const { issuance, certificates, signer, drafter, events } = deps

  const rulesOf = ({ registration }: IssuanceFacts, { terms }: IssuanceRequest): DecisionRules =>
    registration === null ? nobodysRules : drafter.rules(registration, terms?.profile)

  const decide = (request: IssuanceRequest, facts: IssuanceFacts, keyHash: string, now: number): Decision => {
    const { operation } = request
    const decision = decideIssuance(facts, { operation, keyHash, caId: deps.caId, now, rules: rulesOf(facts, request) })
    if (decision.act !== 'start' && decision.act !== 'continue') return decision
    const { registration } = decision
    const { context, terms } = request
    const refusal = deps.policy.refusal({ operation, registration, terms, source: context.source, facts, now })
    return refusal === null ? decision : { act: 'refuse', refusal, lock: null }
  }

  /** Step 1, first half: strangers do not get to the CSR parser. */
  const authenticate = (request: IssuanceRequest): void => {
    const { evidence } = request
    if (evidence.kind !== 'token' && evidence.kind !== 'recovery') return
    if (evidence.tokenHash === null || deps.tokens.holderOf(evidence.tokenHash) !== null) return
    throw new CaError('token_unknown', 'this join token is not known here', {
      hint: 'agentca token create --agent NAME',
    })
  }

  const leafOfRefusal = (
    request: IssuanceRequest,
    decision: Extract<Decision, { act: 'refuse' }>,
    facts: IssuanceFacts,
    at: number,
  ) => {
    const { refusal, lock } = decision
    const { registration } = facts
    const under = registration === null ? null : { registration, profileHash: rulesOf(facts, request).profileHash }
    return {
      act: 'refuse' as const,
      refusal,
      leaf: events.refused(request, refusal, under, at),
      lock: lock === null ? null : { ...lock, leaf: events.locked(request, lock, registrationOf(facts), at) },
    }
  }

  const instanceOf = (attempt: Attempt, decision: Granted): string => {
    if (decision.act === 'continue') return decision.instance.id
    attempt.instanceId ??= deps.newInstanceId()
    return attempt.instanceId
  }

  /** Known to be down: 503 before step 4, or the queue of intents would become a queue of orphans. */
  const checkSigner = (): void => {
    if (signer.isConnected()) return
    throw new CaError('signer_unavailable', 'the signer is not running', { hint: 'agentca hsm status' })
  }

  /** Proof of possession, for those only who may have a certificate: a verification costs more than everything that refuses. */
  const checkProof = (attempt: Attempt): void => {
    if (!attempt.proved) checkCertificationRequestSignature(attempt.csr)
    attempt.proved = true
  }

  /** From a decision that grants to what step 4 records. */
  const grant = (attempt: Attempt, decision: Granted): Binding => {
    const { request, csr, query } = attempt
    const { registration } = decision
    checkProof(attempt)
    deps.reached('issuance 2')
    checkSigner()
    attempt.giveBack ??= deps.pace.take(decision)
    // Step 3.
    const instanceId = instanceOf(attempt, decision)
    const draft = drafter.draft({ registration, instanceId, csr, now: query.now, terms: request.terms })
    attempt.draft = draft
    deps.reached('issuance 3')
    const intent = intentOf(attempt, draft, decision, instanceId)
    return { act: 'record', intent, leaf: events.intentRecorded(request, intent, registration) }
  }

  /** Steps 1 to 3 under the ledger's lock, so that nothing is decided twice; what step 4 shall record. */
  const bind = (attempt: Attempt, facts: IssuanceFacts): Binding => {
    const { request, query } = attempt
    attempt.facts = facts
    const decision = decide(request, facts, query.keyHash, query.now)
    deps.reached('issuance 1')
    switch (decision.act) {
      case 'refuse':
        return leafOfRefusal(request, decision, facts, query.now)
      case 'pending':
        return decision
      case 'repeat':
        return { ...decision, leaf: events.repeated(request, repeatedOf(decision.serial, facts), query.now) }
      case 'start':
      case 'continue':
        return grant(attempt, decision)
    }
  }

  // Thrown, the error of one request would have the whole batch run again.
  const bindOrFail = (attempt: Attempt, facts: IssuanceFacts): Binding => {
    try {
      return bind(attempt, facts)
    } catch (error) {
      if (isAgentCaError(error)) return { act: 'fail', error }
      throw error
    }
  }

  const intentOf = (attempt: Attempt, draft: LintedDraft, decision: Granted, instanceId: string): IntentRecord => {
    const { request, query } = attempt
    const continued = decision.act === 'continue' ? decision : null
    return {
      serial: draft.serial,
      issuerId: draft.issuer.id,
      kind: decision.registration.kind,
      registrationId: decision.registration.id,
      registrationVersion: decision.registration.version,
      instanceId,
      newInstance: continued === null,
      generation: continued?.generation ?? 1,
      predecessor: continued?.predecessor?.serial ?? null,
      supersedes: continued?.supersedes ?? null,
      tokenId: decision.tokenId,
      recovery: continued?.recovery ?? false,
      orderId: request.evidence.kind === 'account' ? request.evidence.orderId : undefined,
      keyHash: query.keyHash,
      tbs: draft.tbs,
      profile: draft.profile,
      profileHash: draft.profileHash,
      requester: request.context.who,
      notBefore: draft.notBefore,
      notAfter: draft.notAfter,
      epoch: deps.epoch,
      deadline: query.now + deps.signDeadlineMs + recordGraceMs,
      createdAt: query.now,
    }
  }

  const registrationOf = (facts: IssuanceFacts): Registration => {
    if (facts.registration === null) throw new CaError('internal', 'an answer without a registration')
    return facts.registration
  }

  const repeatedOf = (serial: string, facts: IssuanceFacts) => ({ serial, registration: registrationOf(facts) })

  /** The certificate of a recorded answer, from its exact bytes. */
  const assemble = (row: CertificateWithBytes): Uint8Array => {
    if (row.signature === null) throw new CaError('internal', `certificate ${row.serial} has no signature`)
    return assembleCertificate(row.tbs, drafter.issuerOf(row.issuerId).signatureAlgorithm, row.signature)
  }

  const answerAgain = (serial: string, registration: Registration, csr: CertificationRequest): IssuedCertificate => {
    const row = certificates.get(serial)
    if (row === null) throw new CaError('internal', `certificate ${serial} is gone`)
    const certificate = assemble(row)
    const { spiffeId } = parseCertificate(certificate)
    if (spiffeId === null) throw new CaError('internal', `certificate ${serial} has no SPIFFE ID`)
    return { record: row, certificate, spiffeId, registration, notGranted: notGrantedOf(csr), answer: 'again' }
  }

  /** Steps 1 to 4, and what they mean for the caller: an answer, or the steps that follow. */
  const settle = async (attempt: Attempt): Promise<IssuedCertificate> => {
    const [decision] = await issuance.recordIntents<IssuanceRefusal>([
      { query: attempt.query, decide: found => bindOrFail(attempt, found) },
    ])
    const { request, csr, facts, draft } = attempt
    if (decision === undefined || facts === null) throw new CaError('internal', 'the ledger gave no decision')
    switch (decision.act) {
      case 'fail':
        throw decision.error
      case 'refuse':
        throw refusalError(decision.refusal)
      case 'pending':
        throw inProgress(decision.serial)
      case 'repeat':
        return answerAgain(decision.serial, registrationOf(facts), csr)
      case 'record':
        if (draft === null) throw new CaError('internal', 'an intent without a draft')
        deps.reached('issuance 4')
        return release(request, draft, decision.intent, registrationOf(facts))
    }
  }

  /**
   * No signature came. Only this request could have released its intent, so the intent ends now, and whoever asks again need not wait
   * for a deadline: void if the signer never called the HSM, otherwise orphaned. If the ledger cannot record it, the sweep will.
   */
  const giveUp = async (request: IssuanceRequest, of: CertificateOf, reason: unknown): Promise<void> => {
    const at = deps.clock.now()
    const { serial } = of
    if (isAgentCaError(reason) && reason.facts.hsmCalled === 'no')
      await issuance.recordVoid([{ serial, leaf: events.voided(request, of, at) }])
    else await issuance.recordOrphaned([{ serial, at, leaf: events.orphaned(of, at) }])
  }

  /** Step 5. */
  const sign = async (
    request: IssuanceRequest,
    draft: LintedDraft,
    intent: IntentRecord,
    of: CertificateOf,
  ): Promise<Uint8Array> => {
    try {
      // The signer verified the signature against the issuer's key before it let it go (SignerPort): once is enough.
      return await signer.sign({
        purpose: 'leaf',
        key: draft.issuer.keyLabel,
        tbs: draft.tbs,
        priority: priorityOf(request.operation, intent),
        deadlineMs: deps.signDeadlineMs,
      })
    } catch (error) {
      await giveUp(request, of, error)
      deps.log.warn({ serial: draft.serial, requestId: request.context.requestId, err: error }, 'no signature')
      throw new CaError('signer_unavailable', 'the certificate could not be signed', {
        cause: error,
        hint: 'agentca hsm status',
      })
    }
  }

  const release = async (
    request: IssuanceRequest,
    draft: LintedDraft,
    intent: IntentRecord,
    registration: Registration,
  ): Promise<IssuedCertificate> => {
    const of = { serial: draft.serial, registration }
    const signature = await sign(request, draft, intent, of)
    deps.reached('issuance 5')
    const certificate = assembleCertificate(draft.tbs, draft.issuer.signatureAlgorithm, signature)
    checkAssembled(draft, certificate)
    const at = deps.clock.now()
    // Step 6.
    const [outcome] = await issuance.recordIssued([
      {
        serial: draft.serial,
        signature,
        epoch: deps.epoch,
        at,
        issuedLeaf: events.issued(request, of, certificate, at),
        refusedLeaf: () => events.releaseRefused(request, of, at),
      },
    ])
    deps.reached('issuance 6')
    if (outcome !== 'issued')
      throw new CaError(
        'not_released',
        'the registration changed while the certificate was being signed; it was revoked instead',
        { hint: 'ask again: the new request is decided under the present state' },
      )
    const record = issuedRecord(intent, at)
    const { spiffeId, notGranted } = draft
    return { record, certificate, spiffeId, registration, notGranted, answer: 'new' }
  }

  const issue = async (request: IssuanceRequest): Promise<IssuedCertificate> => {
    const now = deps.clock.now()
    // Evidence before parsing. Strangers do not get to the clock either: it takes a time it is asked about for one of a signature.
    authenticate(request)
    deps.maintenance.check(request.context)
    deps.checkClock(now)
    const csr = parseCertificationRequest(request.csr)
    const attempt: Attempt = {
      request,
      csr,
      query: { evidence: request.evidence, keyHash: spkiHashHex(csr.spki.der), now },
      instanceId: null,
      proved: request.possession === 'checked by a front',
      giveBack: null,
      facts: null,
      draft: null,
    }
    let isNew = false
    try {
      const issued = await settle(attempt)
      isNew = issued.answer === 'new'
      return issued
    } finally {
      if (!isNew) attempt.giveBack?.()
    }
  }

  return {
    issue,
    sweep: async () => {
      const at = deps.clock.now()
      const leaf = ({ serial }: { serial: string }, registration: Registration) =>
        events.orphaned({ serial, registration }, at)
      return (await issuance.sweepIntents({ now: at, epoch: deps.epoch, leaf })).length
    },
  }
}
