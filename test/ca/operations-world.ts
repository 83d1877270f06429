// The operators' operations over a real ledger in memory, with a clock that a test sets. Certificates come from the store's own
// fixtures: their bytes do not matter here.
import { randomBytes } from 'node:crypto'
import { silentLog } from '../../src/base/log.ts'
import type { Step } from '../../src/base/steps.ts'
import { createLifecycle } from '../../src/ca/lifecycle.ts'
import { createOwnerOperations } from '../../src/ca/owners.ts'
import { createRegistry, type NewRegistration } from '../../src/ca/registry.ts'
import { createRevoke } from '../../src/ca/revoke.ts'
import { createTokenOperations } from '../../src/ca/tokens.ts'
import type { SubjectKind } from '../../src/store/records.ts'
import { addIssuer, makeLedger, now } from '../store/make-ledger.ts'

export const context = { requestId: 'r-1', who: 'operator:alice', source: '192.0.2.7' }
export const day = 86_400_000

const profileKinds: Readonly<Record<string, SubjectKind>> = {
  agent: 'agent',
  'agent-short': 'agent',
  service: 'service',
  operator: 'operator',
}

export const makeOperations = async (ledger = makeLedger()) => {
  let at = now
  const clock = { now: () => at, monotonic: () => at }
  const issuer = await addIssuer(ledger, 'issuing-1')
  /** Numbered steps with the feed's head at that moment. */
  const steps: (readonly [Step, number])[] = []
  const counted: (readonly [string, Readonly<Record<string, string>> | undefined])[] = []
  const deps = {
    clock,
    log: silentLog,
    registrations: ledger.registrations,
    owners: ledger.owners,
    instances: ledger.instances,
    tokens: ledger.tokens,
    audit: ledger.audit,
    revocations: ledger.revocations,
    feed: ledger.feed,
    metrics: {
      count: (name: string, labels?: Readonly<Record<string, string>>) => {
        counted.push([name, labels])
      },
    },
    reached: (step: Step) => {
      steps.push([step, ledger.feed.head().n])
    },
    profileKind: (name: string) => profileKinds[name] ?? null,
    caId: 'ca-1',
    randomBytes: (length: number) => new Uint8Array(randomBytes(length)),
  }
  const registry = createRegistry(deps)
  const register = (kind: SubjectKind, name: string, more: Partial<NewRegistration> = {}, dryRun = false) =>
    registry.create(
      {
        kind,
        name,
        owner: kind === 'agent' ? 'finance' : null,
        purpose: '',
        profile: null,
        roles: [],
        attributes: {},
        dnsNames: [],
        instanceLimit: null,
        operatorRole: kind === 'operator' ? 'viewer' : null,
        until: null,
        ...more,
      },
      { context, dryRun },
    )
  return {
    ledger,
    issuer,
    counted,
    steps,
    registry,
    owners: createOwnerOperations(deps),
    register,
    lifecycle: createLifecycle(deps),
    tokens: createTokenOperations(deps),
    revoke: createRevoke(deps),
    setTime: (time: number) => {
      at = time
    },
    /** Newest first: event, and what its leaf says. */
    leaves: (limit = 1) =>
      ledger.audit.tail({ limit }).map(leaf => ({
        event: leaf.event,
        subject: leaf.subject,
        ...JSON.parse(new TextDecoder().decode(leaf.bytes)),
      })),
    size: () => ledger.audit.head().size,
  }
}

export type Operations = Awaited<ReturnType<typeof makeOperations>>

export const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'fulfilled',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  )
