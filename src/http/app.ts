// The Express applications: the TLS face for agents and operators, the socket face for the operator of this machine. Four middlewares
// and the routes; Express does nothing by itself that nobody asked for.
import type { RequestListener } from 'node:http'
import express, { type RequestHandler, type Router } from 'express'
import type { Acme } from '../acme/acme.ts'
import { acmePaths } from '../acme/urls.ts'
import type { PolicyAuthority } from '../ca/scopes.ts'
import type { Feed } from '../feed/feed.ts'
import type { Monitor } from '../monitor/monitor.ts'
import { createAcmeErrorAnswer } from './acme/problem.ts'
import { createAcmeRouter, indexLinkOf } from './acme/router.ts'
import { agentPaths, decidedLater, hotPosts, mountAgentApi, takesForeign } from './agent-api.ts'
import { type AgentIssuanceDeps, createAgentIssuance } from './agent-issuance.ts'
import { createErrorAnswer, type ErrorAnswerDeps } from './answer-error.ts'
import { createJsonBody, createRawBody, maxPoliciesBodyBytes } from './body.ts'
import { decisionPaths, mountDecisions } from './decisions.ts'
import { HttpError } from './errors.ts'
import { type EstDeps, mountEst } from './est.ts'
import { estPaths } from './est-answer.ts'
import { feedPaths, mountFeed } from './feed-routes.ts'
import { createFront, type FrontDeps, localFront } from './front.ts'
import { createHotRoutes } from './hot-routes.ts'
import { type LeaverDeps, leaverPaths, mountLeaver } from './leaver.ts'
import { createMeter } from './meter.ts'
import { mountPolicies, policyPaths } from './policy-routes.ts'

export type AppDeps = FrontDeps &
  AgentIssuanceDeps &
  ErrorAnswerDeps & {
    /** undefined: this server has no feed. */
    readonly feed?: Pick<Feed, 'subscribe' | 'acknowledge' | 'leave'> | undefined
    /** undefined: this server does not speak ACME. */
    readonly acme?: Acme | undefined
    /** undefined: this server does not speak EST. */
    readonly est?: EstDeps['est'] | undefined
    /** undefined: nobody is watched. */
    readonly monitor?: Pick<Monitor, 'report'> | undefined
    /** undefined: no identity provider is heard. */
    readonly leaver?: LeaverDeps | undefined
    /** undefined: nobody evaluates conditions. */
    readonly policies?: Pick<PolicyAuthority, 'active'> | undefined
  }

export interface AppOptions {
  readonly face: 'tls' | 'socket'
  readonly deps: AppDeps
  /** Mounted at `/v1/admin`, behind the front, with `request.body` parsed. */
  readonly adminRouter: Router | null
  readonly bodyDeadlineMs?: number
}

/** Those without parameters. */
const acmeRoutes = Object.fromEntries(Object.entries(acmePaths).map(([name, path]) => [name, `/acme${path}`]))

export const createApp = ({ face, deps, adminRouter, bodyDeadlineMs }: AppOptions): RequestListener => {
  const app = express()
  app.disable('x-powered-by')
  app.set('etag', false)
  // Who calls is what TLS says, never a header.
  app.set('trust proxy', false)
  app.set('query parser', 'simple')
  // One path, one route: the front decides by the path too.
  app.enable('case sensitive routing')
  app.enable('strict routing')

  const jsonBody = createJsonBody(bodyDeadlineMs)
  const knownPaths = {
    ...agentPaths,
    ...feedPaths,
    ...decisionPaths,
    ...policyPaths,
    ...leaverPaths,
    ...estPaths,
    ...acmeRoutes,
  }
  const meter = createMeter(deps, new Set<string>(Object.values(knownPaths)))
  const front = face === 'tls' ? createFront(deps, decidedLater, takesForeign) : localFront
  const answerError = createErrorAnswer(deps)
  const issuance = face === 'tls' ? createAgentIssuance(deps) : null
  app.use(meter)
  app.use(front)
  if (issuance !== null) mountAgentApi(app, deps, issuance, jsonBody)
  if (issuance !== null && deps.est !== undefined) mountEst(app, { ...deps, est: deps.est }, issuance, bodyDeadlineMs)
  if (face === 'tls' && deps.feed !== undefined) mountFeed(app, deps.feed, jsonBody)
  if (face === 'tls' && deps.monitor !== undefined) mountDecisions(app, deps.monitor, jsonBody)
  if (face === 'tls' && deps.policies !== undefined) mountPolicies(app, deps.policies)
  if (face === 'tls' && deps.leaver !== undefined) mountLeaver(app, deps.leaver, createRawBody(bodyDeadlineMs))
  const acme = face === 'tls' ? deps.acme : undefined
  if (acme !== undefined) {
    app.use('/acme', createAcmeRouter({ acme, inFlight: deps.inFlight, limits: deps.limits, bodyDeadlineMs }))
    app.use('/acme', createAcmeErrorAnswer({ ...deps, nonces: acme.nonces, indexLink: indexLinkOf(acme) }))
  }
  const policiesBody = createJsonBody(bodyDeadlineMs, maxPoliciesBodyBytes)
  const adminBody: RequestHandler = (request, response, next) =>
    (/^\/policies(?:\/plan)?$/.test(request.path) ? policiesBody : jsonBody)(request, response, next)
  if (adminRouter !== null) app.use('/v1/admin', adminBody, adminRouter)
  app.use(() => {
    throw new HttpError('route_not_found', 'there is nothing at this path', {
      hint: 'GET /v1/capabilities lists what this server knows',
    })
  })
  app.use(answerError)
  if (issuance === null) return app
  return createHotRoutes({ before: [meter, front, jsonBody], posts: hotPosts(issuance), answerError, others: app })
}
