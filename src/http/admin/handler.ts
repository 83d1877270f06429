// The shape of a route's handler: validated values in, the answer of the contract out. Every route of the table has exactly one.
import type { RequestContext } from '../../ca/issuance.ts'
import type { AdminAnswers, AdminBody, AdminParams, AdminQuery, AdminRouteName } from '../../schema/admin-api.ts'
import type { Actor } from './authorize.ts'

export interface AdminCall<N extends AdminRouteName> {
  readonly params: AdminParams<N>
  readonly body: AdminBody<N>
  readonly query: AdminQuery<N>
  readonly actor: Actor
  readonly context: RequestContext
}

export type Handler<N extends AdminRouteName> = (call: AdminCall<N>) => AdminAnswers[N] | Promise<AdminAnswers[N]>

export type Handlers = { readonly [N in AdminRouteName]: Handler<N> }
