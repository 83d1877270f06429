// Calls that are the same as one of a moment ago: the same caller from the same place, the same URL, method and demand. What that one came
// to need not be found out again, which costs several times what the judgement does.
import type { Judgement } from './judgement.ts'

export interface RepeatedCalls<T> {
  /** null: not one that is known. */
  find(judgement: Judgement): T | null
  keep(judgement: Judgement, value: T): void
  forget(): void
}

interface Known<T> {
  readonly method: string | undefined
  readonly scopes: readonly string[] | undefined
  readonly roles: readonly string[] | undefined
  readonly remoteAddress: string | undefined
  readonly value: T
}

/** So that callers with ever new URLs take no memory. */
const maxKnown = 2000

/** Where it came from is its socket's other end, and nothing but its URL, method and demand says what it is. */
const isPlain = ({ outcome, call: { from, demand, request } }: Judgement): boolean =>
  outcome === 'allow' && from === undefined && demand.conditional === undefined && request?.url !== undefined

export const createRepeatedCalls = <T>(): RepeatedCalls<T> => {
  // Owned by this closure: by caller, then by URL.
  const known = new Map<string, Map<string, Known<T>>>()
  let size = 0
  const forget = (): void => {
    known.clear()
    size = 0
  }
  return {
    find: judgement => {
      const { peer, call } = judgement
      const { demand, request } = call
      if (peer === null || request === null || !isPlain(judgement)) return null
      const found = known.get(peer.spiffeId)?.get(request.url as string)
      if (found === undefined || found.method !== request.method) return null
      // Demands of a route are the same arrays each time.
      if (found.scopes !== demand.scopes || found.roles !== demand.roles) return null
      return found.remoteAddress === request.socket?.remoteAddress ? found.value : null
    },
    keep: (judgement, value) => {
      const { peer, call } = judgement
      const { demand, request } = call
      if (peer === null || request === null || !isPlain(judgement)) return
      if (size === maxKnown) forget()
      const ofCaller = known.get(peer.spiffeId) ?? new Map<string, Known<T>>()
      known.set(peer.spiffeId, ofCaller)
      if (!ofCaller.has(request.url as string)) size++
      ofCaller.set(request.url as string, {
        method: request.method,
        scopes: demand.scopes,
        roles: demand.roles,
        remoteAddress: request.socket?.remoteAddress,
        value,
      })
    },
    forget,
  }
}
