// An owner is gone: what the admin API and the leaver webhook both ask before it happens. What it does to the owner's agents is the
// lifecycle's.

import type { Lifecycle } from '../../ca/lifecycle.ts'
import type { ChangeOptions } from '../../ca/registration-change.ts'
import type { BlastRadius, RegistrationsPort } from '../../store/ports.ts'
import { type Actor, checkRank } from './authorize.ts'

export interface OwnerGoneDeps {
  readonly lifecycle: Pick<Lifecycle, 'ownerGone'>
  readonly registrations: Pick<RegistrationsPort, 'list'>
}

/**
 * @param actor null: the identity provider, which has no rank
 * @throws HttpError `role_insufficient`; what Lifecycle.ownerGone throws
 */
export const endOwner = async (
  deps: OwnerGoneDeps,
  actor: Actor | null,
  owner: string,
  options: ChangeOptions,
): Promise<BlastRadius> => {
  if (actor !== null) {
    // None of their certificates could be renewed any more.
    const operators = deps.registrations.list({ kind: 'operator', owner, state: 'active', limit: 1000 })
    for (const each of operators) checkRank(actor, each, 'the owner')
  }
  return deps.lifecycle.ownerGone(owner, options)
}
