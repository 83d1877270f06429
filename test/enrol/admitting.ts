// A CA's agent API with attestors: real ledger, real listener, attestors as their files say.
import { randomBytes } from 'node:crypto'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createMaintenance, encodeRestored } from '../../src/ca/maintenance.ts'
import { createAdmission } from '../../src/enrol/admit.ts'
import type { Attestor } from '../../src/enrol/attestor.ts'
import { parseAttestor } from '../../src/schema/attestor.ts'
import { openAttestor } from '../../src/server/attestors.ts'
import { type AgentKey, type Ask, createKey, createTestFront, publicUrl } from '../http/harness.ts'

export type Admitting = Awaited<ReturnType<typeof startAdmitting>>

export const startAdmitting = async () => {
  const front = await createTestFront()
  let attestors: readonly Attestor[] = []
  // The pace at which keys are fetched need not be waited for.
  const time = { aheadMs: 0 }
  const attestorClock = { now: systemClock.now, monotonic: () => systemClock.monotonic() + time.aheadMs }
  const { ledger, deps } = front
  const state = { maintenance: createMaintenance({ ...deps, meta: ledger.meta }) }
  const { clock, sampler, audit } = deps
  const admission = createAdmission({
    ...{ clock, sampler, audit, metrics: silentMetrics, caId: (await tokenAudience(front)) ?? '', randomBytes },
    attestors: () => attestors,
    registrations: ledger.registrations,
    tokens: ledger.tokens,
    maintenance: {
      check: context => state.maintenance.check(context),
      restored: () => state.maintenance.restored(),
    },
  })
  const served = await front.serve({ admission })
  return {
    front,
    ledger,
    admission,
    time,
    /** One more attestor, by the text of its file. */
    add: (name: string, yaml: string): Attestor => {
      const attestor = openAttestor(parseAttestor(name, yaml), { clock: attestorClock, log: silentLog, publicUrl })
      attestors = [...attestors, attestor]
      return attestor
    },
    /** The ledger as a restore leaves it, in maintenance or after it; null: it never was restored. */
    restored: (facts: { restoredAt: number; endedAt: number | null } | null): void => {
      const zero = { feed: { epoch: '', n: 0 }, auditSize: 0, seen: { feedN: null, auditSize: null } }
      const more = { revoked: 0, locked: [], held: [], unknown: 0, tokens: 0 }
      const { set } = ledger.meta
      const get = () =>
        facts === null ? null : encodeRestored({ ...zero, ...more, backupAt: facts.restoredAt - 1, ...facts })
      const meta = { get, set }
      state.maintenance = createMaintenance({ ...deps, meta })
    },
    removeAll: (): void => {
      for (const attestor of attestors) attestor.close()
      attestors = []
    },
    enrol: async (evidence: object, key?: AgentKey, more: Partial<Ask> = {}) =>
      served.call('/v1/enroll', { body: { csr: (key ?? (await createKey())).csrText, evidence }, ...more }),
    leaves: (event: string) =>
      ledger.audit
        .tail({ event, limit: 20 })
        .map(({ bytes, subject }) => ({ ...JSON.parse(Buffer.from(bytes).toString('utf8')), about: subject })),
    [Symbol.asyncDispose]: async () => {
      for (const attestor of attestors) attestor.close()
      await served[Symbol.asyncDispose]()
      await front[Symbol.asyncDispose]()
    },
  }
}

/** The CA that join tokens are made for, as one of them says it. */
const tokenAudience = async (front: Awaited<ReturnType<typeof createTestFront>>): Promise<string | undefined> => {
  await front.createToken('names-the-ca')
  const { id } = front.ledger.registrations.find('agent', 'names-the-ca')!
  return front.ledger.tokens.list({ registrationId: id, limit: 1 })[0]?.audience
}
