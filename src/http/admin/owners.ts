// Owners: who answers for what is registered.
import type { OwnerAnswer } from '../../schema/owner-api.ts'
import type { OwnerEntry } from '../../store/ports.ts'
import { radiusAnswer, time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { endOwner } from './owner-gone.ts'

type Names = 'ownersList' | 'ownersCreate' | 'ownersUpdate' | 'ownersRemove' | 'ownersGone'

const ownerAnswer = ({ name, state, agents, registrations, managedBy, createdAt }: OwnerEntry): OwnerAnswer => ({
  ...{ name, state, agents, registrations, managedBy },
  createdAt: time(createdAt),
})

export const ownerHandlers = (deps: AdminDeps): Pick<Handlers, Names> => ({
  ownersList: () => wholeList(deps.ledger.owners.list().map(ownerAnswer)),
  ownersCreate: async ({ body: { name, managedBy = null, dryRun }, context }) =>
    ownerAnswer(await deps.owners.create({ name, managedBy }, { context, dryRun })),
  ownersUpdate: async ({ params: { name }, body: { managedBy, why, dryRun }, context }) =>
    ownerAnswer(await deps.owners.update({ name, managedBy }, { context, why, dryRun })),
  ownersRemove: async ({ params: { name }, body: { why, dryRun }, context }) =>
    ownerAnswer(await deps.owners.remove(name, { context, why, dryRun })),
  ownersGone: async ({ params, body: { why, expected, dryRun }, actor, context }) => {
    const parts = { lifecycle: deps.lifecycle, registrations: deps.ledger.registrations }
    const radius = await endOwner(parts, actor, params.name, { context, why, expected, dryRun })
    return { radius: radiusAnswer(radius), dryRun }
  },
})
