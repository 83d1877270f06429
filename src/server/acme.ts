// ACME wired to a running core.
import { randomBytes } from 'node:crypto'
import { type Acme, createAcme } from '../acme/acme.ts'
import { type Bindings, createBindings } from '../acme/bindings.ts'
import type { AcmeProfile } from '../acme/deps.ts'
import type { Sealer } from '../acme/eab-seal.ts'
import { createUrls } from '../acme/urls.ts'
import { validate } from '../acme/validation/validate.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { pooledRandomBytes } from '../base/random.ts'
import type { ReachedStep } from '../base/steps.ts'
import { timeOrderedId } from '../base/time-ordered-id.ts'
import type { Revoke } from '../ca/revoke.ts'
import { createIssuancePolicy } from '../ca/scopes-issuance.ts'
import { minLifetimeSeconds } from '../policy/ceilings.ts'
import type { Config } from '../schema/config.ts'
import type { Core } from './core.ts'

export interface CoreAcmeOptions {
  readonly config: Config['acme']
  readonly clock: Clock
  readonly log: Log
  readonly revoke: Revoke
  readonly sealer: Sealer
  readonly reached: ReachedStep
}

const profilesOf = (core: Core): readonly AcmeProfile[] =>
  core
    .profiles()
    .list()
    .flatMap(({ name, kind, lifetimeSeconds, content: { acme } }) =>
      acme === undefined ? [] : [{ name, kind, lifetimeSeconds, minLifetimeSeconds, ...acme }],
    )

/** As operators make and revoke them. */
export const createCoreBindings = ({ clockGuard, ledger }: Core, sealer: Sealer): Bindings =>
  createBindings({
    clock: clockGuard,
    registrations: ledger.registrations,
    bindings: ledger.acme.bindings,
    sealer,
    randomBytes,
  })

export const createCoreAcme = (core: Core, options: CoreAcmeOptions): Acme => {
  const { config, clock } = options
  const { ledger } = core
  return createAcme({
    clock,
    log: options.log,
    trustDomain: core.trustDomain,
    urls: createUrls(core.publicUrls.api),
    ports: ledger.acme,
    registrations: ledger.registrations,
    owners: ledger.owners,
    instances: ledger.instances,
    certificates: ledger.certificates,
    issuers: core.issuers,
    issuance: core.issuance,
    revoke: options.revoke,
    policy: createIssuancePolicy(core.policies.active),
    profiles: () => profilesOf(core),
    rules: (registration, profile) => core.drafter.rules(registration, profile),
    sealer: options.sealer,
    randomBytes,
    newId: () => timeOrderedId(clock.now(), pooledRandomBytes(10)),
    settings: {
      unboundService: config.requireExternalAccount ? null : (config.unboundService ?? null),
      maxUnboundAccounts: config.maxUnboundAccounts,
      orderLifetimeSeconds: config.orderLifetime,
      orders: config.orders,
      maxOpenOrders: config.maxOpenOrders,
      finalizeWaitMs: 3000,
      issueWaitMs: 30_000,
    },
    reached: options.reached,
    validate: challenge => validate(challenge, config.validation),
  })
}
