// Calls that were let in and are still being answered: event streams, gRPC streams, WebSockets, long answers. What let them in is asked again
// whenever something changes and once in a while, and an answer whose call would be refused now is ended. The rules are the verifier's.
import type { Peer } from '../verify/decision.ts'
import type { Answer } from './answers.ts'
import type { Call, CallRequest, Demand } from './judgement.ts'

export interface StandingCall {
  readonly peer: Peer
  readonly call: Call
  /** What it has to meet from now on, where that may be another demand than the one that let it in; null: the same. */
  readonly lasting: (() => Demand) | null
  readonly answer: Answer
}

/** Those of one connection; made with its first. */
export interface StandingCalls {
  add(call: StandingCall): void
  /** Aborts with the reason when this answer is ended; null: it is not one of these. */
  signalOf(request: CallRequest): AbortSignal | null
  /** Ends the answers for which this throws. @returns how many */
  judge(stillMay: (call: StandingCall) => void): number
}

/** Looking through so few for those that are over costs less than a listener on each. */
const fewCalls = 8

export const createStandingCalls = (): StandingCalls => {
  // Owned by this closure. Those that are over are let go when others come, and when all are judged.
  let calls: StandingCall[] = []
  let lookAt = fewCalls
  const ending = new WeakMap<CallRequest, AbortController>()

  const letGo = (): void => {
    calls = calls.filter(({ answer }) => !answer.isOver())
    lookAt = Math.max(fewCalls, 2 * calls.length)
  }
  return {
    add: call => {
      // Most connections have one call after the other.
      if (calls.length === 1 && calls[0]!.answer.isOver()) calls[0] = call
      else calls.push(call)
      if (calls.length > lookAt) letGo()
    },
    signalOf: request => {
      if (!calls.some(({ call }) => call.request === request)) return null
      const known = ending.get(request)
      if (known !== undefined) return known.signal
      const made = new AbortController()
      ending.set(request, made)
      return made.signal
    },
    judge: stillMay => {
      letGo()
      let ended = 0
      for (const call of [...calls])
        try {
          stillMay(call)
        } catch (reason) {
          ended++
          // The work first: it may still write, and must not take the end for the client's.
          if (call.call.request !== null) ending.get(call.call.request)?.abort(reason)
          call.answer.end(reason)
        }
      letGo()
      return ended
    },
  }
}
