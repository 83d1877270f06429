// Agents, services and operators.
import { CaError } from '../../ca/errors.ts'
import { isOwnService, refuseOwnService } from '../../ca/own-service.ts'
import type { ChangeOptions, ChangeOutcome, Subject } from '../../ca/registration-change.ts'
import type { NewRegistration, RegistrationUpdate } from '../../ca/registry.ts'
import type { RegistrationDetail } from '../../schema/admin-answers.ts'
import { type AdminBody, adminRoutes } from '../../schema/admin-api.ts'
import type { SubjectKind } from '../../store/records.ts'
import { changeAnswer, instanceAnswer, pageOf, registrationAnswer, tokenAnswer } from './answers.ts'
import { type Actor, checkRole } from './authorize.ts'
import type { AdminDeps } from './deps.ts'
import type { AdminCall, Handlers } from './handler.ts'
import { filled, namedRegistration } from './query.ts'

type Names =
  | 'agentsCreate'
  | 'servicesCreate'
  | 'operatorsCreate'
  | 'registrationsList'
  | 'registrationsShow'
  | 'agentsUpdate'
  | 'servicesUpdate'
  | 'agentsHold'
  | 'agentsRelease'
  | 'agentsRetire'
  | 'agentsAttest'
  | 'servicesRetire'
  | 'operatorsRetire'

const kindsByPath: Readonly<Record<string, SubjectKind>> = {
  agents: 'agent',
  services: 'service',
  operators: 'operator',
}

const kindOf = (text: string): SubjectKind => {
  const kind = Object.hasOwn(kindsByPath, text) ? kindsByPath[text] : undefined
  if (kind === undefined) throw new CaError('not_found', `expected agents, services or operators, got ${text}`)
  return kind
}

const milliseconds = (text: string | undefined): number | null => (text === undefined ? null : Date.parse(text))

/** What every registration may have; who has what else is said where it is created. */
const draftOf = (
  kind: SubjectKind,
  body: AdminBody<'agentsCreate'> | AdminBody<'servicesCreate'>,
): NewRegistration => ({
  kind,
  name: body.name,
  owner: body.owner ?? null,
  purpose: body.purpose,
  profile: body.profile ?? null,
  roles: body.roles,
  attributes: body.attributes,
  dnsNames: 'dns' in body ? body.dns : [],
  instanceLimit: body.instances ?? null,
  operatorRole: null,
  boundKeyHash: body.bindKeyHash ?? null,
  managedBy: body.managedBy ?? null,
  until: milliseconds(body.until),
})

const updateOf = (body: AdminBody<'agentsUpdate'>): RegistrationUpdate => ({
  ...(body.owner === undefined ? {} : { owner: body.owner }),
  ...(body.purpose === undefined ? {} : { purpose: body.purpose }),
  ...(body.profile === undefined ? {} : { profile: body.profile }),
  ...(body.roles === undefined ? {} : { roles: body.roles }),
  ...(body.attributes === undefined ? {} : { attributes: body.attributes }),
  ...(body.instances === undefined ? {} : { instanceLimit: body.instances }),
  ...(body.until === undefined ? {} : { until: body.until === null ? null : Date.parse(body.until) }),
  ...(body.dns === undefined ? {} : { dnsNames: body.dns }),
  ...(body.bindKeyHash === undefined ? {} : { boundKeyHash: body.bindKeyHash }),
  ...(body.managedBy === undefined ? {} : { managedBy: body.managedBy }),
})

const optionsOf = (call: {
  readonly context: ChangeOptions['context']
  readonly body: Omit<ChangeOptions, 'context'>
}): ChangeOptions => {
  const { why, expected, dryRun } = call.body
  return { context: call.context, why, expected, dryRun }
}

/** Without an admin among them, the operators that exist could not make another one, and the socket may not either. */
const checkFirstOperator = (deps: AdminDeps, actor: Actor, role: string): void => {
  if (deps.mode !== 'production' || actor.name !== 'local' || role === 'admin') return
  throw new CaError('conflict', `the first operator must have role admin, got ${role}`)
}

