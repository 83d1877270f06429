// The CA certificates, and the rotation of issuing CAs.
import { CaError } from '../../ca/errors.ts'
import type { IssuerAnswer } from '../../schema/admin-answers.ts'
import type { Issuer } from '../../store/records.ts'
import { issuerAnswer, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

/** CA keys are confirmed by name. @throws CaError `confirmation_needed` */
const checkConfirmed = (verb: string, name: string, confirm: string): void => {
  if (confirm === name) return
  throw new CaError('confirmation_needed', `expected the name ${name} as confirmation, got ${confirm}`, {
    hint: `agentca ca ${verb} ${name} --confirm ${name}`,
  })
}

type Names = 'issuersList' | 'issuersShow' | 'issuersPrepare' | 'issuersActivate' | 'issuersRetire'

export const issuerHandlers = (deps: AdminDeps): Pick<Handlers, Names> => {
  const { issuers, issuerRotation } = deps
  const answerOf = (record: Issuer): IssuerAnswer => issuerAnswer(record, issuers, deps.clock.now())
  return {
    issuersList: () => wholeList(issuers.all().map(view => answerOf(view.record))),
    issuersShow: ({ params: { name } }) => {
      const view = issuers.byName(name)
      if (view === null) throw new CaError('not_found', `no CA is called ${name}`, { hint: 'agentca ca list' })
      return answerOf(view.record)
    },
    issuersPrepare: async ({ body: { name, keyLabel, certificate, confirm, dryRun }, context }) => {
      checkConfirmed('prepare', name, confirm)
      return answerOf(
        await issuerRotation.prepare({ name, keyLabel, certificatePem: certificate }, { context, dryRun }),
      )
    },
    issuersActivate: async ({ params: { name }, body: { confirm, dryRun }, context }) => {
      checkConfirmed('activate', name, confirm)
      return answerOf(await issuerRotation.activate(name, { context, dryRun }))
    },
    issuersRetire: async ({ params: { name }, body: { confirm, dryRun }, context }) => {
      checkConfirmed('retire', name, confirm)
      const { issuer, liveLeaves } = await issuerRotation.retire(name, { context, dryRun })
      return { ...answerOf(issuer), liveLeaves }
    },
  }
}
