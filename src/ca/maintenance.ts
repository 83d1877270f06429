// A ledger that came from a backup does not know what happened after it was made: certificates may be out there that are in no row, and
// one-time secrets may have been used. Until an operator has looked at what is known of that time, nothing is issued to anybody; status,
// revocation and the feed go on. The CA's own certificates are no danger, and without them nobody could look.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { AuditPort, MetaPort } from '../store/ports.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'

/** Times in milliseconds. What was seen outside is null where nothing outside said so. */
export interface RestoreFacts {
  readonly backupAt: number
  readonly restoredAt: number
  /** Where the ledger ends. */
  readonly feed: { readonly epoch: string; readonly n: number }
  readonly auditSize: number
  /** Where it went on to, as far as anything outside shows. */
  readonly seen: { readonly feedN: number | null; readonly auditSize: number | null }
  readonly revoked: number
  readonly held: readonly string[]
  readonly locked: readonly string[]
  readonly unknown: number
  readonly tokens: number
}

export interface Restored extends RestoreFacts {
  /** null: the ledger is in maintenance. */
  readonly endedAt: number | null
}

export interface Maintenance {
  /** @throws CaError `maintenance`, unless the CA asks for itself */
  check(context: Pick<RequestContext, 'who'>): void
  /** The last restore; null: the ledger never came from a backup. */
  restored(): Restored | null
  /** The operator has looked: issuance goes on. @throws CaError `conflict` where there is no maintenance */
  end(context: RequestContext, why?: string): Promise<Restored>
}

export const encodeRestored = (restored: Restored): string => JSON.stringify(restored)

const decode = (text: string | null): Restored | null => {
  if (text === null) return null
  const value = JSON.parse(text) as Restored
  if (typeof value.backupAt !== 'number' || typeof value.restoredAt !== 'number')
    throw new CaError('internal', 'what the ledger says of its restore is not readable')
  return value
}

const utc = (ms: number): string => new Date(ms).toISOString()

export const createMaintenance = (deps: {
  readonly clock: Clock
  readonly meta: Pick<MetaPort, 'get' | 'set'>
  readonly audit: Pick<AuditPort, 'append'>
}): Maintenance => {
  let restored = decode(deps.meta.get('maintenance'))
  return {
    check: ({ who }) => {
      if (restored === null || restored.endedAt !== null || who === 'system') return
      throw new CaError('maintenance', `the ledger was restored from a backup of ${utc(restored.backupAt)}`, {
        hint: 'an operator looks at what happened since, and goes on: agentca backup reconcile',
      })
    },
    restored: () => restored,
    end: async (context, why) => {
      if (restored === null || restored.endedAt !== null)
        throw new CaError('conflict', 'the CA is not in maintenance', { hint: 'agentca status' })
      const ended: Restored = { ...restored, endedAt: deps.clock.now() }
      // Recorded first: a crash in between leaves a maintenance that is ended again.
      const facts = { backupAt: ended.backupAt, restoredAt: ended.restoredAt, ...(why === undefined ? {} : { why }) }
      await deps.audit.append([events.maintenanceEnded(leafContextOf(context, deps.clock.now()), facts)])
      await deps.meta.set({ maintenance: encodeRestored(ended) })
      restored = ended
      return ended
    },
  }
}
