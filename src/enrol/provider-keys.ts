// The keys of an identity provider, kept at hand: fetched in the background, fetched again when a token names one that is not known (at a
// bounded rate, because anybody can make up a name), and the last good ones used for a stated time while the provider is away. Nothing
// here ever keeps a server from starting.
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { candidateKeys, type TokenKeys, type UncheckedToken } from '../jws/verify-token.ts'
import { EnrolError } from './errors.ts'

export interface ProviderKeysDeps {
  readonly clock: Clock
  readonly log: Log
  readonly provider: string
  /** One attempt, bounded in time and size. */
  readonly fetch: () => Promise<TokenKeys>
  readonly refreshEveryMs: number
  readonly keepForMs: number
}

export interface ProviderKeys {
  /** Keys among which the token's is, where the provider has it. @throws EnrolError `attestor_unavailable` */
  for(token: UncheckedToken): Promise<TokenKeys>
  status(): {
    readonly state: 'ready' | 'waiting' | 'stale' | 'down'
    readonly problem: string | null
    readonly keys: number
    readonly updatedAt: number | null
  }
  close(): void
}

/** Between two fetches for tokens that name unknown keys. A provider that rolls over publishes a key well before it signs with it. */
const minFetchIntervalMs = 10_000
/** After a failure, without a token that asks. */
const retryMs = 30_000
/** Requests that wait for one fetch: more would only fill memory. */
const maxWaiting = 200

interface Known {
  readonly keys: TokenKeys
  /** Monotonic, and for people. */
  readonly at: number
  readonly updatedAt: number
}

export const createProviderKeys = (deps: ProviderKeysDeps): ProviderKeys => {
  const { clock, log, provider } = deps
  // Owned by this closure.
  let known: Known | null = null
  let problem: string | null = null
  let triedAt = Number.NEGATIVE_INFINITY
  let running: Promise<void> | null = null
  let waiting = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const attempt = async (): Promise<void> => {
    triedAt = clock.monotonic()
    try {
      const keys = await deps.fetch()
      known = { keys, at: clock.monotonic(), updatedAt: clock.now() }
      if (problem !== null) log.info({ provider }, 'the identity provider answers again')
      problem = null
    } catch (error) {
      if (problem === null) log.warn({ provider, reason: messageOf(error) }, 'no keys from the identity provider')
      problem = messageOf(error)
    } finally {
      running = null
      arm(problem === null ? deps.refreshEveryMs : Math.min(retryMs, deps.refreshEveryMs))
    }
  }
  /** Whoever asks while one goes on shares it: its answer is as new as theirs would be. */
  const fetch = (): Promise<void> => {
    running ??= attempt()
    return running
  }
  const arm = (afterMs: number): void => {
    clearTimeout(timer)
    if (!closed) timer = setTimeout(() => void fetch(), afterMs).unref()
  }
  arm(0)

  const usable = (): Known | null => (known !== null && clock.monotonic() - known.at <= deps.keepForMs ? known : null)

  const unavailable = (): EnrolError =>
    new EnrolError('attestor_unavailable', `the keys of ${provider} are not to be had now`, {
      hint: 'ask again later; agentca attestor list says what is wrong',
      facts: { retryAfterSeconds: Math.ceil(minFetchIntervalMs / 1000) },
    })

  const fetchOnce = async (): Promise<void> => {
    if (waiting >= maxWaiting) throw unavailable()
    waiting++
    try {
      await fetch()
    } finally {
      waiting--
    }
  }

  return {
    for: async token => {
      const has = (): boolean => {
        const now = usable()
        return now !== null && candidateKeys(now.keys, token).length > 0
      }
      if (!has() && (running !== null || clock.monotonic() - triedAt >= minFetchIntervalMs)) await fetchOnce()
      const now = usable()
      // A key that is unknown may be a new one as long as the provider could not be asked.
      if (now === null || (!has() && problem !== null)) throw unavailable()
      return now.keys
    },
    status: () => {
      const keys = known?.keys.keys.length ?? 0
      const updatedAt = known?.updatedAt ?? null
      if (problem === null) return { state: known === null ? 'waiting' : 'ready', problem, keys, updatedAt }
      return { state: usable() === null ? 'down' : 'stale', problem, keys, updatedAt }
    },
    close: () => {
      closed = true
      clearTimeout(timer)
    },
  }
}
