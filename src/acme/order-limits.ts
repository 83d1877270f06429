// How many orders there may be: of one account a minute and at once, and at once of all accounts that anybody can have and that have no
// certificate yet. What an account without a binding may write is bounded closely, for its owner is nobody whom this CA knows.
import { createRateBuckets } from '../base/rate-buckets.ts'
import type { AcmeAccount } from '../store/acme-port.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'

export interface OrderLimits {
  /** Counted before anything is looked up, so that refused ones are counted too. @throws AcmeError `rateLimited` */
  check(account: AcmeAccount, now: number): void
  /** @throws AcmeError `malformed` */
  checkNames(account: AcmeAccount, names: number): void
  /** What comes at the same time is counted as well. @throws AcmeError `rateLimited`, and what `make` throws */
  within<T>(account: AcmeAccount, now: number, make: () => Promise<T>): Promise<T>
}

/** Accounts whose pace is remembered at once. */
const maxPaced = 20_000
/** Of an account without a binding. */
const maxOpenUnbound = 5
const maxNamesUnbound = 10
/**
 * Orders of waiting accounts are counted anew after this time, later where counting takes long; until then those that were made are added,
 * and none is taken away.
 */
const recountAfterMs = 30_000
const maxShareOfTime = 1 / 100
const retryAfterSeconds = 60

const unbound = ({ kid }: AcmeAccount): boolean => kid === null

const eab = 'or order with an account that has an external account binding: agentca acme eab create'

export const createOrderLimits = ({ clock, ports, settings }: AcmeDeps): OrderLimits => {
  const pace = createRateBuckets<string>(clock, settings.orders, maxPaced)
  // Owned by this closure: orders on their way into the ledger, by account, and what was counted of all waiting accounts.
  const making = new Map<string, number>()
  let counted = { orders: 0, until: -1 }

  const openWaiting = (now: number): number => {
    const at = clock.monotonic()
    if (at >= counted.until) {
      const onTheirWay = [...making.values()].reduce((sum, each) => sum + each, 0)
      const orders = ports.orders.openOfWaiting(now, settings.maxUnboundAccounts) + onTheirWay
      const tookMs = clock.monotonic() - at
      counted = { orders, until: at + Math.max(recountAfterMs, tookMs / maxShareOfTime) }
    }
    return counted.orders
  }

  const checkOpen = (account: AcmeAccount, now: number): void => {
    const max = unbound(account) ? Math.min(maxOpenUnbound, settings.maxOpenOrders) : settings.maxOpenOrders
    if (ports.orders.open(account.id, now) + (making.get(account.id) ?? 0) < max) return
    throw new AcmeError('rateLimited', `${max} orders of this account wait for their end`, {
      facts: { retryAfterSeconds },
      hint: `finalize them, or let them expire${unbound(account) ? `, ${eab}` : ''}`,
    })
  }

  /** @returns whether it is one of those that are counted together */
  const checkWaiting = (account: AcmeAccount, now: number): boolean => {
    if (!unbound(account) || !ports.accounts.waits(account.id)) return false
    const max = settings.maxUnboundAccounts
    if (openWaiting(now) < max) return true
    throw new AcmeError(
      'rateLimited',
      `${max} orders of accounts without a binding and a certificate wait for their end`,
      {
        facts: { retryAfterSeconds },
        hint: `come again later, ${eab}`,
      },
    )
  }

  return {
    check: (account, now) => {
      const waitMs = pace.take(account.id)
      if (waitMs > 0)
        throw new AcmeError('rateLimited', 'this account makes too many orders', {
          facts: { retryAfterSeconds: Math.ceil(waitMs / 1000) },
          hint: 'raise acme.orders if it is no error',
        })
      checkOpen(account, now)
    },
    checkNames: (account, names) => {
      if (!unbound(account) || names <= maxNamesUnbound) return
      throw malformed(`expected at most ${maxNamesUnbound} identifiers of an account without a binding`, {
        hint: `make several orders, ${eab}`,
      })
    },
    within: async (account, now, make) => {
      checkOpen(account, now)
      if (checkWaiting(account, now)) counted = { ...counted, orders: counted.orders + 1 }
      making.set(account.id, (making.get(account.id) ?? 0) + 1)
      try {
        return await make()
      } finally {
        const left = making.get(account.id)! - 1
        if (left === 0) making.delete(account.id)
        else making.set(account.id, left)
      }
    },
  }
}
