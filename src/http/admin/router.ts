// `/v1/admin`: the routes of the table, each authorized, validated and handled the same way. What is thrown becomes a problem document
// and an audit leaf in answer-error.ts.
import { type Request, type Response, Router } from 'express'
import { type AdminRoute, type AdminRouteName, adminRoutes } from '../../schema/admin-api.ts'
import { parseWith } from '../../schema/api-bodies.ts'
import { SchemaError } from '../../schema/errors.ts'
import { sendJson } from '../answer.ts'
import { callOf, contextOf } from '../call.ts'
import { HttpError } from '../errors.ts'
import { acmeHandlers } from './acme.ts'
import { attestorHandlers } from './attestors.ts'
import { auditHandlers } from './audit.ts'
import { type Actor, authorize } from './authorize.ts'
import { certificateHandlers } from './certificates.ts'
import type { AdminDeps } from './deps.ts'
import { eventHandlers } from './events.ts'
import { feedHandlers } from './feed.ts'
import type { AdminCall, Handlers } from './handler.ts'
import { hsmHandlers } from './hsm.ts'
import { instanceHandlers } from './instances.ts'
import { issuerHandlers } from './issuers.ts'
import { monitorHandlers } from './monitor.ts'
import { operationHandlers } from './operations.ts'
import { operatorRecoveryHandlers } from './operator-recovery.ts'
import { orphanHandlers } from './orphans.ts'
import { ownerHandlers } from './owners.ts'
import { policyHandlers } from './policies.ts'
import { registrationHandlers } from './registrations.ts'
import { tokenHandlers } from './tokens.ts'
import { whyHandlers } from './why.ts'

/** Complete by its type: a route of the table without a handler does not compile. */
export const createHandlers = (deps: AdminDeps): Handlers => ({
  ...operationHandlers(deps),
  ...ownerHandlers(deps),
  ...registrationHandlers(deps),
  ...instanceHandlers(deps),
  ...operatorRecoveryHandlers(deps),
  ...tokenHandlers(deps),
  ...acmeHandlers(deps),
  ...attestorHandlers(deps),
  ...orphanHandlers(deps),
  ...certificateHandlers(deps),
  ...issuerHandlers(deps),
  ...eventHandlers(deps),
  ...feedHandlers(deps),
  ...policyHandlers(deps),
  ...whyHandlers(deps),
  ...monitorHandlers(deps),
  ...hsmHandlers(deps),
  ...auditHandlers(deps),
})

/** A handler whose route is only known when it runs; its values were validated by that very route's schemas. */
type AnyHandler = (call: AdminCall<AdminRouteName>) => unknown

const routeNames = Object.keys(adminRoutes) as AdminRouteName[]

/** @throws SchemaError with every fault */
const inputOf = (route: AdminRoute, request: Request): Pick<AdminCall<AdminRouteName>, 'body' | 'query' | 'params'> => {
  const unknown = route.query === null ? Object.keys(request.query) : []
  if (unknown.length > 0)
    throw new SchemaError(
      'query',
      unknown.map(path => ({ path, problem: 'unknown key' })),
      { code: 'request_invalid' },
    )
  return {
    params: request.params as never,
    body: (route.body === null ? undefined : parseWith(route.body, request.body ?? {}, 'body')) as never,
    query: (route.query === null ? undefined : parseWith(route.query, request.query, 'query')) as never,
  }
}

export const createAdminRouter = (deps: AdminDeps): Router => {
  const handlers = createHandlers(deps)
  const circumstances = {
    mode: deps.mode,
    hasActiveOperator: () => deps.ledger.registrations.list({ kind: 'operator', state: 'active', limit: 1 }).length > 0,
  }

  const actorOf = (name: AdminRouteName, response: Response): Actor => {
    const decision = authorize(name, callOf(response).caller, circumstances)
    if (decision.allow) return decision.actor
    throw new HttpError(decision.code, decision.message, { hint: decision.hint })
  }

  const serve = async (name: AdminRouteName, request: Request, response: Response): Promise<void> => {
    const actor = actorOf(name, response)
    const call = { ...inputOf(adminRoutes[name], request), actor, context: contextOf(response) }
    sendJson(response, 200, await (handlers[name] as AnyHandler)(call as AdminCall<AdminRouteName>))
  }

  const router = Router({ caseSensitive: true, strict: true })
  const methods = new Map<string, string[]>()
  for (const name of routeNames) {
    const { method, path } = adminRoutes[name]
    const handle = (request: Request, response: Response): Promise<void> => serve(name, request, response)
    if (method === 'GET') router.get(path, handle)
    else router.post(path, handle)
    methods.set(path, [...(methods.get(path) ?? []), method])
  }
  for (const [path, allowed] of methods)
    router.all(path, (_request, response) => {
      response.setHeader('Allow', allowed.join(', '))
      throw new HttpError('method_not_allowed', `expected ${allowed.join(' or ')}`)
    })
  return router
}
