// One admin let in again by whoever may open the admin socket; authorize.ts lets nobody else get here.
import { operatorRecoveredAnswer } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

export const operatorRecoveryHandlers = (deps: AdminDeps): Pick<Handlers, 'operatorsRecover'> => ({
  operatorsRecover: async ({ params: { name }, body: { why, dryRun }, context }) => {
    const recovered = await deps.recoverOperator(name, { context, why, dryRun })
    return operatorRecoveredAnswer(recovered, { name, issuers: deps.issuers, url: deps.about.urls.api })
  },
})
