// Policies in force: what of a set of files is taken, and what follows from it for each registration. A set is compiled and its cases are
// run before the ledger hears of it; the ledger then puts it in force together with the scopes that it leads to.
import { setImmediate as turn } from 'node:timers/promises'
import * as events from '../audit/events.ts'
import type { LeafContext } from '../audit/leaf.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { loadCedar } from '../policy/cedar.ts'
import type { PolicyPrincipal } from '../policy/cedar-call.ts'
import { compilePolicies, type PolicyFault, type PolicyFiles } from '../policy/cedar-compile.ts'
import { createPolicyEvaluator, type PolicyEvaluator } from '../policy/cedar-scopes.ts'
import { type PolicyTestResult, runPolicyTests } from '../policy/cedar-tests.ts'
import { PolicyError } from '../policy/errors.ts'
import type { PoliciesPort, PolicyVersion, ResolveScopes, ScopeChange } from '../store/policies-port.ts'
import type { RegistrationsPort } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import { leafContextOf } from './leaf-context.ts'
import { checkText } from './operator-values.ts'

export interface PolicyAuthorityDeps {
  readonly clock: Clock
  readonly log: Log
  readonly policies: PoliciesPort
  readonly registrations: Pick<RegistrationsPort, 'find' | 'list'>
}

export interface ActivePolicies {
  readonly version: PolicyVersion
  readonly evaluator: PolicyEvaluator
}

/** What one caller gains and loses; only callers with a difference. */
export interface GrantDifference {
  readonly kind: 'agent' | 'service'
  readonly name: string
  readonly gains: readonly string[]
  readonly loses: readonly string[]
  /** Granted for some calls only, now and not before; and before and not now. */
  readonly gainsConditionally: readonly string[]
  readonly losesConditionally: readonly string[]
}

/** What would be if a set of files was put in force. */
export interface PolicyPlan {
  readonly hash: string
  /** Version that is in force; null: none. */
  readonly active: number | null
  readonly faults: readonly PolicyFault[]
  readonly tests: readonly PolicyTestResult[]
  /** Empty where there are errors. */
  readonly differences: readonly GrantDifference[]
}

export interface PolicyApplied {
  readonly plan: PolicyPlan
  /** null: a dry run. */
  readonly version: PolicyVersion | null
  readonly changes: readonly ScopeChange[]
}

export interface ApplyOptions {
  readonly context: RequestContext
  readonly why?: string | undefined
  readonly dryRun: boolean
}

export interface PolicyAuthority {
  active(): ActivePolicies | null
  plan(files: PolicyFiles): Promise<PolicyPlan>
  /** @throws PolicyError `policy_malformed`; CaError `policy_test_failed`, `value_invalid`; StoreError `conflict` */
  apply(files: PolicyFiles, options: ApplyOptions): Promise<PolicyApplied>
  /** An earlier version again. @throws CaError `not_found`, `conflict`; as apply */
  rollback(version: number, options: ApplyOptions): Promise<PolicyApplied>
  /** Scopes that time alone changes, when they are due. */
  refreshIfDue(): Promise<void>
}

export const policyPrincipal = (registration: Registration): PolicyPrincipal => {
  const { kind, name, owner, profile, roles, attributes } = registration
  if (kind === 'operator') throw new CaError('internal', 'policies are about agents and services')
  return { kind, name, owner, profile, roles, attributes }
}

const pageSize = 500
const maxTurnMs = 8
const who: LeafContext['who'] = 'system'

async function* everybody({ registrations }: Pick<PolicyAuthorityDeps, 'registrations'>) {
  for (const kind of ['agent', 'service'] as const)
    for (let after: string | undefined; ; ) {
      const page = registrations.list({ kind, limit: pageSize, ...(after === undefined ? {} : { after }) })
      yield* page.filter(({ state }) => state !== 'retired')
      const last = page.at(-1)
      if (page.length < pageSize || last === undefined) break
      after = last.name
    }
}

const without = (some: readonly string[], others: readonly string[]): readonly string[] =>
  some.filter(each => !others.includes(each))

const nothing = { scopes: [], conditional: [] }

const differenceOf = (
  registration: Registration,
  before: PolicyEvaluator | null,
  after: PolicyEvaluator,
  at: number,
): GrantDifference | null => {
  const principal = policyPrincipal(registration)
  const had = before?.grants(principal, at) ?? nothing
  const has = after.grants(principal, at)
  const difference = {
    kind: principal.kind,
    name: principal.name,
    gains: without(has.scopes, had.scopes),
    loses: without(had.scopes, has.scopes),
    gainsConditionally: without(has.conditional, had.conditional),
    losesConditionally: without(had.conditional, has.conditional),
  }
  const { gains, loses, gainsConditionally, losesConditionally } = difference
  return [gains, loses, gainsConditionally, losesConditionally].some(each => each.length > 0) ? difference : null
}

