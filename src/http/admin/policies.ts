// Policies as operators see them: versions, what a set of files would do, what it does, and why a call is decided as it is.
import { CaError } from '../../ca/errors.ts'
import { type PolicyApplied, type PolicyPlan, policyPrincipal } from '../../ca/scopes.ts'
import { addressOf } from '../../ca/scopes-issuance.ts'
import type { Attributes, PolicyCall, PolicyPrincipal } from '../../policy/cedar-call.ts'
import type { Statement } from '../../policy/cedar-compile.ts'
import { type Change, explain } from '../../policy/cedar-explain.ts'
import { actionsOf, ownActions } from '../../policy/cedar-schema.ts'
import type { PolicyEvaluator } from '../../policy/cedar-scopes.ts'
import { suggest } from '../../policy/cedar-suggest.ts'
import type {
  PolicyAppliedAnswer,
  PolicyExplainAnswer,
  PolicyPlanAnswer,
  PolicyStatementAnswer,
  PolicyVersionAnswer,
  PolicyWayAnswer,
} from '../../schema/policy-answers.ts'
import type { PolicyVersion } from '../../store/policies-port.ts'
import type { Registration } from '../../store/records.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { AdminCall, Handlers } from './handler.ts'
import { namedRegistration } from './query.ts'

const day = 86_400_000
/** Versions are made by people. */
const maxListed = 1000

const versionAnswer = (version: Omit<PolicyVersion, 'files'>): PolicyVersionAnswer => ({
  version: version.id,
  state: version.unfinished ? 'unfinished' : version.active ? 'active' : 'earlier',
  hash: version.hash,
  author: version.author,
  why: version.why,
  createdAt: time(version.createdAt),
  activatedAt: time(version.activatedAt),
})

const planAnswer = ({ hash, active, faults, tests, differences }: PolicyPlan): PolicyPlanAnswer => ({
  hash,
  active,
  faults,
  tests,
  differences,
})

const appliedAnswer = ({ plan, version, changes }: PolicyApplied): PolicyAppliedAnswer => ({
  ...planAnswer(plan),
  version: version?.id ?? null,
  dryRun: version === null,
  changed: changes.length,
})

const statementAnswer = ({ id, file, line, effect, text, until }: Statement): PolicyStatementAnswer => ({
  id,
  file,
  line,
  effect,
  text,
  until: until === null ? null : time(until),
})

const inWords = (change: Change): string => {
  switch (change.kind) {
    case 'add_role':
      return `add role ${change.role}`
    case 'remove_role':
      return `take role ${change.role} away`
    case 'set_attribute':
      return `set attribute ${change.name} to ${change.value}`
    case 'remove_attribute':
      return `take attribute ${change.name} away`
    case 'add_statement':
      return 'add a statement'
    case 'remove_statement':
      return `take statement ${change.statement} away, or narrow it`
  }
}

