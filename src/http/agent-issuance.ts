// Enrolment, renewal and recovery over HTTP: from a body and a caller to evidence, from the authority's answer to an identity. What is
// granted, and why not, is decided in ca.
import { hash } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Request, RequestHandler, Response } from 'express'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { Metrics } from '../base/metrics.ts'
import { CaError, type IssuanceRefusalCode } from '../ca/errors.ts'
import type { Issuance, IssuanceOperation, IssuedCertificate } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import { type Admission, hasEvidenceLeaf } from '../enrol/admit.ts'
import type { WorkloadEvidence } from '../enrol/attestor.ts'
import { JwsError } from '../jws/errors.ts'
import { createReplayMemory } from '../jws/replay-memory.ts'
import { checkProof, proofWindowMs, readProof } from '../jws/verify-proof.ts'
import { type EnrolBody, enrolBody, parseWith, type RecoverBody, recoverBody, renewBody } from '../schema/api-bodies.ts'
import type { CertificatesPort, EvidenceQuery, TokensPort } from '../store/ports.ts'
import type { CertificateRecord, CertificateState, JoinToken } from '../store/records.ts'
import { sendJsonText } from './answer.ts'
import { markRecorded } from './answer-error.ts'
import { callOf, contextOf, isPossessionChecked, setCall } from './call.ts'
import { parseCsrText } from './csr-text.ts'
import { HttpError } from './errors.ts'
import { missingCertificate } from './front.ts'
import { createIdempotencyKeys } from './idempotency.ts'
import { identityJson, type LogIdentity } from './identity-answer.ts'
import type { InFlight } from './limits.ts'
import { shownChain } from './presented-certificate.ts'
import { exitCodeOf } from './problem.ts'

export interface AgentIssuanceDeps {
  readonly clock: Clock
  readonly metrics: Metrics
  readonly issuance: Pick<Issuance, 'issue'>
  readonly issuers: Issuers
  /** undefined: this server has no log key. */
  readonly logIdentity?: LogIdentity | undefined
  readonly tokens: Pick<TokensPort, 'byHash' | 'holderOf'>
  readonly certificates: Pick<CertificatesPort, 'list'>
  readonly inFlight: InFlight
  /** undefined: no attestors, and evidence is a join token. */
  readonly admission?: Pick<Admission, 'admit'> | undefined
  /** `publicUrl.api`: what a proof's audience begins with. */
  readonly publicUrl: string
}

export const recoverPath = '/v1/recover'
export const renewPath = '/v1/renew'
/** Evidence that `POST /v1/enroll` takes. */
export const evidenceTypes: readonly string[] = ['token', 'jwt', 'x509']

/** Proofs of known keys that can be in their window at once. */
const maxProofs = 100_000

/** Whether the decision under the ledger's lock refused, and with it wrote or counted the leaf. Complete by the compiler. */
const decidedInLedger: Readonly<Record<IssuanceRefusalCode, boolean>> = {
  // Refused before the request is even read, so that strangers do not get to the parser.
  token_unknown: false,
  token_expired: true,
  token_revoked: true,
  token_used_up: true,
  token_reuse: true,
  token_wrong_audience: true,
  registration_not_found: true,
  registration_held: true,
  registration_retired: true,
  registration_ended: true,
  owner_gone: true,
  instance_locked: true,
  instance_revoked: true,
  instance_limit_reached: true,
  certificate_unknown: true,
  certificate_expired: true,
  certificate_revoked: true,
  certificate_held: true,
  key_in_use: true,
  key_revoked: true,
  key_not_bound: true,
  key_reuse_not_allowed: true,
  lineage_conflict: true,
  recovery_not_allowed: true,
  recovery_limit_reached: true,
  policy_denied: true,
}

/** `not_released` has a leaf of its own, written instead of the release. */
export const hasLeaf = ({ code }: { readonly code: string }): boolean =>
  code === 'not_released' || (Object.hasOwn(decidedInLedger, code) && decidedInLedger[code as IssuanceRefusalCode])

interface Asked {
  readonly operation: IssuanceOperation
  readonly evidence: EvidenceQuery
  /** Who vouched for it. */
  readonly attestor?: string | undefined
  readonly csr: Uint8Array
  /** Whose idempotency key it is. */
  readonly holder: string
  readonly idempotencyKey: string | undefined
}

const notSupported = (supported: readonly string[]): HttpError =>
  new HttpError('evidence_type_not_supported', `expected evidence of type ${supported.join(', ')}`, {
    facts: { supported },
    hint: 'GET /v1/capabilities lists what this server knows',
  })

/** A kind of evidence that exists elsewhere deserves a better answer than a wrong member. */
const checkEvidenceType = (body: unknown, supported: readonly string[]): void => {
  const type = (body as { readonly evidence?: { readonly type?: unknown } } | null | undefined)?.evidence?.type
  if (typeof type === 'string' && !supported.includes(type)) throw notSupported(supported)
}

