// Conditions on the call, for services that ask for them: the policies of the service's own actions (followed-policies.ts), evaluated here
// with what only the service knows of a call.
import { messageOf } from '../base/errors.ts'
import type { PolicySet, Verdict } from '../policy/cedar.ts'
import type { Attributes, PolicyCall, PolicyResource } from '../policy/cedar-call.ts'
import { CallRefused, type VerifiedPeer } from '../verify/decision.ts'
import { createCallRates } from './call-rate.ts'
import {
  type FollowedPolicies,
  type FollowedPoliciesDeps,
  followPolicies,
  type HeldPolicies,
} from './followed-policies.ts'

/** What a service says of one call, beside what the verifier knows of it. */
export interface CallFacts {
  readonly resource?: { readonly type?: PolicyResource['type']; readonly id: string; readonly attributes?: Attributes }
  readonly context?: Attributes
}

export interface ConditionalDemand extends CallFacts {
  /** `<service>:<verb>`. */
  readonly action: string
}

export interface ConditionsDeps extends FollowedPoliciesDeps {
  /** The time by which certificates are judged; milliseconds since the epoch. */
  readonly now: () => number
}

/** `heard`: after each news of it and each snapshot, from the feed or published. */
export interface Conditions extends Pick<FollowedPolicies, 'heard' | 'ready' | 'version' | 'close'> {
  /**
   * @param source address of the caller; null: it is not known
   * @throws CallRefused `condition_failed`; as `FollowedPolicies.current`
   */
  check(peer: VerifiedPeer, demand: ConditionalDemand, source: string | null): void
  /**
   * Of a call that was let in by this very demand and is still being answered: by the policies and the registration of now and the time,
   * with the facts of then, where the call came from and how many there had been included. @throws as check
   */
  checkAgain(peer: VerifiedPeer, demand: ConditionalDemand): void
}

/** Time alone may change what conditions say: so late at most it is seen. One answer of many costs a decision each. */
const againMs = 5000

/** What a service says of a call and Cedar has no form for is no reason to let it in, nor for the caller to show another certificate. */
const decideOrRefuse = (set: PolicySet, call: PolicyCall): Verdict => {
  try {
    return set.decide(call)
  } catch (cause) {
    throw new CallRefused('condition_failed', `${call.action} cannot be decided: ${messageOf(cause)}`, { cause })
  }
}

/** What was known when a call was let in, and by what it was let in or let go on the last time. */
interface Known {
  readonly source: string | null
  readonly rate: number
  readonly held: HeldPolicies
  readonly roles: VerifiedPeer['roles']
  readonly attributes: VerifiedPeer['attributes']
  /** Monotonic. */
  readonly at: number
}

/** @throws PolicyError `policy_engine_missing` where Cedar is not installed */
export const createConditions = async (deps: ConditionsDeps): Promise<Conditions> => {
  const policies = await followPolicies(deps)
  const { monotonic } = deps.timing.clock
  const rates = createCallRates(monotonic)
  // Owned by this closure: by the demand of one call.
  const known = new WeakMap<ConditionalDemand, Known>()

  const decide = (peer: VerifiedPeer, demand: ConditionalDemand, source: string | null, rate: number): void => {
    const held = policies.current()
    const { set, version } = held
    const { action, resource, context = {} } = demand
    const { kind, name, owner, profile, roles, attributes } = peer
    if (kind === 'operator') throw new CallRefused('condition_failed', 'policies are about agents and services')
    const { decision, by } = decideOrRefuse(set, {
      principal: { kind, name, owner, profile: profile ?? '', roles, attributes },
      action,
      resource:
        resource === undefined
          ? null
          : { type: resource.type ?? 'Resource', id: resource.id, attributes: resource.attributes ?? {} },
      at: deps.now(),
      source,
      rate,
      context,
    })
    if (decision !== 'allow')
      throw new CallRefused('condition_failed', `policies ${version} do not allow ${kind} ${name} this ${action}`, {
        facts: { action, statements: by },
      })
    known.set(demand, { source, rate, held, roles, attributes, at: monotonic() })
  }

  return {
    ...policies,
    check: (peer, demand, source) => decide(peer, demand, source, rates.count(`${peer.kind}:${peer.name}`)),
    checkAgain: (peer, demand) => {
      const before = known.get(demand)
      if (before === undefined) return
      const isSame =
        before.held === policies.current() && before.roles === peer.roles && before.attributes === peer.attributes
      if (isSame && monotonic() - before.at < againMs) return
      decide(peer, demand, before.source, before.rate)
    },
  }
}