const quoted = (text: string): string =>
  /^[A-Za-z0-9_.:=@/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`

/** The command replaces all roles and all attributes: it names those that stay. */
const commandOf = ({ kind, name, roles, attributes }: PolicyPrincipal, changes: readonly Change[]): string | null => {
  const newRoles = new Set(roles)
  const newAttributes = new Map(Object.entries(attributes))
  for (const change of changes) {
    if (change.kind === 'add_role') newRoles.add(change.role)
    else if (change.kind === 'remove_role') newRoles.delete(change.role)
    else if (change.kind === 'set_attribute') newAttributes.set(change.name, change.value)
    else if (change.kind === 'remove_attribute') newAttributes.delete(change.name)
    else return null
  }
  const ofRoles = changes.some(each => each.kind.endsWith('_role'))
  const ofAttributes = changes.some(each => each.kind.endsWith('_attribute'))
  // The command has no words for none.
  if ((ofRoles && newRoles.size === 0) || (ofAttributes && newAttributes.size === 0)) return null
  return [
    `agentca ${kind} update ${name}`,
    ...(ofRoles ? [...newRoles].map(role => `--role ${quoted(role)}`) : []),
    ...(ofAttributes ? [...newAttributes].map(([key, value]) => `--attribute ${quoted(`${key}=${value}`)}`) : []),
  ].join(' ')
}

const wayAnswer = (principal: PolicyPrincipal, changes: readonly Change[]): PolicyWayAnswer => ({
  changes: changes.map(inWords),
  command: commandOf(principal, changes),
  statement: changes.flatMap(each => (each.kind === 'add_statement' ? [each.text] : []))[0] ?? null,
})

/** @throws CaError `value_invalid`: a mistyped action would be denied for ever, and nobody would know why */
export const checkAction = ({ policies }: PolicyEvaluator, action: string): void => {
  const declared = [...actionsOf(policies.services), ...Object.values(ownActions)]
  if (declared.includes(action)) return
  const near = declared.filter(each => each.startsWith(action.split(':')[0] as string)).slice(0, 10)
  throw new CaError('value_invalid', `action: no service declares ${action}`, {
    hint: near.length === 0 ? 'declare it in actions.yaml of the policies' : `declared are ${near.join(', ')}`,
  })
}

/** @throws CaError `not_found` while there are none */
export const evaluatorInForce = ({ policies }: Pick<AdminDeps, 'policies'>): PolicyEvaluator => {
  const active = policies.active()
  if (active !== null) return active.evaluator
  throw new CaError('not_found', 'no policies are in force: nothing is granted to anybody', {
    hint: 'agentca policy apply DIRECTORY',
  })
}

export const grantOf = (evaluator: PolicyEvaluator, principal: PolicyPrincipal, action: string, at: number) => {
  const { scopes, conditional } = evaluator.grants(principal, at)
  if (scopes.includes(action)) return 'scope'
  return conditional.includes(action) ? 'conditional' : 'none'
}

/** What this CA itself says when it asks about enrolment and renewal (scopes-issuance.ts). */
const ownContext = (deps: AdminDeps, { id, profile }: Registration, action: string, at: number): Attributes => {
  if (!Object.values<string>(ownActions).includes(action)) return {}
  return { profile, instances: deps.ledger.instances.list({ registrationId: id, liveAt: at, limit: 1000 }).length }
}

const explainAnswer = (deps: AdminDeps, { body }: AdminCall<'policiesExplain'>): PolicyExplainAnswer => {
  const { kind, name, action } = body
  const registration = namedRegistration(deps.ledger, kind, name)
  const principal = policyPrincipal(registration)
  const evaluator = evaluatorInForce(deps)
  checkAction(evaluator, action)
  const at = body.time === undefined ? deps.clock.now() : Date.parse(body.time)
  const source = addressOf(body.source)
  if (body.source !== undefined && source === null)
    throw new CaError('value_invalid', `source: expected an address, got ${body.source}`)
  const call: PolicyCall = {
    principal,
    action,
    resource: body.resource ?? null,
    at,
    source,
    rate: body.rate ?? null,
    context: { ...ownContext(deps, registration, action, at), ...body.context },
  }
  const { decision, statements, failed, ways } = explain(evaluator, call)
  return {
    kind,
    name,
    action,
    decision,
    grant: grantOf(evaluator, principal, action, at),
    version: deps.policies.active()?.version.id ?? null,
    by: statements.map(statementAnswer),
    failed,
    ways: ways.map(way => wayAnswer(principal, way)),
  }
}

const showVersion = (deps: AdminDeps, text: string): PolicyVersion => {
  const { policies } = deps.ledger
  const version =
    text === 'active' ? policies.active() : /^[1-9][0-9]{0,8}$/.test(text) ? policies.get(Number(text)) : null
  if (version !== null) return version
  throw new CaError(
    'not_found',
    text === 'active' ? 'no policies are in force' : `there are no policies of version ${text}`,
    {
      hint: 'agentca policy list',
    },
  )
}

type Names =
  | 'policiesList'
  | 'policiesShow'
  | 'policiesPlan'
  | 'policiesApply'
  | 'policiesRollback'
  | 'policiesExplain'
  | 'policiesSuggest'

export const policyHandlers = (deps: AdminDeps): Pick<Handlers, Names> => ({
  policiesList: () => ({
    ...wholeList(deps.ledger.policies.list({ limit: maxListed }).map(versionAnswer)),
    next: null,
  }),
  policiesShow: ({ params }) => {
    const { files, ...version } = showVersion(deps, params.version)
    return { ...versionAnswer(version), files }
  },
  policiesPlan: async ({ body }) => planAnswer(await deps.policies.plan(body.files)),
  policiesApply: async ({ body: { files, why, dryRun }, context }) =>
    appliedAnswer(await deps.policies.apply(files, { context, why, dryRun })),
  policiesRollback: async ({ body: { version, why, dryRun }, context }) =>
    appliedAnswer(await deps.policies.rollback(version, { context, why, dryRun })),
  policiesExplain: call => explainAnswer(deps, call),
  policiesSuggest: ({ query: { kind, name, days } }) => {
    const principal = policyPrincipal(namedRegistration(deps.ledger, kind, name))
    const now = deps.clock.now()
    const since = now - days * day
    const done = kind === 'agent' ? deps.monitor.activityOf(name, since) : []
    const found = suggest(deps.policies.active()?.evaluator ?? null, principal, done, now)
    const { text, unused, undeclared } = found
    const used = found.used.map(({ action, allowed, denied, last }) => ({ action, allowed, denied, last: time(last) }))
    return { kind, name, since: time(since), text, used, unused, undeclared }
  },
})
