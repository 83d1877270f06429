// The routes of the agents' API (architecture.md, HTTP). What they have in common is in the front, what they do in the files that they
// name.
import type { IRouter, RequestHandler } from 'express'
import { type AgentIssuance, type AgentIssuanceDeps, recoverPath, renewPath } from './agent-issuance.ts'
import { sendJson, sendPem } from './answer.ts'
import { capabilities } from './capabilities.ts'
import { HttpError } from './errors.ts'
import { estPaths } from './est-answer.ts'
import { peerOf } from './front.ts'
import { selfAnswer } from './self-answer.ts'

/** Renewal's own decision answers for every state of its caller (ca/decide-issuance.ts), and audits what it refuses. */
export const decidedLater: ReadonlySet<string> = new Set([renewPath, estPaths.simplereenroll])

/** Enrolment takes what attestors vouch for (enrol/x509.ts). */
export const takesForeign: ReadonlySet<string> = new Set(['/v1/enroll'])

/** All without parameters; in the order in which they are tried, the hot ones first. */
export const agentPaths = {
  renew: renewPath,
  enroll: '/v1/enroll',
  recover: recoverPath,
  self: '/v1/self',
  bundle: '/v1/bundle',
  capabilities: '/v1/capabilities',
} as const

/** @param allow the methods that the path has, as the Allow header wants them */
export const methodNotAllowed =
  (allow: string): RequestHandler =>
  (request, response) => {
    response.setHeader('Allow', allow)
    throw new HttpError('method_not_allowed', `expected ${allow}, got ${request.method}`)
  }

/** What agents ask for all the time, by the path that it is posted to. */
export const hotPosts = ({ enrol, renew }: AgentIssuance): ReadonlyMap<string, RequestHandler> =>
  new Map([
    [agentPaths.renew, renew],
    [agentPaths.enroll, enrol],
  ])

export const mountAgentApi = (
  router: IRouter,
  deps: Pick<AgentIssuanceDeps, 'clock' | 'issuers' | 'logIdentity'>,
  { enrol, renew, recover }: AgentIssuance,
  jsonBody: RequestHandler,
): void => {
  const post = (path: string, handler: RequestHandler): void => {
    router.route(path).post(jsonBody, handler).all(methodNotAllowed('POST'))
  }
  const get = (path: string, handler: RequestHandler): void => {
    router.route(path).get(handler).all(methodNotAllowed('GET, HEAD'))
  }
  post(agentPaths.renew, renew)
  post(agentPaths.enroll, enrol)
  post(agentPaths.recover, recover)
  get(agentPaths.self, (_request, response) =>
    sendJson(response, 200, selfAnswer(peerOf(response), deps, deps.clock.now())),
  )
  get(agentPaths.bundle, (_request, response) => sendPem(response, deps.issuers.bundlePem()))
  get(agentPaths.capabilities, (_request, response) => sendJson(response, 200, capabilities))
}
