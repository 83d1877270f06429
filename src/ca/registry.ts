// Registering agents, services and operators, and changing what is said of them. Holds, releases and retirement are lifecycle.ts.
import * as events from '../audit/events.ts'
import type { LeafValue } from '../audit/leaf.ts'
import type { Clock } from '../base/clock.ts'
import { checkRegisteredName } from '../pki/names.ts'
import { StoreError } from '../store/errors.ts'
import type { OwnersPort, RegistrationChange, RegistrationsPort } from '../store/ports.ts'
import type { OperatorRole, Owner, Registration, SubjectKind } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'
import {
  checkAttributes,
  checkName,
  checkRoles,
  checkText,
  checkUntil,
  invalidValue,
  parseHosts,
} from './operator-values.ts'
import {
  type ChangeOptions,
  type ChangeOutcome,
  changeRegistration,
  refuseRetired,
  type Subject,
} from './registration-change.ts'

export interface RegistryDeps {
  readonly clock: Clock
  readonly registrations: Pick<RegistrationsPort, 'create' | 'find' | 'change'>
  readonly owners: Pick<OwnersPort, 'ensure' | 'find'>
  /** The kind a profile is for; null: no profile has this name. */
  readonly profileKind: (name: string) => SubjectKind | null
}

export interface NewRegistration extends Subject {
  /** Agents have one. Created when it does not exist. */
  readonly owner: string | null
  readonly purpose: string
  /** null: the profile named like the kind. */
  readonly profile: string | null
  readonly roles: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  readonly dnsNames: readonly string[]
  /** null: the profile's. */
  readonly instanceLimit: number | null
  /** Operators only. */
  readonly operatorRole: OperatorRole | null
  /** SHA-256 of the only public key that may enrol, hex; left out: none. */
  readonly boundKeyHash?: string | null
  /** The declarative set it belongs to; left out: none. */
  readonly managedBy?: string | null
  /** Milliseconds since the epoch. */
  readonly until: number | null
}

/** What may be changed; a member that is not there stays. */
export type RegistrationUpdate = Partial<Omit<NewRegistration, 'kind' | 'name' | 'operatorRole'>>

export interface Registry {
  /**
   * @throws PkiError `agent_name_malformed`; CaError `value_invalid`, `not_found`, `conflict`; StoreError `already_exists`, `owner_gone`
   */
  create(draft: NewRegistration, options: Pick<ChangeOptions, 'context' | 'dryRun'>): Promise<Registration>
  /** @throws CaError `value_invalid`, `not_found`, `conflict`; StoreError `not_found`, `owner_gone` */
  update(subject: Subject, update: RegistrationUpdate, options: ChangeOptions): Promise<ChangeOutcome>
  /**
   * The owner says that it is still needed; with `until` its end date moves, never to an earlier time.
   * @throws CaError `value_invalid`, `conflict`; StoreError `not_found`, `owner_gone`
   */
  attest(subject: Subject, until: number | null, options: ChangeOptions): Promise<ChangeOutcome>
}

/** @throws StoreError `owner_gone` */
export const refuseGoneOwner = (owner: Owner | null): void => {
  if (owner?.state !== 'gone') return
  throw new StoreError('owner_gone', `owner ${owner.name} is gone`, {
    facts: { owner: owner.name },
    hint: 'name an owner who is there (--owner WHO)',
  })
}

const checkProfile = (deps: RegistryDeps, kind: SubjectKind, profile: string): void => {
  const found = deps.profileKind(profile)
  if (found === kind) return
  const more = { facts: { profile }, hint: 'agentca profile list' }
  if (found === null) throw new CaError('not_found', `no profile is called ${profile}`, more)
  throw new CaError('conflict', `profile ${profile} is for kind ${found}, expected one for ${kind}`, more)
}

const checkOwner = (deps: RegistryDeps, owner: string): void => {
  checkName('owner', owner)
  refuseGoneOwner(deps.owners.find(owner))
}

const ensureOwner = async (deps: RegistryDeps, owner: string, context: RequestContext, at: number): Promise<Owner> =>
  deps.owners.ensure(owner, at, events.ownerCreated(leafContextOf(context, at), owner))

/** Everything but the name and the owner, which have their own rules. */
const checkValues = (
  deps: RegistryDeps,
  kind: SubjectKind,
  values: RegistrationUpdate,
  now: number,
): RegistrationUpdate => {
  if (values.purpose !== undefined) checkText('purpose', values.purpose)
  if (values.roles !== undefined) checkRoles(values.roles)
  if (values.attributes !== undefined) checkAttributes(values.attributes)
  if (values.profile != null) checkProfile(deps, kind, values.profile)
  if (values.until !== undefined) checkUntil(values.until, now)
  if (values.boundKeyHash != null && !/^[0-9a-f]{64}$/.test(values.boundKeyHash))
    throw invalidValue('bindKeyHash', 'expected the SHA-256 of a public key, 64 hex digits')
  if (values.managedBy != null) checkName('managedBy', values.managedBy)
  return values.dnsNames === undefined ? values : { ...values, dnsNames: parseHosts(kind, values.dnsNames) }
}

