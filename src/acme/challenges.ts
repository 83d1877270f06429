// Challenges (RFC 8555 §7.5.1, §8): the client says that it is ready, the prober looks, the result is recorded. One probe at a time for an
// authorization, some tries where the network may be at fault, a bound on all probes together. How a probe is made is validation/'s.
import { acmeOrderChanged } from '../audit/acme-events.ts'
import { messageOf } from '../base/errors.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import type { AcmeAccount, AcmeAuthorization, AcmeChallenge, AcmeIdentifier, AcmeProblem } from '../store/acme-port.ts'
import type { AcmeDeps, ProbeResult } from './deps.ts'
import { AcmeError } from './errors.ts'
import { textOf } from './identifiers.ts'
import { authorizationStatus, beginChallenge, endChallenge, resetChallenges } from './order.ts'
import type { AuthorizationOf, Orders } from './orders.ts'
import { readPayload } from './payload.ts'
import type { AccountRequest } from './request.ts'

export interface ChallengeOf extends AuthorizationOf {
  readonly challenge: AcmeChallenge
}

export interface Challenges {
  /** An empty payload only reads; `{}` begins. @throws AcmeError `notFound`, `rateLimited` */
  respond(request: AccountRequest, order: string, index: number, type: string): Promise<ChallengeOf>
  /** Waits for the probes in work; no try is begun any more. */
  close(): Promise<void>
}

/**
 * Probes at once, of everybody, of one account, and of all accounts without a binding, for anybody can make many: each can last for half a
 * minute, and the others' are to go on.
 */
const maxProbes = 64
const maxProbesOfAccount = 16
const maxProbesUnbound = 16
const tries = 3
const betweenTriesMs = 2000
/** Of the other side's making now, and perhaps not in a moment. */
const worthATry: ReadonlySet<string> = new Set(['connection', 'dns', 'tls'])

interface Probe {
  readonly request: AccountRequest
  readonly order: string
  readonly index: number
  readonly authorization: AcmeAuthorization
  readonly challenge: AcmeChallenge
}

/** Without its wildcard: what is asked for is the name itself (RFC 8555 §7.1.4). */
export const probedIdentifier = ({ type, value }: AcmeIdentifier): AcmeIdentifier => ({
  type,
  value: value.startsWith('*.') ? value.slice(2) : value,
})

const find = (of: AuthorizationOf, type: string): ChallengeOf => {
  const challenge = of.authorization.challenges.find(each => each.type === type)
  if (challenge === undefined) throw new AcmeError('notFound', 'this account has no such challenge')
  return { ...of, challenge }
}

export const createChallenges = (deps: AcmeDeps, orders: Orders): Challenges => {
  // By the token of the challenge, from before the ledger says that it is begun to after it says how it ended. Owned by this closure.
  const running = new Map<string, { readonly account: AcmeAccount; readonly work: Promise<void> }>()
  const ending = new AbortController()

  const pause = (): Promise<void> =>
    new Promise(resolve => {
      const timer = setTimeout(resolve, betweenTriesMs)
      ending.signal.addEventListener(
        'abort',
        () => {
          clearTimeout(timer)
          resolve()
        },
        { once: true },
      )
    })

  const tried = async ({ request, authorization, challenge }: Probe): Promise<ProbeResult> => {
    const { type, token } = challenge
    const identifier = probedIdentifier(authorization.identifier)
    const keyAuthorization = `${token}.${request.account.thumbprint}`
    for (let left = tries - 1; ; left--) {
      const result = await deps.validate({ type, token, identifier, keyAuthorization })
      if (result.ok || left === 0 || !worthATry.has(result.problem.type) || ending.signal.aborted) return result
      await pause()
    }
  }

  const record = async (probe: Probe, result: ProbeResult): Promise<void> => {
    const { request, order, index, authorization, challenge } = probe
    const at = deps.clock.now()
    const { identifier } = authorization
    const problem: AcmeProblem | null = result.ok ? null : { ...result.problem, identifier }
    const facts = {
      account: request.account.id,
      order,
      what: result.ok ? 'challenge_valid' : 'challenge_invalid',
      name: textOf(identifier),
      challenge: challenge.type,
      ...(result.ok ? {} : { problem: `${result.problem.type}: ${result.problem.detail}`.slice(0, 300) }),
    } as const
    await deps.ports.orders.change(
      order,
      present => endChallenge(present, index, { token: challenge.token, at, problem }),
      () => acmeOrderChanged(leafContextOf(request.call.context(), at), request.registration, facts),
    )
  }

  const run = async (probe: Probe): Promise<void> => {
    try {
      await record(probe, await tried(probe))
    } catch (error) {
      // Ours, not the other side's: the challenge can be asked for again.
      deps.log.error({ order: probe.order, reason: messageOf(error) }, 'a challenge was not decided')
      const isThis = (token: string): boolean => token === probe.challenge.token
      await deps.ports.orders
        .change(probe.order, present => resetChallenges(present, probe.index, isThis), null)
        .catch(() => {})
    }
  }

  /** @returns whether it is to be probed: not where another challenge of its authorization is, or decided about it */
  const markBegun = async ({ order, index, challenge }: Probe): Promise<boolean> => {
    let begun = false
    await deps.ports.orders.change(
      order,
      row => {
        // What another process left in the middle begins anew.
        const ready = resetChallenges(row, index, token => token === challenge.token || !running.has(token))
        const after = beginChallenge(ready, index, challenge.token)
        begun = after !== ready
        return after
      },
      null,
    )
    return begun
  }

  const checkRoom = ({ id, kid }: AcmeAccount): void => {
    const accounts = [...running.values()].map(({ account }) => account)
    const own = accounts.filter(each => each.id === id).length
    const unbound = kid === null ? accounts.filter(each => each.kid === null).length : 0
    if (running.size < maxProbes && own < maxProbesOfAccount && unbound < maxProbesUnbound) return
    throw new AcmeError('rateLimited', 'too many challenges are being probed', { facts: { retryAfterSeconds: 10 } })
  }

  const begin = async (request: AccountRequest, present: ChallengeOf): Promise<void> => {
    const { order, index, challenge } = present
    checkRoom(request.account)
    const probe = { request, order: order.id, index, authorization: present.authorization, challenge }
    const begun = markBegun(probe)
    const work = begun.then(yes => (yes ? run(probe) : undefined)).finally(() => running.delete(challenge.token))
    // Its place is taken before the ledger is waited for: others that come in the same commit have to see it.
    running.set(challenge.token, { account: request.account, work })
    work.catch(() => {})
    await begun
  }

  return {
    respond: async (request, order, index, type) => {
      const present = find(orders.authorization(request, order, index), type)
      if (request.payload.length === 0) return present
      readPayload(request.payload)
      const status = authorizationStatus(present.authorization, present.order, deps.clock.now())
      const asked =
        status === 'pending' && present.challenge.status !== 'valid' && !running.has(present.challenge.token)
      if (asked) await begin(request, present)
      return find(orders.authorization(request, order, index), type)
    },
    close: async () => {
      ending.abort()
      await Promise.allSettled([...running.values()].map(({ work }) => work))
    },
  }
}
