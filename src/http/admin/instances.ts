// Instances: one enrolment each, with the newest certificate of its lineage.
import { CaError } from '../../ca/errors.ts'
import type { InstanceAnswer } from '../../schema/admin-answers.ts'
import type { TokenEvidenceAnswer } from '../../schema/attestor-api.ts'
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

/** By the token of its first certificate; one that is old enough to be forgotten says nothing. */
const evidenceOf = ({ ledger }: AdminDeps, instanceId: string): TokenEvidenceAnswer | null => {
  let before: string | undefined
  for (let pages = 0; pages < 20; pages++) {
    const { rows, next } = ledger.certificates.list({
      instanceId,
      limit: 200,
      ...(before === undefined ? {} : { before }),
    })
    const first = rows.findLast(({ tokenId }) => tokenId !== null)
    if (next === null) return first?.tokenId == null ? null : (ledger.tokens.get(first.tokenId)?.evidence ?? null)
    before = next
  }
  return null
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
    return { ...answerOf(deps, instance), evidence: evidenceOf(deps, id) }
  },
  instancesUnlock: async ({ params: { id }, body: { why, dryRun }, actor, context }) => {
    const instance = deps.ledger.instances.get(id)
    if (instance !== null) checkRank(actor, deps.ledger.registrations.byId(instance.registrationId), 'an instance')
    return answerOf(deps, await deps.lifecycle.unlock(id, { context, why, dryRun }))
  },
})
