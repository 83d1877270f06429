// Wishes to renew before the time has come: of the program, or of whoever heard that the CA thinks differently of this identity. They
// wake the renewal loop, which makes one attempt for all of them.
import type { Credential } from './credential.ts'

export interface Prompts {
  /** @returns the next generation; rejects with the reason why there is none yet */
  ask(): Promise<Credential>
  /** Aborted while somebody waits for an attempt. */
  pending(): AbortSignal
  /** Whoever asked before this attempt began, to be told what came of it. */
  taken(): { readonly answer: (credential: Credential) => void; readonly refuse: (error: unknown) => void }
  /** Nobody will be answered any more. */
  end(reason: unknown): void
}

export const createPrompts = (): Prompts => {
  let waiting: PromiseWithResolvers<Credential> | null = null
  let woken = new AbortController()
  let over: { readonly reason: unknown } | null = null
  const settle = (): PromiseWithResolvers<Credential> | null => {
    const asked = waiting
    waiting = null
    woken = new AbortController()
    return asked
  }
  return {
    ask: () => {
      if (over !== null) return Promise.reject(over.reason)
      if (waiting === null) {
        waiting = Promise.withResolvers()
        // Who only wants an attempt to be made does not listen.
        waiting.promise.catch(() => {})
        woken.abort()
      }
      return waiting.promise
    },
    pending: () => woken.signal,
    taken: () => {
      const asked = settle()
      return { answer: credential => asked?.resolve(credential), refuse: error => asked?.reject(error) }
    },
    end: reason => {
      over = { reason }
      settle()?.reject(reason)
    },
  }
}
