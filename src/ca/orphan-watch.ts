// What is done about orphans: listed page by page, ended by an operator who saw how many there are, and, by a recurring job, warned of
// and after a grace period held (a lapsed attestation) or retired (only where the configuration says so). The rules are orphans.ts's; each
// end goes through the same functions as an operator's own command, and is decided again under the ledger's lock.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { OrphansPort, RegistrationFacts } from '../store/orphans-port.ts'
import type { Registration } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'
import type { Lifecycle } from './lifecycle.ts'
import { checkText } from './operator-values.ts'
import {
  endingReasons,
  instanceOrphan,
  nothingObserved,
  type ObservedCalls,
  type Orphan,
  type OrphanReason,
  type OrphanRules,
  orphanOf,
  stepsOf,
  tokenOrphan,
  type WatchStep,
} from './orphans.ts'
import { refuseOwnService } from './own-service.ts'
import type { ChangeOptions } from './registration-change.ts'
import type { Revoke } from './revoke.ts'
import type { TokenOperations } from './tokens.ts'

export interface OrphanWatchDeps {
  readonly clock: Clock
  readonly log: Log
  readonly orphans: OrphansPort
  readonly lifecycle: Pick<Lifecycle, 'hold' | 'retire'>
  readonly revoke: Revoke
  readonly tokens: Pick<TokenOperations, 'revoke'>
  readonly rules: OrphanRules
  /** What is known of an agent's calls; left out where nobody reports any. */
  readonly callsOf?: (agent: Registration) => ObservedCalls
}

export interface OrphanPage {
  readonly items: readonly Orphan[]
  /** Cursor of the next page; null on the last one. Items come only from the registrations of a page: it may be empty. */
  readonly next: number | null
}

export interface OrphanEnd {
  readonly orphan: Orphan
  /** Why it was not ended; null: it was, or would be. */
  readonly problem: string | null
}

export interface OrphanRetirement {
  readonly items: readonly OrphanEnd[]
  /** More of them than one call ends. */
  readonly more: boolean
}

export interface OrphanWatch {
  list(page: {
    readonly after: number
    readonly limit: number
    readonly reasons: ReadonlySet<OrphanReason> | null
  }): OrphanPage
  /**
   * Ends what is listed for these reasons: agents are retired, instances and tokens revoked.
   * @param options `expected` counts things, not certificates @throws CaError `radius_changed` when there are more than that
   */
  retire(reasons: ReadonlySet<OrphanReason>, options: ChangeOptions): Promise<OrphanRetirement>
  /** One round of the recurring job. */
  round(): Promise<void>
  /** Registrations with a reason, by it, as the last round found them. */
  counts(): ReadonlyMap<OrphanReason, number>
}

/** Read in one go, between two turns of the event loop. */
const pageSize = 100
/** Of one registration: a list that nobody reads to its end helps nobody. */
const maxThings = 100
const maxEnded = 1000

const byJob: RequestContext = { requestId: 'orphans', who: 'system:orphans', source: 'system' }
const breath = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** The things of one registration that have one of these reasons. */
const orphansOf = (
  deps: OrphanWatchDeps,
  facts: RegistrationFacts,
  reasons: ReadonlySet<OrphanReason> | null,
  now: number,
): readonly Orphan[] => {
  const { orphans, rules } = deps
  const { id: registrationId, kind } = facts.registration
  const wants = (reason: OrphanReason): boolean => reasons === null || reasons.has(reason)
  const whole = orphanOf(facts, callsOf(deps, facts), rules, now)
  const instances = (): readonly Orphan[] =>
    orphans
      .instances({ registrationId, now, issuedBefore: now - rules.idleMs + 1, limit: maxThings })
      .map(instance => instanceOrphan(facts, instance))
  const tokens = (): readonly Orphan[] =>
    orphans
      .unusedTokens({ registrationId, createdBefore: now - rules.tokenUnusedMs + 1, limit: maxThings })
      .map(token => tokenOrphan(facts, token, now))
  const isIdle = whole?.reasons.some(({ reason }) => reason === 'idle') ?? false
  return [
    ...(whole?.reasons.some(({ reason }) => wants(reason)) ? [whole] : []),
    // Those of an idle agent end with it.
    ...(kind === 'agent' && !isIdle && wants('idle') ? instances() : []),
    ...(wants('token_unused') ? tokens() : []),
  ]
}

const callsOf = (deps: OrphanWatchDeps, { registration }: RegistrationFacts): ObservedCalls =>
  registration.kind === 'agent' ? (deps.callsOf?.(registration) ?? nothingObserved) : nothingObserved

const walk = async (deps: OrphanWatchDeps, visit: (facts: RegistrationFacts) => Promise<boolean>): Promise<void> => {
  let after = 0
  for (;;) {
    const page = deps.orphans.registrations({ after, limit: pageSize })
    for (const facts of page) if (!(await visit(facts))) return
    if (page.length < pageSize) return
    after = page.at(-1)!.registration.id
    await breath()
  }
}

/** Under the ledger's lock: somebody may have enrolled, attested or said otherwise since the list was read. */
const stillOrphan = (deps: OrphanWatchDeps, id: number, reasons: ReadonlySet<OrphanReason>) => (): void => {
  const now = deps.clock.now()
  const facts = deps.orphans.registration(id)
  const orphan = facts === null ? null : orphanOf(facts, callsOf(deps, facts), deps.rules, now)
  if (orphan?.reasons.some(({ reason }) => reasons.has(reason))) return
  throw new CaError('conflict', 'it is no orphan any more', { hint: 'agentca orphans' })
}