const workloadEvidence = (
  evidence: Exclude<EnrolBody['evidence'], { readonly type: 'token' }>,
  socket: Socket,
): WorkloadEvidence => {
  if (evidence.type === 'jwt') return evidence
  if (evidence.jws !== undefined) return { type: 'x509', jws: evidence.jws }
  const shown = shownChain(socket)
  if (shown !== null) return { type: 'x509', shown }
  throw new HttpError(
    'client_certificate_missing',
    'no certificate was shown on this connection, and there is no jws',
    {
      hint: 'connect with the certificate that is to be the evidence, or send a JWS of its key: docs/evidence.md',
    },
  )
}

const shownSerial = (response: Response): string => {
  const { caller } = callOf(response)
  if (caller.kind === 'holder' || caller.kind === 'peer') return caller.record.serial
  throw missingCertificate()
}

const createIssue = (deps: AgentIssuanceDeps) => {
  const idempotency = createIdempotencyKeys(deps.clock)

  const measured = async (operation: IssuanceOperation, work: () => Promise<IssuedCertificate>) => {
    const startedAt = deps.clock.monotonic()
    let outcome = 'failed'
    try {
      const issued = await work()
      outcome = issued.answer
      return issued
    } catch (error) {
      if (isAgentCaError(error)) {
        // 7 is "unavailable", 1 is "internal": everything else is the caller's.
        if (![1, 7].includes(exitCodeOf(error.code))) outcome = 'refused'
        if (hasLeaf(error)) markRecorded(error)
      }
      throw error
    } finally {
      const seconds = (deps.clock.monotonic() - startedAt) / 1000
      deps.metrics.observe('agentca_issuance_seconds', seconds, { operation, outcome })
    }
  }

  return (response: Response, asked: Asked): Promise<IssuedCertificate> => {
    const { operation, evidence, attestor, csr, holder, idempotencyKey } = asked
    const possession = isPossessionChecked(response) ? ('checked by a front' as const) : undefined
    const request = { operation, evidence, attestor, csr, possession, context: contextOf(response) }
    const place = operation === 'enrol' ? deps.inFlight.run : deps.inFlight.renew
    return place(() =>
      idempotency.run(holder, idempotencyKey, csr, () => measured(operation, () => deps.issuance.issue(request))),
    )
  }
}

/** One for a server: it remembers proofs and idempotency keys. */
export interface AgentIssuance extends Readonly<Record<'enrol' | 'renew' | 'recover', RequestHandler>> {
  /** For other protocols, which read requests and write answers of their own: evidence and DER in, a certificate out. */
  byToken(response: Response, asked: TokenRequest): Promise<IssuedCertificate>
  /** By the certificate of the connection. @throws HttpError client_certificate_missing */
  byCertificate(response: Response, csr: Uint8Array): Promise<IssuedCertificate>
}

export interface TokenRequest {
  readonly token: string
  readonly csr: Uint8Array
  readonly idempotencyKey?: string | undefined
}

