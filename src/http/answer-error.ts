// The last middleware: anything that was thrown becomes a problem document, refusals become audit leaves before they are answered, and
// faults of our own go to the log under the request's id.
import type { ErrorRequestHandler, Request, Response } from 'express'
import { requestRefused, type Subject } from '../audit/events.ts'
import type { Sampler } from '../audit/sampler.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import type { AuditPort, RegistrationsPort } from '../store/ports.ts'
import { sendProblem } from './answer.ts'
import { maxDiscardedBytes } from './body.ts'
import { type Caller, callOf, contextOf } from './call.ts'
import { HttpError } from './errors.ts'
import { isEstPath, sendEstProblem } from './est-answer.ts'
import { newRequestId } from './front.ts'
import { type Problem, problemOf, retryAfterSeconds } from './problem.ts'

export interface ErrorAnswerDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly audit: Pick<AuditPort, 'append'>
  readonly registrations: Pick<RegistrationsPort, 'byId'>
  readonly sampler: Pick<Sampler, 'admit'>
  /** 0 to 1, for the jitter of Retry-After. */
  readonly random: () => number
}

// Dies with its error.
const recorded = new WeakSet<object>()

/** Says that the refusal has its leaf already, or was counted by the sampler. */
export const markRecorded = (error: unknown): void => {
  if (typeof error === 'object' && error !== null) recorded.add(error)
}

/** Nobody was refused anything: there is no such thing, or the same request is being answered right now. */
const isRefusal = ({ status, code }: Problem): boolean =>
  status < 500 && status !== 404 && status !== 405 && code !== 'issuance_in_progress'

/** Leaves are kept for ever: enough of the reason to understand it, whatever a caller put into it. */
const detailOf = (error: unknown): string => messageOf(error).slice(0, 200).toWellFormed()

/** Method and path, as the caller wrote them. */
export const operationOf = (request: Request): string =>
  `${request.method} ${request.baseUrl}${request.path}`.slice(0, 120)

const subjectOf = (deps: ErrorAnswerDeps, response: Response): Subject | null => {
  const { caller, evidence } = callOf(response)
  if (caller.kind === 'peer') return caller.registration
  if (caller.kind === 'holder') return deps.registrations.byId(caller.record.registrationId)
  return evidence === undefined ? null : deps.registrations.byId(evidence.registrationId)
}

const isOperator = (caller: Caller): boolean =>
  caller.kind === 'local' || (caller.kind === 'peer' && caller.registration.kind === 'operator')

/** The leaf of a refusal that has none yet, sampled where anybody could ask for ever. Never throws: a refusal stays what it is. */
export const recordRefusal = async (
  deps: ErrorAnswerDeps,
  refused: { readonly error: unknown; readonly code: string },
  request: Request,
  response: Response,
): Promise<void> => {
  if (recorded.has(refused.error as object)) return
  await audit(deps, refused, request, response).catch(cause =>
    deps.log.error({ requestId: callOf(response).requestId, err: cause }, 'a refusal was not recorded'),
  )
}

const audit = async (
  deps: ErrorAnswerDeps,
  { error, code }: { readonly error: unknown; readonly code: string },
  request: Request,
  response: Response,
) => {
  const { caller, source } = callOf(response)
  const subject = subjectOf(deps, response)
  const context = { ...contextOf(response), at: deps.clock.now() }
  // The limit on requests bounds whom it lets through. What an operator was refused is kept whole; everybody else could ask for ever.
  const limited = code === 'rate_limited' || code === 'issuance_rate_limited'
  const name = subject === null || code === 'rate_limited' ? undefined : context.who
  if ((limited || !isOperator(caller)) && !deps.sampler.admit(code, source, name)) return
  const facts = { op: operationOf(request), code, detail: detailOf(error) }
  await deps.audit.append([requestRefused(context, subject, facts)])
}

/** Where the rest of a body will never come, or is too much to read for nothing, the connection ends with the answer. */
export const closesConnection = (request: Request, { code }: { readonly code: string }): boolean => {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers
  const endless = encoding !== undefined || Number(length) > maxDiscardedBytes
  return !request.complete && (endless || code === 'request_timeout')
}

/** Express' own refusals: a path whose escapes cannot be decoded names nothing here. */
const translated = (error: unknown): unknown =>
  error instanceof URIError ? new HttpError('route_not_found', 'the path cannot be read', { cause: error }) : error

const report = (deps: ErrorAnswerDeps, error: unknown, problem: Problem, request: Request): void => {
  const { requestId, code, status } = problem
  const fields = { requestId, code, status, op: operationOf(request), err: error }
  if (status < 500) deps.log.debug(fields, 'refused')
  else if (isAgentCaError(error) && status === 503) deps.log.warn(fields, 'unavailable')
  else deps.log.error(fields, 'failed')
}

export const createErrorAnswer =
  (deps: ErrorAnswerDeps): ErrorRequestHandler =>
  async (thrown: unknown, request, response, _next) => {
    const error = translated(thrown)
    // A fault before the front ran still gets an id that finds it in the log.
    response.locals.call ??= { requestId: newRequestId(), source: 'unknown', caller: { kind: 'anonymous' } }
    const problem = problemOf(error, callOf(response).requestId)
    report(deps, error, problem, request)
    deps.metrics.count('agentca_requests_refused_total', { code: problem.code })
    if (isRefusal(problem) && typeof error === 'object')
      await recordRefusal(deps, { error, code: problem.code }, request, response)
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    const wait = retryAfterSeconds(problem, deps.random)
    if (wait !== null) response.setHeader('Retry-After', wait)
    if (closesConnection(request, problem)) response.setHeader('Connection', 'close')
    if (isEstPath(request.path)) sendEstProblem(request, response, problem)
    else sendProblem(response, problem.status, problem)
  }
