// The first operator's way in: a join token in a 0600 file of the home, made at `init` and good before the server ever ran. In production
// the admin socket changes nothing, so without it nobody could become the first to do so.
import { existsSync } from 'node:fs'
import type { Clock } from '../base/clock.ts'
import { createTokenOperations } from '../ca/tokens.ts'
import { writeDurably } from '../signer/durable-file.ts'
import type { Ledger } from '../store/ports.ts'
import type { HomePaths } from './home.ts'

export const firstOperatorName = 'admin'

/** Long enough for a weekend between set-up and first use. */
const ttlSeconds = 7 * 86_400

export interface FirstOperatorDeps {
  readonly clock: Clock
  readonly ledger: Ledger
  readonly paths: HomePaths
  readonly caId: string
  readonly randomBytes: (length: number) => Uint8Array
}

/** Once: a file that is there was written whole, and a token whose file a crash prevented expires unused. */
export const writeFirstOperatorToken = async (deps: FirstOperatorDeps): Promise<void> => {
  const { clock, ledger, paths, caId, randomBytes } = deps
  if (existsSync(paths.firstOperatorToken)) return
  const tokens = createTokenOperations({
    clock,
    caId,
    registrations: ledger.registrations,
    tokens: ledger.tokens,
    randomBytes,
  })
  const { text } = await tokens.create(
    { kind: 'operator', name: firstOperatorName, ttlSeconds, uses: 1, boundKeyHash: null },
    { context: { requestId: 'init', who: 'system', source: 'local' }, dryRun: false },
  )
  writeDurably(paths.firstOperatorToken, `${text}\n`)
}