const endOne = async (
  deps: OrphanWatchDeps,
  { orphan, registrationId }: { readonly orphan: Orphan; readonly registrationId: number },
  reasons: ReadonlySet<OrphanReason>,
  options: ChangeOptions,
): Promise<OrphanEnd> => {
  const { kind, name, what, id } = orphan
  const why = options.why ?? `orphan: ${orphan.reasons.map(({ reason }) => reason).join(', ')}`
  const how = { context: options.context, why, dryRun: options.dryRun }
  try {
    if (what === 'token') await deps.tokens.revoke(id!, how)
    else if (what === 'instance') await deps.revoke({ by: 'instance', value: id! }, 'cessationOfOperation', how)
    else {
      refuseOwnService({ kind, name })
      await deps.lifecycle.retire({ kind, name }, { ...how, still: stillOrphan(deps, registrationId, reasons) })
    }
    return { orphan, problem: null }
  } catch (error) {
    if (!isAgentCaError(error) || error.code === 'store_failed') throw error
    return { orphan, problem: error.message }
  }
}

const retire = async (
  deps: OrphanWatchDeps,
  reasons: ReadonlySet<OrphanReason>,
  options: ChangeOptions,
): Promise<OrphanRetirement> => {
  if (options.why !== undefined) checkText('why', options.why)
  const now = deps.clock.now()
  const found: { readonly orphan: Orphan; readonly registrationId: number }[] = []
  await walk(deps, async facts => {
    // Services and operators are ended by name only, an operator's token too: nobody should lose one with a list.
    for (const orphan of orphansOf(deps, facts, reasons, now))
      if (orphan.kind === 'agent' || (orphan.what === 'token' && orphan.kind === 'service'))
        found.push({ orphan, registrationId: facts.registration.id })
    return found.length <= maxEnded
  })
  const { expected } = options
  const whole = found.length
  if (expected !== undefined && whole > expected)
    throw new CaError('confirmation_needed', `expected at most ${expected} orphans, got ${whole}`, {
      facts: { expected, found: whole },
      hint: `look again (agentca orphans --retire --dry-run), then --confirm ${Math.min(whole, maxEnded)}`,
    })
  const items: OrphanEnd[] = []
  for (const each of found.slice(0, maxEnded)) items.push(await endOne(deps, each, reasons, options))
  return { items, more: whole > maxEnded }
}

/** @returns what was done, for the log */
const take = async (deps: OrphanWatchDeps, facts: RegistrationFacts, step: WatchStep, now: number): Promise<void> => {
  const { id, name, kind } = facts.registration
  const subject = { kind, name }
  if (step.act === 'forget') return deps.orphans.forget(id, step.topic)
  const reasons = orphanOf(facts, callsOf(deps, facts), deps.rules, now)?.reasons ?? []
  if (step.act === 'warn') {
    const said = {
      topic: step.topic,
      owner: facts.registration.owner,
      reasons: reasons.map(({ reason }) => reason),
      act: step.next?.act ?? null,
      actAt: step.next?.at ?? null,
    }
    const leaf = events.orphanWarned(leafContextOf(byJob, now), subject, said)
    return deps.orphans.warn(id, { topic: step.topic, warnedAt: now }, leaf)
  }
  const still = (): void => {
    const again = deps.orphans.registration(id)
    const steps = again === null ? [] : stepsOf(again, callsOf(deps, again), deps.rules, now)
    if (!steps.some(({ act }) => act === step.act)) throw new CaError('conflict', 'it is no orphan any more')
  }
  const [act, why] =
    step.act === 'hold'
      ? [deps.lifecycle.hold, `attestation lapsed: agentca agent attest ${name}, then agentca agent release ${name}`]
      : [deps.lifecycle.retire, `orphan: ${reasons.map(({ reason }) => reason).join(', ')}`]
  await act(subject, { context: byJob, why, dryRun: false, still })
  deps.log.warn({ agent: name, act: step.act, why }, 'an orphan came to the end of its grace period')
}

const round = async (deps: OrphanWatchDeps): Promise<ReadonlyMap<OrphanReason, number>> => {
  const now = deps.clock.now()
  const counts = new Map<OrphanReason, number>()
  await walk(deps, async facts => {
    const calls = callsOf(deps, facts)
    for (const { reason } of orphanOf(facts, calls, deps.rules, now)?.reasons ?? [])
      counts.set(reason, (counts.get(reason) ?? 0) + 1)
    for (const step of stepsOf(facts, calls, deps.rules, now))
      try {
        await take(deps, facts, step, now)
      } catch (error) {
        if (!isAgentCaError(error)) throw error
        const { kind, name } = facts.registration
        deps.log.warn({ kind, name, act: step.act, reason: messageOf(error) }, 'nothing was done about an orphan')
      }
    return true
  })
  return counts
}

export const createOrphanWatch = (deps: OrphanWatchDeps): OrphanWatch => {
  let counts: ReadonlyMap<OrphanReason, number> = new Map()
  return {
    list: ({ after, limit, reasons }) => {
      const now = deps.clock.now()
      const page = deps.orphans.registrations({ after, limit })
      const last = page.at(-1)
      return {
        items: page.flatMap(facts => orphansOf(deps, facts, reasons, now)),
        next: page.length < limit || last === undefined ? null : last.registration.id,
      }
    },
    retire: (reasons, options) => retire(deps, reasons, options),
    round: async () => {
      counts = await round(deps)
    },
    counts: () => counts,
  }
}

/** What `--retire` ends where nobody says for which reasons. */
export const retiredByDefault: ReadonlySet<OrphanReason> = endingReasons
