// `agentca operator recover` where no server runs: the same rule over the ledger itself, whose lock keeps a server out meanwhile.
import { existsSync } from 'node:fs'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { createIssuers } from '../ca/issuers.ts'
import { createOperatorRecovery } from '../ca/operator-recovery.ts'
import { createRegistry } from '../ca/registry.ts'
import { createTokenOperations } from '../ca/tokens.ts'
import { operatorRecoveredAnswer } from '../http/admin/answers.ts'
import type { OperatorRecoveredAnswer } from '../schema/admin-answers.ts'
import { openSqliteLedger } from '../store/sqlite/open.ts'
import { ServerError } from './errors.ts'
import type { HomePaths } from './home.ts'

export interface OfflineRecovery {
  readonly paths: HomePaths
  readonly clock: Clock
  readonly log: Log
  readonly randomBytes: (length: number) => Uint8Array
  readonly name: string
  readonly why: string | undefined
  readonly dryRun: boolean
}

const context = { requestId: 'offline', who: 'operator:local', source: 'local' }

/** @throws ServerError `not_initialised`; StoreError `ledger_in_use`; CaError as RecoverOperator */
export const recoverOperatorOffline = async (asked: OfflineRecovery): Promise<OperatorRecoveredAnswer> => {
  const { paths, clock, log, randomBytes, name, why, dryRun } = asked
  const missing = () =>
    new ServerError('not_initialised', `there is no CA in ${paths.home}`, { hint: 'agentca init, or --home DIR' })
  if (!existsSync(paths.database)) throw missing()
  await using ledger = openSqliteLedger(paths.database, { clock, log })
  const [caId, url] = [ledger.meta.get('ca_id'), ledger.meta.get('public_url_api')]
  if (caId === null || url === null) throw missing()
  const { registrations, owners } = ledger
  const recover = createOperatorRecovery({
    clock,
    registrations,
    owners,
    // Profiles are the server's to read; this one is of its own kind in every installation, and checked again when it issues.
    registry: createRegistry({
      clock,
      registrations,
      owners,
      profileKind: profile => (profile === 'operator' ? 'operator' : null),
    }),
    tokens: createTokenOperations({ clock, caId, registrations, tokens: ledger.tokens, randomBytes }),
  })
  const recovered = await recover(name, { context, why, dryRun })
  return operatorRecoveredAnswer(recovered, { name, issuers: createIssuers(ledger.issuers, null), url })
}
