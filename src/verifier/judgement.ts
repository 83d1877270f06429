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

/** Whoever only counts what was let in, so that calls in a row need no judgement of each. */
export interface Repeats {
  /** Where the judgement that was told last is counted; null: nowhere. */
  counted(): object | null
  /** One more. @param at monotonic @returns false: that one counts no more, and this call is to be judged and told */
  again(counted: object, at: number): boolean
}

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
  /** @param hears not every judgement on its own: only refusals, or of calls in a row the first */
  observe(observer: JudgementObserver, hears?: 'refusals' | Repeats): () => void
  /** Asks policies after everything else, and only of calls whose demand is conditional. */
  decideConditional(condition: CallCondition, again: CallCondition): void
  /** Grows when others hang on judgements. */
  version(): number
  /** Where the last judgement is counted, for `repeat`; null: nowhere. */
  counted(): object | null
  /**
   * A call like one before, by a decision that holds. @param at monotonic
   * @returns false: somebody has to hear of it, or to be asked
   */
  repeat(counted: object | null, at: number): boolean
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

type Hears = 'everything' | 'refusals' | Repeats

interface Hooks {
  readonly observers: readonly { readonly observer: JudgementObserver; readonly hears: Hears }[]
  readonly conditions: readonly CallCondition[]
  readonly standing: readonly CallCondition[]
}

/** Who counts calls in a row; null: somebody has to hear of each, or to be asked. */
const repeatsOf = ({ observers, conditions }: Hooks): Repeats | null => {
  const hearing = observers.map(({ hears }) => hears).filter(hears => hears !== 'refusals')
  if (conditions.length > 0 || hearing.length > 1) return null
  const [only = nobody] = hearing
  return only === 'everything' ? null : only
}
const uncounted = {}
const nobody: Repeats = { counted: () => uncounted, again: counted => counted === uncounted }

const createHooks = () => {
  // Owned by this closure. Arrays, because they are gone through for each call and hardly ever changed.
  let hooks: Hooks = { observers: [], conditions: [], standing: [] }
  let hearing: readonly JudgementObserver[] = []
  let repeats: Repeats | null = nobody
  let version = 0
  const set = (changes: Partial<Hooks>): void => {
    hooks = { ...hooks, ...changes }
    hearing = hooks.observers.filter(({ hears }) => hears !== 'refusals').map(({ observer }) => observer)
    repeats = repeatsOf(hooks)
    version++
  }
  return {
    get conditions() {
      return hooks.conditions
    },
    get standing() {
      return hooks.standing
    },
    /** Of calls that were let in. */
    get hearing() {
      return hearing
    },
    get repeats() {
      return repeats
    },
    version: () => version,
    tell: (judgement: Judgement): void => {
      if (judgement.outcome === 'allow') for (const observer of hearing) observer(judgement)
      else for (const { observer } of hooks.observers) observer(judgement)
    },
    observe: (observer: JudgementObserver, hears: Hears = 'everything') => {
      const own = { observer, hears }
      set({ observers: [...hooks.observers, own] })
      return () => set({ observers: hooks.observers.filter(each => each !== own) })
    },
    addCondition: (condition: CallCondition, again?: CallCondition) => {
      set({ conditions: [...hooks.conditions, condition] })
      if (again !== undefined) set({ standing: [...hooks.standing, again] })
      return () =>
        set({
          conditions: hooks.conditions.filter(each => each !== condition),
          standing: hooks.standing.filter(each => each !== again),
        })
    },
  }
}

export const createJudging = (clock: { now(): number; monotonic(): number }): Judging => {
  const hooks = createHooks()
  // Owned by this closure.
  let policies: { readonly check: CallCondition; readonly again: CallCondition } | null = null

  const tell = (call: Call, peer: Peer | null, begun: number, error: unknown): void =>
    hooks.tell({
      outcome: error === null ? 'allow' : 'deny',
      rule: error === null ? null : ruleOf(error),
      peer,
      call,
      at: clock.now(),
      latencyMs: clock.monotonic() - begun,
    })

  return {
    observe: hooks.observe,
    addCondition: hooks.addCondition,
    decideConditional: (check, again) => {
      policies = { check, again }
    },
    version: hooks.version,
    counted: () => hooks.repeats?.counted() ?? null,
    repeat: (counted, at) => (counted === null ? false : hooks.repeats?.again(counted, at) === true),
    again: (peer, call) => {
      if (call.demand.conditional !== undefined) policies?.again(peer, call)
      for (const condition of hooks.standing) condition(peer, call)
    },
    judge: (call, establish, decide) => {
      const begun = clock.monotonic()
      let peer: Peer | null = null
      const { refused, kinds, conditional } = call.demand
      try {
        if (refused !== undefined) {
          peer = established(establish)
          throw refused
        }
        peer = establish()
        const verified = decide(peer, call.demand)
        if (kinds !== undefined) checkKind(verified, kinds)
        peer = verified
        if (conditional !== undefined) policies?.check(verified, call)
        for (const condition of hooks.conditions) condition(verified, call)
        if (hooks.hearing.length > 0) tell(call, verified, begun, null)
        return verified
      } catch (error) {
        tell(call, peer, begun, error)
        throw error
      }
    },
  }
}
