// The way back in when no operator has a certificate any more: whoever owns the CA's home gets one enrolment as an admin, which is on
// record and on every operator's screen for a week. It is no more than that user could do to the ledger by hand, and leaves a trace.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { OwnersPort, RegistrationsPort } from '../store/ports.ts'
import type { JoinToken, Registration } from '../store/records.ts'
import { CaError } from './errors.ts'
import { leafContextOf } from './leaf-context.ts'
import { checkText } from './operator-values.ts'
import type { ChangeOptions } from './registration-change.ts'
import type { NewRegistration, Registry } from './registry.ts'
import type { TokenOperations } from './tokens.ts'

export interface OperatorRecoveryDeps {
  readonly clock: Clock
  readonly registrations: Pick<RegistrationsPort, 'find' | 'list'>
  readonly owners: Pick<OwnersPort, 'find'>
  readonly registry: Pick<Registry, 'create'>
  readonly tokens: Pick<TokenOperations, 'create'>
}

export interface OperatorRecovery {
  /** No admin was left, so that this one had to be registered. */
  readonly created: boolean
  /** null for a dry run. */
  readonly text: string | null
  readonly token: JoinToken
}

/**
 * For an admin that is registered and active; a new one only where none is.
 * @throws CaError `not_found`, `conflict`, `value_invalid`
 */
export type RecoverOperator = (
  name: string,
  options: Pick<ChangeOptions, 'context' | 'why' | 'dryRun'>,
) => Promise<OperatorRecovery>

/** As long as it takes to type the next command. */
const ttlSeconds = 3600

/** How long status and doctor speak of it. */
export const recoveryShownMs = 7 * 86_400_000

/** Whose certificate can be renewed: nobody's, whose owner is gone. */
export const isAbleAdmin =
  (owners: Pick<OwnersPort, 'find'>) =>
  ({ operatorRole, owner }: Pick<Registration, 'operatorRole' | 'owner'>): boolean =>
    operatorRole === 'admin' && (owner === null || owners.find(owner)?.state !== 'gone')

export const createOperatorRecovery = (deps: OperatorRecoveryDeps): RecoverOperator => {
  const { clock, registrations, owners, registry, tokens } = deps

  const ableAdmins = (): readonly string[] =>
    registrations
      .list({ kind: 'operator', state: 'active', limit: 1000 })
      .filter(isAbleAdmin(owners))
      .map(({ name }) => name)

  /** @returns whether NAME has to be registered first */
  const isNew = (name: string): boolean => {
    const able = ableAdmins()
    if (able.includes(name)) return false
    if (able.length > 0)
      throw new CaError('conflict', `operator ${name} is no active admin, and there are others: ${able.join(', ')}`, {
        hint: `agentca operator recover ${able[0]}, who can let in anybody else`,
      })
    if (registrations.find('operator', name) === null) return true
    throw new CaError('conflict', `no admin is left, and operator ${name} is none that could come back`, {
      hint: 'agentca operator recover NAME, with a name that was never used: it is registered as an admin',
    })
  }

  return async (name, { context, why, dryRun }) => {
    if (why !== undefined) checkText('why', why)
    const created = isNew(name)
    const subject = { kind: 'operator', name } as const
    if (created) {
      const draft = draftOf(name)
      const registration = await registry.create(draft, { context, dryRun })
      if (dryRun) return { created, text: null, token: plannedToken(registration, clock.now(), context.who) }
    }
    const made = await tokens.create(
      { ...subject, ttlSeconds, uses: 1, boundKeyHash: null },
      {
        context,
        dryRun,
        leaf: (at, { id, expiresAt }) =>
          events.operatorRecovered(leafContextOf(context, at), subject, { token: id, expiresAt, created, why }),
      },
    )
    return { created, ...made }
  }
}

const draftOf = (name: string): NewRegistration => ({
  kind: 'operator',
  name,
  owner: null,
  purpose: 'registered on the machine, when no admin was left',
  profile: null,
  roles: [],
  attributes: {},
  dnsNames: [],
  instanceLimit: null,
  operatorRole: 'admin',
  until: null,
})

/** Of somebody who is not registered yet there is no other. */
const plannedToken = ({ id }: Registration, at: number, createdBy: string): JoinToken => ({
  ...{
    id: '',
    hash: '',
    registrationId: id,
    audience: '',
    uses: 1,
    usesTaken: 0,
    boundKeyHash: null,
    state: 'active',
    evidence: null,
  },
  ...{ expiresAt: at + ttlSeconds * 1000, createdAt: at, createdBy },
})
