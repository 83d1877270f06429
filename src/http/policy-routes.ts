// `GET /v1/policies`: the policies in force, for a service that evaluates conditions on its calls: what may decide about its own actions,
// and nothing else. When they change, the feed says so.
import type { IRouter, RequestHandler } from 'express'
import type { PolicyAuthority } from '../ca/scopes.ts'
import { type ServedPolicies, servedPolicies } from '../policy/cedar-served.ts'
import { methodNotAllowed } from './agent-api.ts'
import { sendJson } from './answer.ts'
import { HttpError } from './errors.ts'
import { peerOf } from './front.ts'

export const policyPaths = { policies: '/v1/policies' } as const

const serve =
  (policies: Pick<PolicyAuthority, 'active'>): RequestHandler =>
  (_request, response) => {
    const { registration } = peerOf(response)
    if (registration.kind !== 'service')
      throw new HttpError('service_only', 'only services evaluate conditions, each those of its own actions')
    const active = policies.active()
    const answer: ServedPolicies =
      active === null
        ? { version: 0, hash: '', statements: [] }
        : servedPolicies(active.version, active.evaluator.policies, registration.name)
    sendJson(response, 200, answer)
  }

export const mountPolicies = (router: IRouter, policies: Pick<PolicyAuthority, 'active'>): void => {
  router.route(policyPaths.policies).get(serve(policies)).all(methodNotAllowed('GET, HEAD'))
}
