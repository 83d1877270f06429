// Owners by themselves: named before anything is theirs, given to a declarative set, and removed when nothing is theirs any more. That one
// has left, and what that does to their agents, is lifecycle.ts's.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import { StoreError } from '../store/errors.ts'
import type { OwnerChange, OwnerEntry, OwnersPort } from '../store/ports.ts'
import type { LeafDraft } from '../store/records.ts'
import { CaError } from './errors.ts'
import { leafContextOf } from './leaf-context.ts'
import { checkName, checkText } from './operator-values.ts'
import { abandonable, type ChangeOptions } from './registration-change.ts'
import { refuseGoneOwner } from './registry.ts'

export interface OwnersDeps {
  readonly clock: Clock
  readonly owners: Pick<OwnersPort, 'create' | 'find' | 'change'>
}

export interface NewOwner {
  readonly name: string
  /** The declarative set it belongs to; null: none. */
  readonly managedBy: string | null
}

type OwnerOptions = Pick<ChangeOptions, 'context' | 'why' | 'dryRun'>

export interface Owners {
  /** @throws CaError `value_invalid`; StoreError `already_exists`, `owner_gone` */
  create(draft: NewOwner, options: Omit<OwnerOptions, 'why'>): Promise<OwnerEntry>
  /** Gives it to a set, or to none. @throws CaError `value_invalid`; StoreError `not_found`, `owner_gone` */
  update(draft: NewOwner, options: OwnerOptions): Promise<OwnerEntry>
  /**
   * Forgets an owner whom nothing is registered to, but what is retired; the name may be an owner's again.
   * @returns as it was
   * @throws CaError `conflict` while something is; StoreError `not_found`, `owner_gone`
   */
  remove(name: string, options: OwnerOptions): Promise<OwnerEntry>
}

const checkDraft = ({ name, managedBy }: NewOwner): void => {
  checkName('name', name)
  if (managedBy !== null) checkName('managedBy', managedBy)
}

const create = async (
  deps: OwnersDeps,
  draft: NewOwner,
  { context, dryRun }: Omit<OwnerOptions, 'why'>,
): Promise<OwnerEntry> => {
  const at = deps.clock.now()
  checkDraft(draft)
  const { name, managedBy } = draft
  const known = deps.owners.find(name)
  refuseGoneOwner(known)
  if (known !== null)
    throw new StoreError('already_exists', `owner ${name} exists already`, { hint: 'agentca owner list' })
  if (dryRun) return { name, managedBy, state: 'active', agents: 0, registrations: 0, createdAt: at }
  return deps.owners.create({ name, managedBy, at }, events.ownerCreated(leafContextOf(context, at), name, managedBy))
}

/** Decided under the ledger's lock: what was registered to an owner a moment ago is seen. */
const change = (
  deps: OwnersDeps,
  name: string,
  dryRun: boolean,
  decide: (current: OwnerEntry) => {
    readonly change: OwnerChange
    readonly after: OwnerEntry
    readonly leaf: LeafDraft
  },
): Promise<OwnerEntry> =>
  abandonable<OwnerEntry>(async abandon => {
    let outcome: OwnerEntry | undefined
    await deps.owners.change(name, current => {
      refuseGoneOwner(current)
      const decided = decide(current)
      if (dryRun) abandon(decided.after)
      outcome = decided.after
      return decided
    })
    return outcome as OwnerEntry
  })

const update = (deps: OwnersDeps, draft: NewOwner, options: OwnerOptions): Promise<OwnerEntry> => {
  checkDraft(draft)
  if (options.why !== undefined) checkText('why', options.why)
  const { name, managedBy } = draft
  const context = leafContextOf(options.context, deps.clock.now())
  return change(deps, name, options.dryRun, current => ({
    change: { managedBy },
    after: { ...current, managedBy },
    leaf: events.ownerChanged(context, name, { managedBy, why: options.why }),
  }))
}

const remove = (deps: OwnersDeps, name: string, options: OwnerOptions): Promise<OwnerEntry> => {
  const at = deps.clock.now()
  if (options.why !== undefined) checkText('why', options.why)
  return change(deps, name, options.dryRun, current => {
    if (current.registrations > 0)
      throw new CaError('conflict', `${current.registrations} registrations belong to owner ${name}`, {
        facts: { registrations: current.registrations },
        hint: `agentca agent list --owner ${name}, agentca service list --owner ${name}; each: update NAME --owner WHO, or retire NAME`,
      })
    return {
      change: { removedAt: at },
      after: current,
      leaf: events.ownerRemoved(leafContextOf(options.context, at), name, { why: options.why }),
    }
  })
}

export const createOwnerOperations = (deps: OwnersDeps): Owners => ({
  create: (draft, options) => create(deps, draft, options),
  update: (draft, options) => update(deps, draft, options),
  remove: (name, options) => remove(deps, name, options),
})
