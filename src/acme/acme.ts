// ACME as one object (RFC 8555), composed in a straight line: what its HTTP face asks.
import { acmeAccountsPruned } from '../audit/acme-events.ts'
import { type Accounts, createAccounts } from './accounts.ts'
import { type Challenges, createChallenges } from './challenges.ts'
import type { AcmeDeps } from './deps.ts'
import { createFinalizer, type Finalizer } from './finalize.ts'
import { createNonces, type Nonces } from './nonces.ts'
import { createOrders, type Orders } from './orders.ts'
import { createRequests, type Requests } from './request.ts'

export interface Acme {
  readonly deps: AcmeDeps
  readonly nonces: Nonces
  readonly requests: Requests
  readonly accounts: Accounts
  readonly orders: Orders
  readonly challenges: Challenges
  readonly finalizer: Finalizer
  /** Removes orders that ended long enough ago, and accounts that anybody can have and nobody used, in bounded steps. @returns how many */
  prune(): Promise<number>
  /** What was begun is ended; nothing is begun any more. */
  close(): Promise<void>
}

/** Kept after their end, for clients that ask late and for whoever looks into what happened. */
const keepOrdersMs = 7 * 86_400_000
const pruneAtOnce = 500
const pruneSteps = 20

const inSteps = async (step: () => Promise<number>): Promise<number> => {
  let removed = 0
  for (let i = 0; i < pruneSteps; i++) {
    const few = await step()
    removed += few
    if (few < pruneAtOnce) break
  }
  return removed
}

const pruneOrders = ({ ports, clock }: AcmeDeps): Promise<number> => {
  const before = clock.now() - keepOrdersMs
  return inSteps(() => ports.orders.prune(before, pruneAtOnce))
}

/** Whoever made one and got no certificate with it in the time that an order has makes another. */
const pruneAccounts = ({ ports, clock, settings }: AcmeDeps): Promise<number> => {
  const now = clock.now()
  const step = { createdBefore: now - settings.orderLifetimeSeconds * 1000, now, limit: pruneAtOnce }
  return inSteps(() =>
    ports.accounts.pruneWaiting(step, (registration, accounts) =>
      acmeAccountsPruned({ at: now, who: 'system' }, registration, { accounts }),
    ),
  )
}

export const createAcme = (deps: AcmeDeps): Acme => {
  const nonces = createNonces(deps.randomBytes(32))
  const finalizer = createFinalizer(deps)
  const orders = createOrders(deps, finalizer.statusOf)
  const challenges = createChallenges(deps, orders)
  return {
    deps,
    nonces,
    requests: createRequests(deps, nonces),
    accounts: createAccounts(deps),
    orders,
    challenges,
    finalizer,
    prune: async () => (await pruneOrders(deps)) + (await pruneAccounts(deps)),
    close: async () => {
      await Promise.all([challenges.close(), finalizer.close()])
    },
  }
}
