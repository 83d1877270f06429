// The state machines of orders, authorizations and challenges (RFC 8555 §7.1.6) as functions of what is recorded and the time. Nothing is
// stored that follows from something else: an order is ready because its authorizations are valid, valid because it has a certificate.
import type { AcmeAuthorization, AcmeChallenge, AcmeOrder, AcmeProblem } from '../store/acme-port.ts'
import type { CertificateRecord } from '../store/records.ts'

export type OrderStatus = 'pending' | 'ready' | 'processing' | 'valid' | 'invalid'
export type AuthorizationStatus = 'pending' | 'valid' | 'invalid' | 'deactivated' | 'expired'

/** What an order's status depends on beside its row. */
export interface OrderView {
  readonly now: number
  /** Of `order.certificate`; null: none. */
  readonly certificate: Pick<CertificateRecord, 'state' | 'issuedAt'> | null
  /** Whether this process is issuing for it right now. */
  readonly running: boolean
}

export const authorizationStatus = (
  { status }: AcmeAuthorization,
  order: Pick<AcmeOrder, 'expiresAt'>,
  now: number,
): AuthorizationStatus => {
  if (status !== 'pending' && status !== 'valid') return status
  if (order.expiresAt > now) return status
  return status === 'valid' ? 'expired' : 'invalid'
}

export const orderStatus = (order: AcmeOrder, { now, certificate, running }: OrderView): OrderStatus => {
  // What was given out stays given out, whatever became of it: the certificate's own status says so.
  if (certificate !== null && certificate.issuedAt !== null) return 'valid'
  if (order.error !== null) return 'invalid'
  if (running || certificate?.state === 'intent') return 'processing'
  if (order.expiresAt <= now) return 'invalid'
  const statuses = order.authorizations.map(each => authorizationStatus(each, order, now))
  if (statuses.some(status => status !== 'pending' && status !== 'valid')) return 'invalid'
  return statuses.every(status => status === 'valid') ? 'ready' : 'pending'
}

const withAuthorization = (
  order: AcmeOrder,
  index: number,
  change: (authorization: AcmeAuthorization) => AcmeAuthorization,
): AcmeOrder => {
  const before = order.authorizations[index]
  if (before === undefined) return order
  const after = change(before)
  if (after === before) return order
  return { ...order, authorizations: order.authorizations.with(index, after) }
}

const withChallenge = (
  authorization: AcmeAuthorization,
  token: string,
  change: (challenge: AcmeChallenge) => AcmeChallenge,
): AcmeAuthorization => ({
  ...authorization,
  challenges: authorization.challenges.map(each => (each.token === token ? change(each) : each)),
})

/** The client says that it is ready to be probed. Only of a pending authorization of which nothing is being probed; else the same order. */
export const beginChallenge = (order: AcmeOrder, index: number, token: string): AcmeOrder =>
  withAuthorization(order, index, authorization => {
    const challenge = authorization.challenges.find(each => each.token === token)
    if (authorization.status !== 'pending' || challenge?.status !== 'pending') return authorization
    if (authorization.challenges.some(each => each.status === 'processing')) return authorization
    return withChallenge(authorization, token, each => ({ ...each, status: 'processing' }))
  })

/** What came of the probe; nothing where nobody waits for it any more. One challenge decides about its authorization. */
export const endChallenge = (
  order: AcmeOrder,
  index: number,
  { token, at, problem }: { readonly token: string; readonly at: number; readonly problem: AcmeProblem | null },
): AcmeOrder =>
  withAuthorization(order, index, authorization => {
    const challenge = authorization.challenges.find(each => each.token === token)
    if (authorization.status !== 'pending' || challenge?.status !== 'processing') return authorization
    const settled = withChallenge(authorization, token, each =>
      problem === null ? { ...each, status: 'valid', validatedAt: at } : { ...each, status: 'invalid', problem },
    )
    return { ...settled, status: problem === null ? 'valid' : 'invalid' }
  })

/** Whoever probed is gone: what nobody probes any more of this authorization can be asked for again. */
export const resetChallenges = (order: AcmeOrder, index: number, isAbandoned: (token: string) => boolean): AcmeOrder =>
  withAuthorization(order, index, authorization => {
    const over = ({ status, token }: AcmeChallenge): boolean => status === 'processing' && isAbandoned(token)
    if (!authorization.challenges.some(over)) return authorization
    const challenges = authorization.challenges.map(each =>
      over(each) ? { ...each, status: 'pending' as const } : each,
    )
    return { ...authorization, challenges }
  })

/** RFC 8555 §7.5.2: final, and only of what is not final yet. */
export const deactivateAuthorization = (order: AcmeOrder, index: number): AcmeOrder =>
  withAuthorization(order, index, authorization =>
    authorization.status === 'pending' || authorization.status === 'valid'
      ? { ...authorization, status: 'deactivated' }
      : authorization,
  )

/** Nothing more will come of it. The first reason stays. */
export const failOrder = (order: AcmeOrder, error: AcmeProblem): AcmeOrder =>
  order.error === null ? { ...order, error } : order
