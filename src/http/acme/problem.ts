// Errors of ACME as their clients read them (RFC 8555 §6.7): the URN of the type, the reason, a subproblem for each name; and which HTTP
// status each has, checked to be complete by the compiler. Every refusal becomes an audit leaf first.
import type { ErrorRequestHandler, Request, Response } from 'express'
import { type JsonObject, problemAnswer, problemTypePrefix } from '../../acme/answers.ts'
import { AcmeError, type AcmeErrorCode } from '../../acme/errors.ts'
import type { Nonces } from '../../acme/nonces.ts'
import { isAgentCaError } from '../../base/errors.ts'
import { hasLeaf } from '../agent-issuance.ts'
import { sendProblem } from '../answer.ts'
import { closesConnection, type ErrorAnswerDeps, operationOf, recordRefusal } from '../answer-error.ts'
import { callOf } from '../call.ts'
import { HttpError } from '../errors.ts'
import { newRequestId } from '../front.ts'
import { jitteredSeconds, problemOf } from '../problem.ts'

interface Row {
  readonly status: number
  /** Where the RFC has no type of that name. */
  readonly type?: string
}

const table: Readonly<Record<AcmeErrorCode, Row>> = {
  accountDoesNotExist: { status: 400 },
  accountEnded: { status: 401, type: 'unauthorized' },
  alreadyReplaced: { status: 409 },
  alreadyRevoked: { status: 400 },
  badCSR: { status: 400 },
  badNonce: { status: 400 },
  badPublicKey: { status: 400 },
  badRevocationReason: { status: 400 },
  badSignatureAlgorithm: { status: 400 },
  caa: { status: 403 },
  compound: { status: 400 },
  connection: { status: 400 },
  dns: { status: 400 },
  externalAccountRequired: { status: 403 },
  incorrectResponse: { status: 403 },
  invalidContact: { status: 400 },
  invalidProfile: { status: 400 },
  keyInUse: { status: 409, type: 'malformed' },
  malformed: { status: 400 },
  notFound: { status: 404, type: 'malformed' },
  orderNotReady: { status: 403 },
  rateLimited: { status: 429 },
  rejectedIdentifier: { status: 400 },
  serverInternal: { status: 503 },
  tls: { status: 400 },
  unauthorized: { status: 403 },
  unsupportedContact: { status: 400 },
  unsupportedIdentifier: { status: 400 },
  userActionRequired: { status: 403 },
}

interface Answer {
  readonly status: number
  readonly code: string
  readonly document: JsonObject
  readonly retryAfterSeconds: number | null
}

/** What other layers refuse (sizes, limits, certificates on the connection) keeps its status and gets the nearest type. */
const typeOfStatus = (status: number): string => {
  if (status === 429) return 'rateLimited'
  if (status >= 500) return 'serverInternal'
  return status === 401 || status === 403 ? 'unauthorized' : 'malformed'
}

const retryAfterOf = (
  status: number,
  facts: Readonly<Record<string, unknown>>,
  random: () => number,
): number | null => {
  if (status !== 429 && status !== 503) return null
  const known = facts.retryAfterSeconds
  return (typeof known === 'number' ? known : 0) + jitteredSeconds(random)
}

const answerOf = (error: unknown, requestId: string, random: () => number): Answer => {
  if (error instanceof AcmeError) {
    const { status, type = error.code } = table[error.code]
    const { message, hint, subproblems, algorithms, facts } = error
    const detail = hint === undefined ? message : `${message} (${hint})`
    const known = { ...problemAnswer({ type, detail, subproblems }), status, requestId }
    const document = algorithms === undefined ? known : { ...known, algorithms }
    return { status, code: error.code, document, retryAfterSeconds: retryAfterOf(status, facts, random) }
  }
  const { status, detail, hint, code } = problemOf(error, requestId)
  const type = problemTypePrefix + typeOfStatus(status)
  const facts = isAgentCaError(error) ? error.facts : {}
  const document = { type, detail: hint === undefined ? detail : `${detail} (${hint})`, status, requestId }
  return { status, code, document, retryAfterSeconds: retryAfterOf(status, facts, random) }
}

/** Issuance has written the leaf of what it refused under the ledger's lock. */
const isRecorded = (error: unknown): boolean => {
  const cause = error instanceof AcmeError ? error.cause : error
  return isAgentCaError(cause) && cause.name === 'CaError' && hasLeaf(cause)
}

/** Nobody was refused anything: a nonce that was used up is asked for again, as the protocol foresees, and is counted like others. */
const isRefusal = ({ status }: Answer): boolean => status < 500 && status !== 404 && status !== 405

/** Express' own refusals: a path whose escapes cannot be decoded names nothing here. */
const translated = (error: unknown): unknown =>
  error instanceof URIError ? new HttpError('route_not_found', 'the path cannot be read', { cause: error }) : error

const report = (deps: ErrorAnswerDeps, error: unknown, answer: Answer, request: Request, response: Response): void => {
  const { requestId } = callOf(response)
  const fields = { requestId, code: answer.code, status: answer.status, op: operationOf(request), err: error }
  if (answer.status < 500) deps.log.debug(fields, 'refused')
  else if (isAgentCaError(error) && answer.status === 503) deps.log.warn(fields, 'unavailable')
  else deps.log.error(fields, 'failed')
}

export const createAcmeErrorAnswer =
  (deps: ErrorAnswerDeps & { readonly nonces: Nonces; readonly indexLink: string }): ErrorRequestHandler =>
  async (thrown: unknown, request, response, _next) => {
    const error = translated(thrown)
    response.locals.call ??= { requestId: newRequestId(), source: 'unknown', caller: { kind: 'anonymous' } }
    const answer = answerOf(error, callOf(response).requestId, deps.random)
    report(deps, error, answer, request, response)
    deps.metrics.count('agentca_requests_refused_total', { code: answer.code })
    if (isRefusal(answer) && !isRecorded(error))
      await recordRefusal(deps, { error, code: `acme_${answer.code}` }, request, response)
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    // RFC 8555 §6.5: whoever was refused for its nonce needs another one.
    if (request.method === 'POST') response.setHeader('Replay-Nonce', deps.nonces.create())
    response.appendHeader('Link', deps.indexLink)
    if (answer.retryAfterSeconds !== null) response.setHeader('Retry-After', answer.retryAfterSeconds)
    if (error instanceof AcmeError && error.location !== undefined) response.setHeader('Location', error.location)
    if (closesConnection(request, answer)) response.setHeader('Connection', 'close')
    sendProblem(response, answer.status, answer.document)
  }
