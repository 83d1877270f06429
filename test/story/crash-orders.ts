// ACME clients of a crash story: they open an account, order, finalize and fetch, ask again whenever there is no answer, and keep every
// certificate that they got. What an order came to is evidence for order-invariants.ts.
import { setTimeout as delay } from 'node:timers/promises'
import type { Reply } from '../http/harness.ts'
import { type Account, AcmeRequests, createAccountKey, derOf, leafOf, requestFor } from './acme-requests.ts'
import { type FleetDeps, insist, type Outcome } from './fleet.ts'

export interface OrderClient {
  /** Its account, once it has one: an instance. */
  account(): string | null
  /** Forgets its account. */
  leave(): void
  /** Opens an account where it has none, then orders. @throws Error for what is neither an answer nor a refusal */
  act(orders: number): Promise<Outcome>
  close(): void
}

const patienceMs = 120_000

/** A connection that broke, or nobody there. */
const isBroken = (error: unknown): boolean =>
  ['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'ETIMEDOUT'].includes(String((error as { code?: unknown }).code))

const typeOf = (document: unknown): string =>
  String((document as { type?: unknown } | undefined)?.type).replace('urn:ietf:params:acme:error:', '')

/** RFC 8555 §6.5: to be asked again with the nonce that came along. */
const isPassing = ({ status, body }: Reply): boolean => status === 503 || typeOf(body) === 'badNonce'

class Refused extends Error {
  readonly type: string
  constructor(type: string) {
    super(type)
    this.type = type
  }
}

const lastSegment = (url: unknown): string => String(url).split('/').at(-1) as string

export const createOrderClient = async (deps: FleetDeps, agent: string): Promise<OrderClient> => {
  const { home, evidence, signal } = deps
  const acme = await AcmeRequests.at(home.report.urls.api)
  const names = [`${agent}.agent.agentca.local`]
  let account: Account | null = null

  /** Until it is answered. @throws Refused; Error for a failure of the server, or when patience ran out */
  const answered = async (send: () => Promise<Reply>): Promise<Reply> => {
    const deadline = performance.now() + patienceMs
    for (;;) {
      const reply = await send().catch(error => {
        if (isBroken(error) && performance.now() < deadline) return null
        throw error
      })
      if (reply !== null && !isPassing(reply)) {
        if (reply.status < 400) return reply
        if (reply.status < 500) throw new Refused(typeOf(reply.body))
        throw new Error(`an ACME request was answered with ${reply.status}: ${reply.text}`)
      }
      if (performance.now() > deadline) throw new Error(`still ${reply?.status}: ${reply?.text}`)
      await delay(deps.retryMs * (0.5 + Math.random()), undefined, { signal })
    }
  }

  const open = async (): Promise<Account> => {
    const body = { kind: 'agent', name: agent } as const
    const binding = await insist(signal, () => home.admin.call('acmeBindingsCreate', { body }))
    const key = createAccountKey()
    const { headers } = await answered(() => acme.newAccount(key, binding))
    return { key, kid: headers.location as string }
  }

  /** From what the order is to what it becomes: a lost answer of finalize is found here. */
  const order = async (by: Account): Promise<void> => {
    const key = await requestFor(names)
    const created = await answered(() => acme.newOrder(by, names))
    const url = created.headers.location as string
    for (;;) {
      const { body } = await answered(() => acme.post(url, undefined, by))
      if (body.status === 'valid') {
        const { text } = await answered(() => acme.post(body.certificate, undefined, by))
        const der = leafOf(text)
        evidence.received.push({ der, tokenId: null })
        evidence.ordered.push({ account: lastSegment(by.kid), order: lastSegment(url), der })
        return
      }
      // Told `processing`, and then came to nothing because nobody could sign: another order.
      if (body.status === 'invalid' && typeOf(body.error) === 'serverInternal') return order(by)
      if (body.status === 'invalid') throw new Refused(typeOf(body.error))
      if (body.status === 'ready') await answered(() => acme.post(body.finalize, { csr: derOf(key) }, by))
      else await delay(deps.retryMs, undefined, { signal })
    }
  }

  return {
    account: () => (account === null ? null : lastSegment(account.kid)),
    leave: () => {
      account = null
    },
    act: async orders => {
      try {
        account ??= await open()
        for (let i = 0; i < orders; i++) await order(account)
        return 'answered'
      } catch (error) {
        if (error instanceof Refused) return { refused: error.type }
        throw error
      }
    },
    close: () => acme.close(),
  }
}
