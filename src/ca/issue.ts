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
import type { SignerPort, SignPriority } from '../signer/port.ts'
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
import { CaError, type IssuanceRefusal } from './errors.ts'
import type {
  CertificateOf,
  Drafter,
  Issuance,
  IssuanceEvents,
  IssuanceOperation,
  IssuanceRequest,
  IssuedCertificate,
  LintedDraft,
} from './issuance.ts'
import type { IssuancePace } from './issuance-pace.ts'
import type { Maintenance } from './maintenance.ts'
import type { IssuancePolicy } from './scopes-issuance.ts'

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

const priorityOf: Readonly<Record<IssuanceOperation, SignPriority>> = {
  enrol: 'enrol',
  issue: 'enrol',
  order: 'enrol',
  renew: 'renew',
  recover: 'renew',
}

/** What a row says right after step 6, beside its intent. */
const justIssued = { state: 'issued', replaced: false, revokedAt: null, reason: null } as const

/** How long after the signer's own deadline an intent may still be recorded as issued. */
const recordGraceMs = 30_000

const nobodysRules: DecisionRules = {
  profileHash: '',
  instanceLimit: 0,
  keyReuse: 'never',
  recovery: { mode: 'none', count: 0, windowSeconds: 0 },
}

const refusalError = (refusal: IssuanceRefusal): CaError =>
  new CaError(refusal.code, refusal.message, {
    ...(refusal.hint === undefined ? {} : { hint: refusal.hint }),
    facts: refusal.facts,
  })

const inProgress = (serial: string): CaError =>
  new CaError('issuance_in_progress', 'this very request is being signed', {
    hint: 'ask again in a second',
    facts: { serial },
  })