export const createAgentIssuance = (deps: AgentIssuanceDeps): AgentIssuance => {
  const supported = deps.admission === undefined ? ['token'] : evidenceTypes
  const issue = createIssue(deps)
  // A proof can be used from 60 s before to 60 s after its time.
  const startedAt = Math.floor(deps.clock.now() / 1000) * 1000
  const proofs = createReplayMemory(() => deps.clock.monotonic(), 2 * proofWindowMs, maxProofs)

  /** The newest certificate of a key, if possible one that was released. Proofs of other keys are not worth checking, or remembering. */
  const certificateOfKey = (keyHash: string): CertificateRecord => {
    const newest = (states?: readonly CertificateState[]) =>
      deps.certificates.list({ keyHash, limit: 1, ...(states === undefined ? {} : { states }) }).rows[0]
    const found = newest(['issued']) ?? newest()
    if (found !== undefined) return found
    throw new CaError('certificate_unknown', 'the proved key was never registered here', {
      hint: 'enrol again with fresh evidence',
    })
  }

  /**
   * A recovery whose answer was lost is asked for again as it was: the decision knows it by its keys and repeats the answer. Of a renewal
   * the ledger would think that an older certificate is in use, once its successor has renewed, and lock: nobody must be able to cause that
   * by sending again what he saw.
   */
  const takeProof = (path: string, jws: string, { keyHash, jti }: { keyHash: string; jti: string }): void => {
    const taken = proofs.take(`${keyHash} ${jti}`, hash('sha256', jws, 'hex'))
    if (taken === 'again' && path === recoverPath) return
    if (taken === 'full') throw new HttpError('overloaded', 'too many proofs at once')
    if (taken !== 'fresh')
      throw new HttpError('jws_replayed', 'this proof was used before', {
        hint: 'sign a new proof, with a new jti, for each request',
      })
  }

  /** From here on the request speaks for the holder of the proved key. @returns the certificate that the key stands for */
  const prove = async (response: Response, jws: string, asked: { path: string; csr: Uint8Array }) => {
    const unchecked = readProof(jws)
    const certificate = certificateOfKey(unchecked.keyHash)
    const expected = { audience: deps.publicUrl + asked.path, csr: asked.csr, now: deps.clock.now() }
    const { keyHash, jti, madeAt } = await checkProof(unchecked, expected)
    // Which proofs were used before is not known; of a recovery it does no harm, see takeProof.
    if (asked.path === renewPath && madeAt < startedAt)
      throw new JwsError('jws_not_current', 'the proof was made before this server started', {
        hint: 'set the clock, and sign a new proof for each request',
        facts: { now: Math.floor(expected.now / 1000) },
      })
    const { registrationId } = certificate
    setCall(response, { ...callOf(response), evidence: { who: `key:${keyHash}`, registrationId } })
    takeProof(asked.path, jws, { keyHash, jti })
    return certificate
  }

  const answer = (response: Response, issued: IssuedCertificate): void =>
    sendJsonText(response, issued.answer === 'new' ? 201 : 200, identityJson(issued, deps, deps.clock.now()))

  const byToken: AgentIssuance['byToken'] = (response, { token: text, csr, idempotencyKey }) => {
    const tokenHash = hash('sha256', text, 'hex')
    const token = deps.tokens.holderOf(tokenHash)
    if (token !== null)
      setCall(response, {
        ...callOf(response),
        evidence: { who: `token:${token.id}`, registrationId: token.registrationId },
      })
    const evidence = { kind: 'token', tokenHash } as const
    return issue(response, { operation: 'enrol', evidence, csr, holder: `token ${tokenHash}`, idempotencyKey })
  }

  const renewOf = (response: Response, serial: string, csr: Uint8Array, idempotencyKey: string | undefined) => {
    const evidence = { kind: 'renewal', presentedSerial: serial } as const
    return issue(response, { operation: 'renew', evidence, csr, holder: `serial ${serial}`, idempotencyKey })
  }

  const admit = async (response: Response, evidence: WorkloadEvidence, csr: Uint8Array): Promise<JoinToken> => {
    if (deps.admission === undefined) throw notSupported(['token'])
    return deps.admission.admit(evidence, { csr, context: contextOf(response) }).catch(error => {
      if (hasEvidenceLeaf(error)) markRecorded(error)
      throw error
    })
  }

  /** Beside a proof: what the ledger knows the evidence by. */
  const freshHash = async (
    request: Request,
    response: Response,
    evidence: RecoverBody['evidence'],
    csr: Uint8Array,
  ): Promise<string | null> => {
    if (evidence === undefined) return null
    if (evidence.type === 'token') return hash('sha256', evidence.token, 'hex')
    return (await admit(response, workloadEvidence(evidence, request.socket), csr)).hash
  }

  const byAttestor = async (
    response: Response,
    evidence: WorkloadEvidence,
    { csr, idempotencyKey }: Pick<TokenRequest, 'csr' | 'idempotencyKey'>,
  ): Promise<IssuedCertificate> => {
    const token = await admit(response, evidence, csr)
    const { registrationId } = token
    setCall(response, { ...callOf(response), evidence: { who: `token:${token.id}`, registrationId } })
    return issue(response, {
      operation: 'enrol',
      evidence: { kind: 'token', tokenHash: token.hash },
      attestor: token.evidence?.attestor,
      csr,
      holder: `token ${token.hash}`,
      idempotencyKey,
    })
  }

  return {
    byToken,
    byCertificate: (response, csr) => renewOf(response, shownSerial(response), csr, undefined),
    enrol: async (request, response) => {
      checkEvidenceType(request.body, supported)
      const body = parseWith(enrolBody, request.body, 'body')
      const csr = parseCsrText(body.csr)
      const { idempotencyKey } = body
      const { evidence } = body
      answer(
        response,
        evidence.type === 'token'
          ? await byToken(response, { token: evidence.token, csr, idempotencyKey })
          : await byAttestor(response, workloadEvidence(evidence, request.socket), { csr, idempotencyKey }),
      )
    },
    renew: async (request, response) => {
      const body = parseWith(renewBody, request.body, 'body')
      // Where a proxy ended TLS there is a proof instead; strangers with neither do not get to the parser of requests.
      const proof = body.jws ?? null
      const shown = proof === null ? shownSerial(response) : ''
      const csr = parseCsrText(body.csr)
      const serial = proof === null ? shown : (await prove(response, proof, { path: renewPath, csr })).serial
      answer(response, await renewOf(response, serial, csr, body.idempotencyKey))
    },
    recover: async (request, response) => {
      checkEvidenceType(request.body, supported)
      const body = parseWith(recoverBody, request.body, 'body')
      const csr = parseCsrText(body.csr)
      const { keyHash } = await prove(response, body.jws, { path: recoverPath, csr })
      const issued = await issue(response, {
        operation: 'recover',
        evidence: {
          kind: 'recovery',
          provedKeyHash: keyHash,
          tokenHash: await freshHash(request, response, body.evidence, csr),
        },
        csr,
        holder: `key ${keyHash}`,
        idempotencyKey: undefined,
      })
      answer(response, issued)
    },
  }
}
