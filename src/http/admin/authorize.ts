// Who may do what through the admin API: one function of route, caller and mode. What it does not allow is denied.
import { type AdminRouteName, adminRoutes, type OperatorRoleName, operatorRoles } from '../../schema/admin-api.ts'
import type { Registration } from '../../store/records.ts'
import type { Caller } from '../call.ts'
import { HttpError } from '../errors.ts'
import type { Mode } from './deps.ts'

/** An operator, as a route sees it. */
export interface Actor {
  /** `local` on the admin socket, else the operator's name. */
  readonly name: string
  readonly role: OperatorRoleName
}

export type Authorization =
  | { readonly allow: true; readonly actor: Actor }
  | {
      readonly allow: false
      readonly code: 'operator_only' | 'role_insufficient' | 'operator_certificate_needed' | 'socket_only'
      readonly message: string
      readonly hint: string
    }

export interface Circumstances {
  readonly mode: Mode
  /** Whether anybody could act as an operator. Asked only for the socket's one mutation in production. */
  readonly hasActiveOperator: () => boolean
}

/** Roles grow: each may do what the ones before it may. */
const covers = (has: OperatorRoleName, needed: OperatorRoleName): boolean =>
  operatorRoles.indexOf(has) >= operatorRoles.indexOf(needed)

const operatorOnly: Authorization = {
  allow: false,
  code: 'operator_only',
  message: 'only an active operator may do this',
  hint: 'connect with an operator certificate (agentca enroll with a token for an operator)',
}

const insufficient = (has: OperatorRoleName, needed: OperatorRoleName): Authorization => ({
  allow: false,
  code: 'role_insufficient',
  message: `expected role ${needed} or above, got ${has}`,
  hint: `ask an operator with role ${needed}`,
})

const allow = (name: string, role: OperatorRoleName): Authorization => ({ allow: true, actor: { name, role } })

/** What an operator needs no certificate for has no place on the network. */
const socketOnly: Authorization = {
  allow: false,
  code: 'socket_only',
  message: 'only on the CA’s own machine, through the admin socket',
  hint: 'agentca token create --operator NAME does the same for an operator who has a certificate',
}

/**
 * The socket stands for whoever administers the machine: everything in development; in production it reads, makes the first operator,
 * and lets an admin in again, which nobody could ask for with a certificate.
 */
const authorizeLocal = (name: AdminRouteName, { mode, hasActiveOperator }: Circumstances): Authorization => {
  if (mode === 'development') return allow('local', 'admin')
  if (adminRoutes[name].effect === 'read') return allow('local', 'viewer')
  if (name === 'operatorsRecover' || (name === 'operatorsCreate' && !hasActiveOperator()))
    return allow('local', 'admin')
  return {
    allow: false,
    code: 'operator_certificate_needed',
    message: 'in production a change needs an operator certificate, which the admin socket does not carry',
    hint: 'connect to the API with an operator certificate (--url, --credential)',
  }
}

export const authorize = (name: AdminRouteName, caller: Caller, circumstances: Circumstances): Authorization => {
  if (caller.kind === 'local') return authorizeLocal(name, circumstances)
  if (caller.kind !== 'peer') return operatorOnly
  const { kind, state, operatorRole, name: operator } = caller.registration
  if (kind !== 'operator' || state !== 'active' || operatorRole === null) return operatorOnly
  const needed = adminRoutes[name].role
  if (!covers(operatorRole, needed)) return insufficient(operatorRole, needed)
  return name === 'operatorsRecover' ? socketOnly : allow(operator, operatorRole)
}

/** For what a route's role does not say: some subjects need more than others. @throws HttpError `role_insufficient` */
export const checkRole = (actor: Actor, needed: OperatorRoleName, what: string): void => {
  if (covers(actor.role, needed)) return
  throw new HttpError('role_insufficient', `${what}: expected role ${needed} or above, got ${actor.role}`, {
    hint: `ask an operator with role ${needed}`,
  })
}

/**
 * Nobody ends what belongs to an operator above their own role: whoever may revoke must not be able to lock out those who could undo it.
 * @throws HttpError `role_insufficient`
 */
export const checkRank = (
  actor: Actor,
  registration: Pick<Registration, 'kind' | 'name' | 'operatorRole'> | null,
  what: string,
): void => {
  if (registration?.kind !== 'operator' || registration.operatorRole === null) return
  checkRole(actor, registration.operatorRole, `${what} of operator ${registration.name}`)
}
