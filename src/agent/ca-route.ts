// Where an identity's calls to its CA are made: in this thread, or by whoever lends another one. What is lent may fail at any time; then
// the call is made here, because a renewal and the news of a revocation must not hang on it. Asking twice is safe: requests are known to
// the CA by their keys.
import { type CaAnswer, type CaRequest, type CaTarget, callCa } from './ca-call.ts'
import { AgentError } from './errors.ts'

export type CaCall = (target: CaTarget, request: CaRequest) => Promise<CaAnswer>

export interface CaRoute {
  /** @throws as callCa */
  readonly call: CaCall
  /** @returns the function that takes it back */
  lend(calls: CaCall): () => void
}

/** Longer than a call may take: who says nothing for so long will not answer. */
const patienceMs = 30_000

/** @param here how calls are made without what is lent */
export const createCaRoute = (here: CaCall = callCa): CaRoute => {
  // Owned by this closure.
  let lent: CaCall | null = null
  return {
    call: async (target, request) => {
      if (lent === null) return here(target, request)
      try {
        return await lent(target, {
          ...request,
          signal: AbortSignal.any([request.signal, AbortSignal.timeout(patienceMs)]),
        })
      } catch (error) {
        request.signal.throwIfAborted()
        // The CA's word, or that there was none: it would not be another one from here.
        if (error instanceof AgentError) throw error
        return here(target, request)
      }
    },
    lend: calls => {
      lent = calls
      return () => {
        if (lent === calls) lent = null
      }
    },
  }
}
