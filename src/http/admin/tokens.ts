// Join tokens. The secret is in one answer, the one that makes it.
import { refuseOwnService } from '../../ca/own-service.ts'
import { pageOf, rootFingerprint, time, tokenAnswer } from './answers.ts'
import { type Actor, checkRank, checkRole } from './authorize.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { filled, registrationsById, soughtRegistration } from './query.ts'

/** An operator's token is that operator's way in. @throws HttpError `role_insufficient` */
export const checkTokenRank = ({ ledger }: Pick<AdminDeps, 'ledger'>, actor: Actor, id: string): void => {
  const token = ledger.tokens.get(id)
  if (token !== null) checkRank(actor, ledger.registrations.byId(token.registrationId), 'a join token')
}

export const tokenHandlers = (deps: AdminDeps): Pick<Handlers, 'tokensCreate' | 'tokensList' | 'tokensRevoke'> => ({
  tokensCreate: async ({ body: { kind, name, ttlSeconds, uses, bindKeyHash, dryRun }, actor, context }) => {
    refuseOwnService({ kind, name })
    // Whoever can enrol as an operator has that operator's role.
    if (kind === 'operator') checkRole(actor, 'admin', 'a token for an operator')
    const wanted = { kind, name, ttlSeconds, uses, boundKeyHash: bindKeyHash ?? null }
    const { text, token } = await deps.tokens.create(wanted, { context, dryRun })
    return {
      id: token.id,
      token: text ?? '',
      expiresAt: time(token.expiresAt),
      uses: token.uses,
      subject: { kind, name },
      caFingerprint: rootFingerprint(deps.issuers),
      url: deps.about.urls.api,
    }
  },
  tokensList: ({ query: { kind, name, after, limit } }) => {
    const registration = soughtRegistration(deps.ledger, { kind, name })
    const filter = { registrationId: registration?.id, kind, before: after }
    const rows = deps.ledger.tokens.list({ ...filled(filter), limit: limit + 1 })
    const registrationOf = registrationsById(deps.ledger)
    const now = deps.clock.now()
    return pageOf(
      rows,
      limit,
      row => row.id,
      row => tokenAnswer(row, registrationOf(row.registrationId), now),
    )
  },
  tokensRevoke: async ({ params: { id }, body: { why, dryRun }, actor, context }) => {
    checkTokenRank(deps, actor, id)
    const token = await deps.tokens.revoke(id, { context, why, dryRun })
    return tokenAnswer(token, registrationsById(deps.ledger)(token.registrationId), deps.clock.now())
  },
})