/** Everything of one request that later steps need; grows from step to step and never changes. */
interface Prepared {
  readonly request: IssuanceRequest
  readonly csr: CertificationRequest
  readonly query: IssuanceQuery
}

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
    if (evidence.tokenHash === null || deps.tokens.byHash(evidence.tokenHash) !== null) return
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

  /** Turns a decision into what the ledger shall do; `draft` exists once the early decision let the request through. */
  const bind = (
    prepared: Prepared,
    facts: IssuanceFacts,
    drafted: { draft: LintedDraft; decision: Decision } | null,
  ): Binding => {
    const { request, query } = prepared
    const decision = decide(request, facts, query.keyHash, query.now)
    if (decision.act === 'refuse') return leafOfRefusal(request, decision, facts, query.now)
    if (decision.act === 'pending') return decision
    if (decision.act === 'repeat') {
      const again = { serial: decision.serial, registration: registrationOf(facts) }
      return { ...decision, leaf: events.repeated(request, again, query.now) }
    }
    if (drafted === null || !sameGround(drafted.decision, decision)) return { act: 'pending', serial: '' }
    const intent = intentOf(prepared, drafted.draft, decision, instanceOf(drafted.decision))
    return { act: 'record', intent, leaf: events.intentRecorded(request, intent, registrationOf(facts)) }
  }

  // A fresh instance's id is drawn once, before its bytes are built, and carried from the early decision to the binding one.
  const instanceIds = new WeakMap<Decision, string>()
  const instanceOf = (decision: Decision): string => {
    if (decision.act === 'continue') return decision.instance.id
    let id = instanceIds.get(decision)
    if (id === undefined) {
      id = deps.newInstanceId()
      instanceIds.set(decision, id)
    }
    return id
  }

  /** The draft still fits: same kind of step from the same registration version, instance and predecessor. */
  const sameGround = (early: Decision, now: Decision): boolean => {
    if (early.act === 'start' && now.act === 'start') return early.registration.version === now.registration.version
    return (
      early.act === 'continue' &&
      now.act === 'continue' &&
      early.registration.version === now.registration.version &&
      early.instance.id === now.instance.id &&
      early.predecessor?.serial === now.predecessor?.serial
    )
  }

  const intentOf = (prepared: Prepared, draft: LintedDraft, decision: Decision, instanceId: string): IntentRecord => {
    if (decision.act !== 'start' && decision.act !== 'continue')
      throw new CaError('internal', `no intent for ${decision.act}`)
    const { request, query } = prepared
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
      ...(request.evidence.kind === 'account' ? { orderId: request.evidence.orderId } : {}),
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

  /** What a binding decision that recorded nothing means for the caller. */
  const settle = (
    { csr }: Prepared,
    decision: Exclude<Binding, { act: 'record' }>,
    facts: IssuanceFacts,
  ): IssuedCertificate => {
    switch (decision.act) {
      case 'refuse':
        throw refusalError(decision.refusal)
      case 'pending':
        throw inProgress(decision.serial)
      case 'repeat':
        return answerAgain(decision.serial, registrationOf(facts), csr)
    }
  }

  /** Runs a binding decision under the ledger's lock; the facts it saw come back with it. */
  const commit = async (prepared: Prepared, drafted: { draft: LintedDraft; decision: Decision } | null) => {
    let seen: IssuanceFacts | undefined
    const [decision] = await issuance.recordIntents<IssuanceRefusal>([
      {
        query: prepared.query,
        decide: facts => {
          seen = facts
          return bind(prepared, facts, drafted)
        },
      },
    ])
    if (decision === undefined || seen === undefined) throw new CaError('internal', 'the ledger gave no decision')
    return { decision, facts: seen }
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
  const sign = async (request: IssuanceRequest, draft: LintedDraft, of: CertificateOf): Promise<Uint8Array> => {
    try {
      // The signer verified the signature against the issuer's key before it let it go (SignerPort): once is enough.
      return await signer.sign({
        purpose: 'leaf',
        key: draft.issuer.keyLabel,
        tbs: draft.tbs,
        priority: priorityOf[request.operation],
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
    const signature = await sign(request, draft, of)
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
        {
          hint: 'ask again: the new request is decided under the present state',
        },
      )
    const record = { ...intent, ...justIssued, issuedAt: at }
    const { spiffeId, notGranted } = draft
    return { record, certificate, spiffeId, registration, notGranted, answer: 'new' }
  }

  const issue = async (request: IssuanceRequest): Promise<IssuedCertificate> => {
    const now = deps.clock.now()
    // Step 1 and 2: evidence before parsing, the signature check only for those who may have a certificate. Strangers do not get to the
    // clock either: being asked, it takes the present time for one at which something was signed.
    authenticate(request)
    deps.maintenance.check(request.context)
    deps.checkClock(now)
    const csr = parseCertificationRequest(request.csr)
    const prepared: Prepared = {
      request,
      csr,
      query: { evidence: request.evidence, keyHash: spkiHashHex(csr.spki.der), now },
    }
    const facts = issuance.facts(prepared.query)
    const early = decide(request, facts, prepared.query.keyHash, now)
    deps.reached('issuance 1')
    if (early.act !== 'start' && early.act !== 'continue') {
      const { decision, facts: binding } = await commit(prepared, null)
      if (decision.act === 'record') throw new CaError('internal', 'an intent without a draft')
      return settle(prepared, decision, binding)
    }
    if (request.possession !== 'checked by a front') checkCertificationRequestSignature(csr)
    deps.reached('issuance 2')
    checkSigner()
    return deps.pace.run(early, async () => {
      // Step 3.
      const { terms } = request
      const draft = drafter.draft({ registration: early.registration, instanceId: instanceOf(early), csr, now, terms })
      deps.reached('issuance 3')
      // Step 4.
      const { decision, facts: binding } = await commit(prepared, { draft, decision: early })
      deps.reached('issuance 4')
      if (decision.act === 'record') return release(request, draft, decision.intent, early.registration)
      return settle(prepared, decision, binding)
    })
  }

  /** Known to be down: 503 before step 4, or the queue of intents would become a queue of orphans. */
  const checkSigner = (): void => {
    if (signer.isConnected()) return
    throw new CaError('signer_unavailable', 'the signer is not running', { hint: 'agentca hsm status' })
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