export const faultText = ({ file, line, problem }: PolicyFault): string =>
  `${file}${line === null ? '' : `:${line}`}: ${problem}`

const resolverOf =
  (evaluator: PolicyEvaluator): ResolveScopes =>
  (registration, at) =>
    evaluator.scopes(policyPrincipal(registration), at)

const isError = ({ severity }: PolicyFault): boolean => severity === 'error'

/** @throws PolicyError `policy_malformed` with every fault */
const refuseFaults = (faults: readonly PolicyFault[]): void => {
  const errors = faults.filter(isError)
  if (errors.length === 0) return
  throw new PolicyError('policy_malformed', `${errors.length} faults: ${faultText(errors[0]!)}`, {
    facts: { faults: errors.map(faultText) },
    hint: 'agentca policy check',
  })
}

/** @throws CaError `policy_test_failed` */
const refuseFailures = (tests: readonly PolicyTestResult[]): void => {
  const failed = tests.filter(({ problem }) => problem !== null)
  if (failed.length === 0) return
  const told = failed.map(({ file, number, name, problem }) => `${file} #${number} (${name}): ${problem}`)
  throw new CaError('policy_test_failed', `${failed.length} of ${tests.length} cases fail: ${told[0]}`, {
    facts: { faults: told },
    hint: 'agentca policy test',
  })
}

/** The policies in force, and when time alone changes what follows from them. Follows the ledger. */
interface InForce {
  readonly current: ActivePolicies | null
  enforce(version: PolicyVersion, evaluator: PolicyEvaluator, at: number): void
  /** null: never. */
  due: number | null
}

const createInForce = (): InForce => {
  // Owned by this closure.
  let current: ActivePolicies | null = null
  const state = {
    due: null as number | null,
    get current() {
      return current
    },
    enforce: (version: PolicyVersion, evaluator: PolicyEvaluator, at: number): void => {
      const before = current
      current = { version, evaluator }
      state.due = evaluator.nextChange(at)
      if (before !== null && before.evaluator !== evaluator) before.evaluator[Symbol.dispose]()
    },
  }
  return state
}

const evaluatorOf = async (files: PolicyFiles) => {
  const cedar = await loadCedar()
  const compiled = compilePolicies(cedar, files)
  return {
    ...compiled,
    evaluator: compiled.policies === null ? null : createPolicyEvaluator(cedar, compiled.policies),
  }
}

interface Planned {
  readonly plan: PolicyPlan
  /** null where there are errors. */
  readonly evaluator: PolicyEvaluator | null
}

const createPlanning =
  (deps: PolicyAuthorityDeps, inForce: InForce) =>
  async (files: PolicyFiles): Promise<Planned> => {
    const { clock } = deps
    const { faults, policies: found, evaluator } = await evaluatorOf(files)
    const at = clock.now()
    const active = inForce.current?.version.id ?? null
    if (evaluator === null || found === null)
      return { plan: { hash: '', active, faults, tests: [], differences: [] }, evaluator }
    const find = (kind: 'agent' | 'service', name: string) => {
      const registration = deps.registrations.find(kind, name)
      return registration === null ? null : policyPrincipal(registration)
    }
    const tests = runPolicyTests(evaluator, find, at)
    const differences: GrantDifference[] = []
    let begun = clock.monotonic()
    for await (const registration of everybody(deps)) {
      // A fleet is gone through beside everything else.
      if (clock.monotonic() - begun > maxTurnMs) {
        await turn()
        begun = clock.monotonic()
      }
      const difference = differenceOf(registration, inForce.current?.evaluator ?? null, evaluator, at)
      if (difference !== null) differences.push(difference)
    }
    return { plan: { hash: found.hash, active, faults, tests, differences }, evaluator }
  }

/** One at a time: what comes into force goes through all registrations, in steps. @throws CaError `conflict` for a second one */
const createTurns = () => {
  let isTaken = false
  return {
    get isTaken() {
      return isTaken
    },
    take: async <T>(work: () => Promise<T>): Promise<T> => {
      if (isTaken)
        throw new CaError('conflict', 'other policies are coming into force at this moment', {
          hint: 'agentca policy list says when they are; then look again: agentca policy diff',
        })
      isTaken = true
      try {
        return await work()
      } finally {
        isTaken = false
      }
    },
  }
}

