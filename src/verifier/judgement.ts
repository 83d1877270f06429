// The judgement on one call: what is known of it, and what others hang on it. Conditions refuse what registration and scopes allow;
// observers are told of every judgement. What the state says is decision.ts; who calls is proof.ts.
import type { IncomingHttpHeaders } from 'node:http'
import type { AgentCaError } from '../base/errors.ts'
import { CallRefused, type Peer, type VerifiedPeer } from '../verify/decision.ts'
import type { PrincipalKind } from '../verify/feed-event.ts'
import { type CallSource, plainAddress } from './call-source.ts'
import type { ConditionalDemand } from './conditions.ts'
import { ruleOf } from './problem.ts'

/** What a route demands of its caller: all of it. */
export interface Demand {
  readonly roles?: readonly string[]
  readonly scopes?: readonly string[]
  /** Decided by policies with what is known of this very call; `conditions: true`. */
  readonly conditional?: ConditionalDemand
  /** Of those that the verifier accepts, the only ones that may make this call. */
  readonly kinds?: readonly PrincipalKind[]
  /** Refused already, whoever calls; judged all the same, so that observers hear who tried. */
  readonly refused?: AgentCaError
}

/** What conditions and observers may read of a request; `IncomingMessage` is one. */
export interface CallRequest {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly headers?: IncomingHttpHeaders
  readonly socket?: { readonly remoteAddress?: string | undefined }
}

export interface Call {
  /** Where a proxy speaks for the caller; else it came from the other end of the request's socket. */
  readonly from?: CallSource
  readonly demand: Demand
  /** null: it did not come as an HTTP request. */
  readonly request: CallRequest | null
}

/** Address of the caller; null: it is not known. */
export const sourceOf = ({ from, request }: Call): string | null =>
  from === undefined ? plainAddress(request?.socket?.remoteAddress) : from.address

export interface Judgement {
  readonly outcome: 'allow' | 'deny'
  /** Code of the rule that refused; null: allowed. */
  readonly rule: string | null
  /** `VerifiedPeer` where it was allowed; null: who calls was not established. */
  readonly peer: Peer | null
  readonly call: Call
  /** When it was judged; milliseconds since the epoch. */
  readonly at: number
  readonly latencyMs: number
}

/** Must not throw and must not wait: the call is answered after it. */
export type JudgementObserver = (judgement: Judgement) => void

/** Runs after everything else allowed the call. @throws CallRefused `condition_failed` */
export type CallCondition = (peer: VerifiedPeer, call: Call) => void

export interface JudgementHooks {
  /** @returns the function that ends it */
  observe(observer: JudgementObserver): () => void
  /**
   * @param again asked of calls that were let in and are still being answered, once a second and whenever something changes; it must have no
   *   effects. Default: what let them in lets them go on
   * @returns the function that ends it
   */
  addCondition(condition: CallCondition, again?: CallCondition): () => void
}

export interface Judging extends JudgementHooks {
  /**
   * @param establish who calls @param decide what the state says of it
   * @throws what they and the conditions throw; observers were told then
   */
  judge(call: Call, establish: () => Peer, decide: (peer: Peer, demand: Demand) => VerifiedPeer): VerifiedPeer
  /** Of a call that was let in before, and may be by what is known now. @throws what the conditions throw */
  again(peer: VerifiedPeer, call: Call): void
}

/** null: who calls was not established either. */
const established = (establish: () => Peer): Peer | null => {
  try {
    return establish()
  } catch {
    return null
  }
}

const checkKind = ({ kind, name }: Peer, kinds: readonly PrincipalKind[]): void => {
  if (!kinds.includes(kind))
    throw new CallRefused('kind_not_accepted', `expected ${kinds.join(' or ')}, got ${kind} ${name}`)
}

export const createJudging = (clock: { now(): number; monotonic(): number }): Judging => {
  // Owned by this closure. Arrays, because they are gone through for each call and hardly ever changed.
  let observers: readonly JudgementObserver[] = []
  let conditions: readonly CallCondition[] = []
  let standing: readonly CallCondition[] = []

  const tell = (call: Call, peer: Peer | null, begun: number, error: unknown): void => {
    const judgement: Judgement = {
      outcome: error === null ? 'allow' : 'deny',
      rule: error === null ? null : ruleOf(error),
      peer,
      call,
      at: clock.now(),
      latencyMs: clock.monotonic() - begun,
    }
    for (const observer of observers) observer(judgement)
  }

  return {
    observe: observer => {
      observers = [...observers, observer]
      return () => {
        observers = observers.filter(each => each !== observer)
      }
    },
    addCondition: (condition, again) => {
      conditions = [...conditions, condition]
      if (again !== undefined) standing = [...standing, again]
      return () => {
        conditions = conditions.filter(each => each !== condition)
        standing = standing.filter(each => each !== again)
      }
    },
    again: (peer, call) => {
      for (const condition of standing) condition(peer, call)
    },
    judge: (call, establish, decide) => {
      const begun = observers.length === 0 ? 0 : clock.monotonic()
      let peer: Peer | null = null
      const { refused, kinds } = call.demand
      try {
        if (refused !== undefined) {
          peer = established(establish)
          throw refused
        }
        peer = establish()
        const verified = decide(peer, call.demand)
        if (kinds !== undefined) checkKind(verified, kinds)
        peer = verified
        for (const condition of conditions) condition(verified, call)
        if (observers.length > 0) tell(call, verified, begun, null)
        return verified
      } catch (error) {
        tell(call, peer, begun, error)
        throw error
      }
    },
  }
}
