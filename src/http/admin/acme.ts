// External account bindings for ACME. The MAC key is in one answer, the one that makes it.
import { grantedNames, textOf } from '../../acme/identifiers.ts'
import { acmePaths } from '../../acme/urls.ts'
import { refuseOwnService } from '../../ca/own-service.ts'
import type { AcmeBindingAnswer } from '../../schema/acme-api.ts'
import type { AcmeBinding } from '../../store/acme-port.ts'
import type { Registration } from '../../store/records.ts'
import { pageOf, time } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { filled, namedRegistration, registrationsById, soughtRegistration } from './query.ts'

/** Stored states do not age. */
const stateOf = ({ state, account, expiresAt }: AcmeBinding, now: number): AcmeBindingAnswer['state'] => {
  if (state === 'revoked') return 'revoked'
  if (account !== null) return 'used'
  return expiresAt <= now ? 'expired' : 'active'
}

const bindingAnswer = (binding: AcmeBinding, { kind, name }: Registration, now: number): AcmeBindingAnswer => ({
  kid: binding.kid,
  state: stateOf(binding, now),
  kind,
  name,
  names: binding.names.map(textOf),
  instance: binding.account,
  expiresAt: time(binding.expiresAt),
  createdAt: time(binding.createdAt),
  createdBy: binding.createdBy,
})

export const acmeHandlers = (
  deps: AdminDeps,
): Pick<Handlers, 'acmeBindingsCreate' | 'acmeBindingsList' | 'acmeBindingsRevoke'> => ({
  acmeBindingsCreate: async ({ body: { kind, name, dns, ip, ttlSeconds, dryRun }, context }) => {
    refuseOwnService({ kind, name })
    const wanted = { kind, name, dnsNames: dns, ipAddresses: ip, ttlSeconds }
    const { hmacKey, binding } = await deps.bindings.create(wanted, { context, dryRun })
    const registration = namedRegistration(deps.ledger, kind, name)
    return {
      kid: binding.kid,
      hmacKey: hmacKey ?? '',
      expiresAt: time(binding.expiresAt),
      subject: { kind, name },
      names: [...grantedNames(registration, binding.names, deps.trustDomain)],
      directory: `${deps.about.urls.api}/acme${acmePaths.directory}`,
    }
  },
  acmeBindingsList: ({ query: { kind, name, after, limit } }) => {
    const registration = soughtRegistration(deps.ledger, { kind, name })
    const filter = filled({ registrationId: registration?.id, before: after })
    const rows = deps.ledger.acme.bindings.list({ ...filter, limit: limit + 1 })
    const registrationOf = registrationsById(deps.ledger)
    const now = deps.clock.now()
    return pageOf(
      rows,
      limit,
      row => row.kid,
      row => bindingAnswer(row, registrationOf(row.registrationId), now),
    )
  },
  acmeBindingsRevoke: async ({ params: { kid }, body: { why, dryRun }, context }) => {
    const binding = await deps.bindings.revoke(kid, { context, why, dryRun })
    return bindingAnswer(binding, registrationsById(deps.ledger)(binding.registrationId), deps.clock.now())
  },
})