/** What was interrupted, by the end of the process or a ledger that could not be written, is brought to its end. */
const createFinishing =
  ({ clock, policies, log }: PolicyAuthorityDeps, inForce: InForce) =>
  async (): Promise<void> => {
    const unfinished = policies.rolling()
    if (unfinished === null) return
    const { evaluator, faults } = await evaluatorOf(unfinished.files)
    refuseFaults(faults)
    const at = clock.now()
    const { id, hash, why } = unfinished
    const done = await policies.activate({
      version: id,
      expected: policies.active()?.id ?? null,
      resolve: resolverOf(evaluator!),
      at,
      stepLeaf: (version, changes) => events.scopesChanged({ at, who }, { version, changes }),
      leaf: (from, to, changes) =>
        events.policyActivated({ at, who }, { from, to, hash, why: why ?? undefined, changes }),
    })
    inForce.enforce(done.version, evaluator!, at)
    log.info({ version: id }, 'policies that were interrupted while they came into force are in force now')
  }

/** @throws PolicyError where the version in force cannot be evaluated: a server that granted by anything else would be worse than none */
export const openPolicyAuthority = async (deps: PolicyAuthorityDeps): Promise<PolicyAuthority> => {
  const { clock, policies, log } = deps
  const inForce = createInForce()
  const turns = createTurns()
  const planned = createPlanning(deps, inForce)
  const finish = createFinishing(deps, inForce)
  const stored = policies.active()
  if (stored !== null) {
    const { evaluator, faults } = await evaluatorOf(stored.files)
    refuseFaults(faults)
    policies.provide(stored.id, resolverOf(evaluator!))
    inForce.enforce(stored, evaluator!, clock.now())
    // What time changed while nobody was here.
    inForce.due = clock.now()
  }
  await finish()

  const activate = async (
    version: number | null,
    files: PolicyFiles,
    { context, why, dryRun }: ApplyOptions,
  ): Promise<PolicyApplied> => {
    if (why !== undefined) checkText('why', why)
    const { plan, evaluator } = await planned(files)
    let isNeeded = false
    try {
      refuseFaults(plan.faults)
      refuseFailures(plan.tests)
      if (dryRun || evaluator === null) return { plan, version: null, changes: [] }
      const at = clock.now()
      const { hash } = plan
      const done = await policies.activate({
        version: version ?? { hash, files, author: context.who, why: why ?? null },
        expected: plan.active,
        resolve: resolverOf(evaluator),
        at,
        stepLeaf: (to, changes) => events.scopesChanged(leafContextOf(context, at), { version: to, changes }),
        leaf: (from, to, changes) =>
          events.policyActivated(leafContextOf(context, at), { from, to, hash, why, changes }),
      })
      isNeeded = true
      inForce.enforce(done.version, evaluator, at)
      return { plan, version: done.version, changes: done.changes }
    } finally {
      // Interrupted between steps: registrations that were reached follow it until it is finished.
      isNeeded ||= policies.rolling() !== null
      if (!isNeeded) evaluator?.[Symbol.dispose]()
    }
  }

  return {
    active: () => inForce.current,
    plan: async files => {
      const { plan, evaluator } = await planned(files)
      evaluator?.[Symbol.dispose]()
      return plan
    },
    apply: (files, options) => turns.take(() => activate(null, files, options)),
    rollback: async (id, options) => {
      const version = policies.get(id)
      if (version === null)
        throw new CaError('not_found', `there are no policies of version ${id}`, { hint: 'agentca policy list' })
      // Over others that were interrupted the one in force is put in force again.
      if (version.active && policies.rolling() === null)
        throw new CaError('conflict', `policies ${id} are in force already`, { hint: 'agentca policy list' })
      return turns.take(() => activate(id, version.files, options))
    },
    refreshIfDue: async () => {
      if (turns.isTaken) return
      await turns.take(async () => {
        await finish()
        const at = clock.now()
        const { current, due } = inForce
        if (current === null || due === null || at < due) return
        const next = current.evaluator.nextChange(at)
        const changes = await policies.refresh({
          at,
          leaf: (version, changed) => events.scopesChanged({ at, who }, { version, changes: changed }),
        })
        inForce.due = next
        if (changes.length > 0) log.info({ registrations: changes.length }, 'scopes changed by time alone')
      })
    },
  }
}
