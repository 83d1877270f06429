// Instances: one enrolment each, with the newest certificate of its lineage.
import { CaError } from '../../ca/errors.ts'
import type { InstanceAnswer } from '../../schema/admin-answers.ts'
import type { Instance } from '../../store/records.ts'
import { instanceAnswer, pageOf } from './answers.ts'
import { checkRank } from './authorize.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { filled, registrationsById, soughtRegistration } from './query.ts'

const answerOf = ({ ledger, trustDomain }: AdminDeps, instance: Instance): InstanceAnswer => {
  const head = instance.headSerial === null ? null : ledger.certificates.get(instance.headSerial)
  return instanceAnswer(trustDomain, instance, registrationsById(ledger)(instance.registrationId), head)
}

export const instanceHandlers = (
  deps: AdminDeps,
): Pick<Handlers, 'instancesList' | 'instancesShow' | 'instancesUnlock'> => ({
  instancesList: ({ query: { kind, name, state, after, limit } }) => {
    const registration = soughtRegistration(deps.ledger, { kind, name })
    const filter = { registrationId: registration?.id, kind, state, after }
    const rows = deps.ledger.instances.list({ ...filled(filter), limit: limit + 1 })
    return pageOf(
      rows,
      limit,
      row => row.id,
      row => instanceAnswer(deps.trustDomain, row, row.registration, row.head),
    )
  },
  instancesShow: ({ params: { id } }) => {
    const instance = deps.ledger.instances.get(id)
    if (instance === null) throw new CaError('not_found', `no instance has id ${id}`, { hint: 'agentca instance list' })
    return answerOf(deps, instance)
  },
  instancesUnlock: async ({ params: { id }, body: { why, dryRun }, actor, context }) => {
    const instance = deps.ledger.instances.get(id)
    if (instance !== null) checkRank(actor, deps.ledger.registrations.byId(instance.registrationId), 'an instance')
    return answerOf(deps, await deps.lifecycle.unlock(id, { context, why, dryRun }))
  },
})
