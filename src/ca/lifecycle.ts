// What ends, pauses and resumes: hold, release and retirement of registrations, owners who are gone, locked instances, end dates.
// Which state may follow which is the state table's; what a change drags along is carried out by the ledger in its transaction.
import * as events from '../audit/events.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { StoreError } from '../store/errors.ts'
import type { AuditPort, BlastRadius, InstancesPort, OwnersPort, RegistrationsPort } from '../store/ports.ts'
import type { Instance, InstanceState, Registration, RegistrationState, SubjectKind } from '../store/records.ts'
import { CaError } from './errors.ts'
import { leafContextOf } from './leaf-context.ts'
import { isAbleAdmin } from './operator-recovery.ts'
import { checkText } from './operator-values.ts'
import {
  abandonable,
  type ChangeDeps,
  type ChangeOptions,
  type ChangeOutcome,
  changeRegistration,
  checkExpected,
  checkTransition,
  type Subject,
} from './registration-change.ts'
import { refuseGoneOwner } from './registry.ts'

export interface LifecycleDeps extends ChangeDeps {
  readonly log: Log
  readonly registrations: Pick<RegistrationsPort, 'change' | 'list' | 'byId'>
  readonly owners: Pick<OwnersPort, 'find' | 'gone'>
  readonly instances: Pick<InstancesPort, 'get' | 'lock' | 'unlock'>
  readonly audit: Pick<AuditPort, 'tail'>
}

export interface Lifecycle {
  /** @throws CaError `conflict`; StoreError `not_found`, `radius_changed` */
  hold(subject: Subject, options: ChangeOptions): Promise<ChangeOutcome>
  /** @throws CaError `conflict`; StoreError `not_found`, `radius_changed`, `owner_gone` */
  release(subject: Subject, options: ChangeOptions): Promise<ChangeOutcome>
  /** For good. @throws CaError `conflict`; StoreError `not_found`, `radius_changed` */
  retire(subject: Subject, options: ChangeOptions): Promise<ChangeOutcome>
  /** The owner is gone: its agents are held. @throws CaError `conflict`; StoreError `not_found`, `radius_changed` */
  ownerGone(owner: string, options: ChangeOptions): Promise<BlastRadius>
  /** Its certificates are held until it is unlocked. @throws CaError `not_found`, `conflict` */
  lock(instanceId: string, reason: string, options: Omit<ChangeOptions, 'expected' | 'why'>): Promise<Instance>
  /** @throws CaError `not_found`, `conflict` */
  unlock(instanceId: string, options: ChangeOptions): Promise<Instance>
  /** Retires what has reached its end date. @returns how many */
  retireEnded(now: number): Promise<number>
}

/** Registrations looked at in one go by retireEnded. */
const pageSize = 100
const kinds: readonly SubjectKind[] = ['agent', 'service', 'operator']

const move = (
  deps: LifecycleDeps,
  subject: Subject,
  to: RegistrationState,
  options: ChangeOptions,
): Promise<ChangeOutcome> => {
  if (options.why !== undefined) checkText('why', options.why)
  return changeRegistration(deps, {
    subject,
    at: deps.clock.now(),
    options,
    decide: (current, owner) => {
      checkTransition(current, to)
      // Nobody would answer for it; every issuance is refused for the same reason.
      if (to === 'active') refuseGoneOwner(owner)
      return { set: {}, state: to }
    },
    leaf: (context, before, after) =>
      events.registrationChanged(context, subject, {
        from: before.state,
        to: after.state,
        version: after.version,
        set: {},
        why: options.why,
      }),
  })
}

/** Positions of its leaves so far; what lands between the last one and the retirement itself is found between them. */
const archiveOf = (deps: LifecycleDeps, { kind, name }: Subject): readonly [number, number] | null => {
  const subject = `${kind}:${name}`
  const [first] = deps.audit.tail({ subject, event: 'registration_created', limit: 1 })
  const [last] = deps.audit.tail({ subject, limit: 1 })
  return first === undefined || last === undefined ? null : [first.index, last.index]
}

const activeOperators = (deps: LifecycleDeps): readonly Registration[] =>
  deps.registrations.list({ kind: 'operator', state: 'active', limit: 1000 })

/** With operators left but no admin among them, nobody could make another one in production. */
const refuseLastAdmin = (deps: LifecycleDeps, { kind, name }: Subject): void => {
  if (kind !== 'operator') return
  const active = activeOperators(deps)
  const others = active.filter(each => each.name !== name)
  if (active.find(each => each.name === name)?.operatorRole !== 'admin') return
  if (others.length === 0 || others.some(isAbleAdmin(deps.owners))) return
  throw new CaError('conflict', `operator ${name} is the last admin`, {
    hint: 'agentca operator create NAME --role admin',
  })
}

/** The same, as slowly as the certificates of its admins end. @throws CaError `conflict` */
const refuseOwnerOfLastAdmins = (deps: LifecycleDeps, owner: string): void => {
  const admins = activeOperators(deps).filter(isAbleAdmin(deps.owners))
  if (admins.length === 0 || admins.some(each => each.owner !== owner)) return
  throw new CaError('conflict', `every admin belongs to ${owner}, and none could renew its certificate any more`, {
    facts: { admins: admins.map(each => each.name) },
    hint: 'agentca operator create NAME --role admin --owner WHO',
  })
}