const showRegistration = (deps: AdminDeps, { params }: AdminCall<'registrationsShow'>): RegistrationDetail => {
  const registration = namedRegistration(deps.ledger, kindOf(params.kind), params.name)
  const now = deps.clock.now()
  const { id: registrationId } = registration
  const live = deps.ledger.instances.list({ registrationId, liveAt: now, limit: 1000 })
  return {
    ...registrationAnswer(registration),
    liveInstances: live.map(each => instanceAnswer(deps.trustDomain, each, registration, each.head)),
    tokens: deps.ledger.tokens.list({ registrationId, limit: 100 }).map(token => tokenAnswer(token, registration, now)),
  }
}

/** The changes that only differ in their verb. */
const changes = (deps: AdminDeps) => {
  const { lifecycle } = deps
  type Verb = (subject: { kind: SubjectKind; name: string }, options: ChangeOptions) => Promise<ChangeOutcome>
  const by = (kind: SubjectKind, verb: Verb) => async (call: AdminCall<'agentsHold'>) => {
    const subject = { kind, name: call.params.name }
    refuseOwnService(subject)
    return changeAnswer(await verb(subject, optionsOf(call)))
  }
  return {
    agentsHold: by('agent', lifecycle.hold),
    agentsRelease: by('agent', lifecycle.release),
    agentsRetire: by('agent', lifecycle.retire),
    servicesRetire: by('service', lifecycle.retire),
    operatorsRetire: by('operator', lifecycle.retire),
  }
}

/** What reaches its end date is retired: an earlier one is a retirement with a delay. @throws HttpError `role_insufficient` */
const checkEarlierEnd = (deps: AdminDeps, call: AdminCall<'agentsUpdate'>, subject: Subject): void => {
  const until = call.body.until == null ? null : Date.parse(call.body.until)
  if (until === null) return
  const current = deps.ledger.registrations.find(subject.kind, subject.name)
  if (current !== null && (current.until === null || until < current.until))
    checkRole(call.actor, adminRoutes.agentsRetire.role, 'an earlier end date')
}

const update = async (deps: AdminDeps, kind: 'agent' | 'service', call: AdminCall<'agentsUpdate'>) => {
  const subject = { kind, name: call.params.name }
  if (isOwnService(subject)) checkRole(call.actor, 'admin', 'the registration of this CA itself')
  checkEarlierEnd(deps, call, subject)
  return changeAnswer(await deps.registry.update(subject, updateOf(call.body), optionsOf(call)))
}

export const registrationHandlers = (deps: AdminDeps): Pick<Handlers, Names> => ({
  agentsCreate: async call =>
    registrationAnswer(await deps.registry.create(draftOf('agent', call.body), optionsOf(call))),
  servicesCreate: async call =>
    registrationAnswer(await deps.registry.create(draftOf('service', call.body), optionsOf(call))),
  operatorsCreate: async call => {
    const { name, role, owner, profile, until } = call.body
    checkFirstOperator(deps, call.actor, role)
    const draft = {
      kind: 'operator',
      name,
      owner: owner ?? null,
      purpose: '',
      profile: profile ?? null,
      roles: [],
      attributes: {},
      dnsNames: [],
      instanceLimit: null,
      operatorRole: role,
      until: milliseconds(until),
    } as const
    return registrationAnswer(await deps.registry.create(draft, optionsOf(call)))
  },
  registrationsList: ({ params, query: { limit, ...query } }) => {
    const rows = deps.ledger.registrations.list({ kind: kindOf(params.kind), ...filled(query), limit: limit + 1 })
    return pageOf(rows, limit, row => row.name, registrationAnswer)
  },
  registrationsShow: call => showRegistration(deps, call),
  agentsUpdate: call => update(deps, 'agent', call),
  servicesUpdate: call => update(deps, 'service', call),
  ...changes(deps),
  agentsAttest: async call => {
    const subject = { kind: 'agent', name: call.params.name } as const
    return changeAnswer(await deps.registry.attest(subject, milliseconds(call.body.until), optionsOf(call)))
  },
})
