// One admin let in again by whoever may open the admin socket; authorize.ts lets nobody else get here.
import { rootFingerprint, time } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

export const operatorRecoveryHandlers = (deps: AdminDeps): Pick<Handlers, 'operatorsRecover'> => ({
  operatorsRecover: async ({ params: { name }, body: { why, dryRun }, context }) => {
    const { created, text, token } = await deps.recoverOperator(name, { context, why, dryRun })
    return {
      id: token.id,
      token: text ?? '',
      expiresAt: time(token.expiresAt),
      uses: token.uses,
      subject: { kind: 'operator', name },
      caFingerprint: rootFingerprint(deps.issuers),
      url: deps.about.urls.api,
      created,
    }
  },
})