const retireNow = async (
  deps: LifecycleDeps,
  subject: Subject,
  options: ChangeOptions,
  check: (current: Registration) => void,
): Promise<ChangeOutcome> => {
  const archived = archiveOf(deps, subject)
  const outcome = await changeRegistration(deps, {
    subject,
    at: deps.clock.now(),
    options,
    decide: current => {
      checkTransition(current, 'retired')
      check(current)
      return { set: {}, state: 'retired' }
    },
    leaf: (context, _before, _after, radius) =>
      events.registrationRetired(context, subject, { radius, archived, why: options.why }),
  })
  return { ...outcome, archived }
}

const retire = async (deps: LifecycleDeps, subject: Subject, options: ChangeOptions): Promise<ChangeOutcome> => {
  if (options.why !== undefined) checkText('why', options.why)
  // Asked under the ledger's lock: two admins who retire each other at once must not both find the other one there.
  return retireNow(deps, subject, options, () => refuseLastAdmin(deps, subject))
}

const ownerGone = async (deps: LifecycleDeps, owner: string, options: ChangeOptions): Promise<BlastRadius> => {
  const at = deps.clock.now()
  if (options.why !== undefined) checkText('why', options.why)
  if (deps.owners.find(owner)?.state === 'gone')
    throw new CaError('conflict', `owner ${owner} is gone already`, { hint: 'agentca owner list' })
  refuseOwnerOfLastAdmins(deps, owner)
  return abandonable<BlastRadius>(abandon =>
    deps.owners.gone(owner, at, radius => {
      checkExpected(radius, options.expected)
      if (options.dryRun) abandon(radius)
      return events.ownerGone(leafContextOf(options.context, at), owner, { radius, why: options.why })
    }),
  )
}

const instanceIn = (
  deps: LifecycleDeps,
  instanceId: string,
  state: InstanceState,
): { readonly instance: Instance; readonly registration: Registration } => {
  const instance = deps.instances.get(instanceId)
  const registration = instance === null ? null : deps.registrations.byId(instance.registrationId)
  if (instance === null || registration === null)
    throw new CaError('not_found', `no instance has id ${instanceId}`, { hint: 'agentca instance list' })
  if (instance.state !== state)
    throw new CaError('conflict', `expected an instance in state ${state}, got ${instance.state}`, {
      facts: { state: instance.state },
      hint: `agentca instance show ${instanceId}`,
    })
  return { instance, registration }
}

const lock = async (
  deps: LifecycleDeps,
  instanceId: string,
  reason: string,
  options: Omit<ChangeOptions, 'expected' | 'why'>,
): Promise<Instance> => {
  const at = deps.clock.now()
  checkText('reason', reason)
  const { instance, registration } = instanceIn(deps, instanceId, 'active')
  if (options.dryRun) return { ...instance, state: 'locked', lockReason: reason, changedAt: at }
  const context = leafContextOf(options.context, at)
  const leaf = events.instanceLocked(context, registration, { instance: instanceId, reason })
  return deps.instances.lock({ instanceId, reason, leaf }, at)
}

const unlock = async (deps: LifecycleDeps, instanceId: string, options: ChangeOptions): Promise<Instance> => {
  const at = deps.clock.now()
  if (options.why !== undefined) checkText('why', options.why)
  const { instance, registration } = instanceIn(deps, instanceId, 'locked')
  if (options.dryRun) return { ...instance, state: 'active', lockReason: null, changedAt: at }
  const { kind, name } = registration
  return deps.instances.unlock(
    instanceId,
    at,
    events.instanceUnlocked(
      leafContextOf(options.context, at),
      { kind, name },
      { instance: instanceId, why: options.why },
    ),
  )
}

const retireOne = async (deps: LifecycleDeps, registration: Registration, now: number): Promise<boolean> => {
  const { kind, name } = registration
  const context = { requestId: 'end-date', who: 'system', source: 'system' }
  try {
    await retireNow(deps, { kind, name }, { context, why: 'end date', dryRun: false }, current => {
      // Somebody may have moved the date since the list was read.
      if (current.until === null || current.until > now)
        throw new CaError('conflict', `${kind} ${name} has not reached its end date`)
    })
    return true
  } catch (error) {
    if (!(error instanceof CaError) && !(error instanceof StoreError)) throw error
    deps.log.warn({ kind, name, reason: messageOf(error) }, 'not retired at its end date')
    return false
  }
}

const retireEnded = async (deps: LifecycleDeps, now: number): Promise<number> => {
  let retired = 0
  for (const kind of kinds) {
    let after: string | undefined
    for (;;) {
      const page = deps.registrations.list({
        kind,
        endedAt: now,
        limit: pageSize,
        ...(after === undefined ? {} : { after }),
      })
      for (const registration of page) if (await retireOne(deps, registration, now)) retired++
      after = page.at(-1)?.name
      if (page.length < pageSize) break
    }
  }
  return retired
}

export const createLifecycle = (deps: LifecycleDeps): Lifecycle => ({
  hold: (subject, options) => move(deps, subject, 'held', options),
  release: (subject, options) => move(deps, subject, 'active', options),
  retire: (subject, options) => retire(deps, subject, options),
  ownerGone: (owner, options) => ownerGone(deps, owner, options),
  lock: (instanceId, reason, options) => lock(deps, instanceId, reason, options),
  unlock: (instanceId, options) => unlock(deps, instanceId, options),
  retireEnded: now => retireEnded(deps, now),
})
