// One answer to "may this agent call that service": its registration, its certificates, the policies, and whether the service's verifiers
// know. Only what this CA knows: what a service decides by itself is not seen from here.
import { policyPrincipal } from '../../ca/scopes.ts'
import type { SubscriberStatus } from '../../feed/feed.ts'
import type { WhyAnswer, WhyCheck } from '../../schema/policy-answers.ts'
import type { Registration } from '../../store/records.ts'
import { time } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { AdminCall, Handlers } from './handler.ts'
import { checkAction, grantOf } from './policies.ts'
import { namedRegistration } from './query.ts'

const ok = (check: WhyCheck['check'], detail: string): WhyCheck => ({ check, result: 'ok', detail, hint: null })
const warn = (check: WhyCheck['check'], detail: string, hint: string | null): WhyCheck => ({
  check,
  result: 'warn',
  detail,
  hint,
})
const failed = (check: WhyCheck['check'], detail: string, hint: string | null): WhyCheck => ({
  check,
  result: 'failed',
  detail,
  hint,
})

const stateCheck = ({ kind, name, state, owner, version, until }: Registration, now: number): WhyCheck => {
  const who = `${kind} ${name}`
  if (state === 'held') return failed('state', `${who} is held`, `agentca ${kind} release ${name}`)
  if (state === 'retired') return failed('state', `${who} is retired, which is final`, 'register a new name')
  if (until !== null && until <= now) return failed('state', `${who} reached its end date ${time(until)}`, null)
  return ok('state', `${who} is active, version ${version}${owner === null ? '' : `, owner ${owner}`}`)
}

/** The certificates of its instances: one that is good is enough to call. */
const chainCheck = (deps: AdminDeps, agent: Registration, now: number): WhyCheck => {
  const live = deps.ledger.instances.list({ registrationId: agent.id, liveAt: now, limit: 1000 })
  const good = live.filter(({ state, head }) => state === 'active' && head?.state === 'issued' && head.notAfter > now)
  const [newest] = good
  if (newest?.head != null) {
    const others = live.length - good.length
    const also = others === 0 ? '' : `; ${others} more are locked, held or being issued`
    return ok(
      'chain',
      `${good.length} instances have a valid certificate, for one ${newest.head.serial} until ${time(newest.head.notAfter)}${also}`,
    )
  }
  const locked = live.find(({ state }) => state === 'locked')
  if (locked !== undefined)
    return failed(
      'chain',
      `instance ${locked.id} is locked: ${locked.lockReason}`,
      `agentca instance unlock ${locked.id}`,
    )
  const held = live.find(({ head }) => head?.state === 'held')
  if (held !== undefined)
    return failed('chain', `certificate ${held.headSerial} is on hold`, `agentca agent release ${agent.name}`)
  const past = deps.ledger.certificates.list({ registration: agent, limit: 1 }).rows[0]
  if (past === undefined) return failed('chain', 'it never enrolled', `agentca token create --agent ${agent.name}`)
  const how = past.state === 'issued' ? `expired at ${time(past.notAfter)}` : `is ${past.state}`
  const cure =
    past.state === 'issued' ? 'renewal has stopped: is it running?' : `agentca token create --agent ${agent.name}`
  return failed('chain', `its newest certificate ${past.serial} ${how}`, cure)
}

const policyCheck = (
  deps: AdminDeps,
  agent: Registration,
  service: string,
  action: string | undefined,
  now: number,
): WhyCheck => {
  const active = deps.policies.active()
  const principal = policyPrincipal(agent)
  if (active === null)
    return action === undefined
      ? warn(
          'policy',
          'no policies are in force: only what asks for no scope is open',
          'agentca policy apply DIRECTORY',
        )
      : failed('policy', 'no policies are in force: nobody has a scope', 'agentca policy apply DIRECTORY')
  const { evaluator, version } = active
  if (action === undefined) {
    const { scopes, conditional } = evaluator.grants(principal, now)
    const here = (some: readonly string[]) => some.filter(each => each.startsWith(`${service}:`))
    const [has, some] = [here(scopes), here(conditional)]
    if (has.length > 0) return ok('policy', `policies ${version.id} grant ${has.join(', ')}`)
    if (some.length > 0)
      return warn('policy', `policies ${version.id} grant ${some.join(', ')} for some calls only`, null)
    return failed('policy', `policies ${version.id} grant it nothing at ${service}`, `agentca policy list`)
  }
  checkAction(evaluator, action)
  const grant = grantOf(evaluator, principal, action, now)
  const explainIt = `agentca policy explain ${agent.name} ${action}`
  if (grant === 'scope') return ok('policy', `policies ${version.id} grant ${action}`)
  if (grant === 'conditional')
    return warn(
      'policy',
      `policies ${version.id} grant ${action} for some calls only: the service must ask with the call`,
      explainIt,
    )
  return failed('policy', `policies ${version.id} do not grant ${action}`, explainIt)
}

/** Whether the service's verifiers have applied what the CA says, and until when those that do not hear rely on what they know. */
const feedChecks = (deps: AdminDeps, service: string): readonly WhyCheck[] => {
  const status = deps.feed.status()
  const own = status.subscribers.filter(
    ({ subscriber }) => subscriber.kind === 'service' && subscriber.name === service,
  )
  if (own.length === 0)
    return [
      warn(
        'feed',
        `no verifier of ${service} follows the feed: it goes by lists, if by anything`,
        'agentca feed status',
      ),
    ]
  const behind = own.filter(({ lag }) => lag !== 0)
  const stale = own.filter(({ state }) => state === 'stale')
  const names = (some: readonly SubscriberStatus[]) => some.map(({ subscriber }) => subscriber.label).join(', ')
  const head = `${status.head.epoch}.${status.head.n}`
  return [
    behind.length === 0
      ? ok('feed', `${own.length} of ${own.length} verifiers have applied everything, up to ${head}`)
      : warn('feed', `behind ${head}: ${names(behind)}`, 'agentca feed status'),
    stale.length === 0
      ? ok('freshness', 'all of them hear the CA now')
      : warn(
          'freshness',
          `not connected: ${stale.map(({ subscriber, coveredUntil }) => `${subscriber.label}, going on with what it knows until ${time(coveredUntil)}`).join('; ')}`,
          'agentca feed status',
        ),
  ]
}

const whyAnswer = (deps: AdminDeps, { query }: AdminCall<'why'>): WhyAnswer => {
  const { agent: name, service } = query
  const action = query.action === undefined || query.action.includes(':') ? query.action : `${service}:${query.action}`
  const now = deps.clock.now()
  const agent = namedRegistration(deps.ledger, 'agent', name)
  const called = namedRegistration(deps.ledger, 'service', service)
  const checks = [
    stateCheck(agent, now),
    ...(called.state === 'active' ? [] : [stateCheck(called, now)]),
    chainCheck(deps, agent, now),
    policyCheck(deps, agent, service, action, now),
    ...feedChecks(deps, service),
  ]
  const is = (result: WhyCheck['result']): boolean => checks.some(each => each.result === result)
  const verdict = is('failed') ? 'refused' : is('warn') ? 'unsure' : 'allowed'
  return { agent: name, service, action: action ?? null, verdict, checks }
}

export const whyHandlers = (deps: AdminDeps): Pick<Handlers, 'why'> => ({ why: call => whyAnswer(deps, call) })