const checkDraft = (
  deps: RegistryDeps,
  draft: NewRegistration,
  now: number,
): NewRegistration & { readonly profile: string } => {
  const { kind, name } = draft
  checkRegisteredName(kind, name)
  // `operator:local` in the log is whoever used the admin socket.
  if (kind === 'operator' && name === 'local') throw invalidValue('name', 'local is the admin socket')
  if (kind === 'agent' && draft.owner === null)
    throw invalidValue(
      'owner',
      'an agent without an owner cannot be created',
      `agentca agent create ${name} --owner WHO`,
    )
  if ((kind === 'operator') !== (draft.operatorRole !== null))
    throw invalidValue('role', 'operators have an operator role, and only they')
  if (deps.registrations.find(kind, name) !== null)
    throw new StoreError('already_exists', `${kind} ${name} exists already; names are never reused`, {
      hint: `agentca ${kind} show ${name}`,
    })
  const profile = draft.profile ?? kind
  const checked = { ...draft, ...checkValues(deps, kind, { ...draft, profile }, now), profile }
  if (draft.owner !== null) checkOwner(deps, draft.owner)
  return checked
}

const create = async (
  deps: RegistryDeps,
  draft: NewRegistration,
  { context, dryRun }: Pick<ChangeOptions, 'context' | 'dryRun'>,
): Promise<Registration> => {
  const at = deps.clock.now()
  const checked = checkDraft(deps, draft, at)
  const { boundKeyHash = null, managedBy = null } = checked
  if (dryRun)
    return {
      ...checked,
      boundKeyHash,
      managedBy,
      id: 0,
      state: 'active',
      scopes: [],
      version: 1,
      createdAt: at,
      changedAt: at,
    }
  if (checked.owner !== null) await ensureOwner(deps, checked.owner, context, at)
  const { kind, name, owner, profile, roles, operatorRole, until } = checked
  return deps.registrations.create(
    { ...checked, at },
    events.registrationCreated(
      leafContextOf(context, at),
      { kind, name },
      { owner, profile, roles, operatorRole, until },
    ),
  )
}

const update = async (
  deps: RegistryDeps,
  subject: Subject,
  given: RegistrationUpdate,
  options: ChangeOptions,
): Promise<ChangeOutcome> => {
  const at = deps.clock.now()
  const set = checkValues(deps, subject.kind, given, at)
  if (Object.keys(set).length === 0) throw invalidValue('body', 'nothing to change')
  if (set.owner === null && subject.kind === 'agent') throw invalidValue('owner', 'an agent has an owner')
  if (set.profile === null) throw invalidValue('profile', 'expected the name of a profile')
  if (options.why !== undefined) checkText('why', options.why)
  if (set.owner != null) {
    // Before the owner comes into being for the sake of nobody.
    const current = deps.registrations.find(subject.kind, subject.name)
    if (current !== null) refuseRetired(current)
    checkOwner(deps, set.owner)
    if (current !== null && !options.dryRun) await ensureOwner(deps, set.owner, options.context, at)
  }
  return changeRegistration(deps, {
    subject,
    at,
    options,
    decide: current => {
      refuseRetired(current)
      return { set: set as RegistrationChange['set'], state: current.state }
    },
    leaf: (context, before, after) =>
      events.registrationChanged(context, subject, {
        from: before.state,
        to: after.state,
        version: after.version,
        set: set as { readonly [key: string]: LeafValue },
        why: options.why,
      }),
  })
}

const attest = async (
  deps: RegistryDeps,
  subject: Subject,
  until: number | null,
  options: ChangeOptions,
): Promise<ChangeOutcome> => {
  const at = deps.clock.now()
  checkUntil(until, at)
  if (options.why !== undefined) checkText('why', options.why)
  return changeRegistration(deps, {
    subject,
    at,
    options,
    decide: (current, owner) => {
      refuseRetired(current)
      refuseGoneOwner(owner)
      if (until !== null && current.until !== null && until < current.until)
        throw invalidValue(
          'until',
          `an attestation extends: expected ${new Date(current.until).toISOString()} or later`,
        )
      return { set: until === null ? {} : { until }, state: current.state, attestedAt: at }
    },
    leaf: (context, before, after) =>
      events.registrationAttested(context, subject, {
        owner: before.owner,
        version: after.version,
        until: after.until,
        why: options.why,
      }),
  })
}

export const createRegistry = (deps: RegistryDeps): Registry => ({
  create: (draft, options) => create(deps, draft, options),
  update: (subject, changes, options) => update(deps, subject, changes, options),
  attest: (subject, until, options) => attest(deps, subject, until, options),
})
