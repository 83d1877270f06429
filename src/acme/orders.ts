// Orders as accounts make, read and list them (RFC 8555 §7.4, §7.1.2.1, §7.5): which names are granted, which have to be proved. How many
// there may be is order-limits.ts's, issuing finalize.ts's, probing challenges.ts's.
import { acmeOrderChanged, acmeOrderCreated } from '../audit/acme-events.ts'
import { toBase64url } from '../base/bytes.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import type { AcmeAuthorization, AcmeIdentifier, AcmeOrder, AcmeProblem } from '../store/acme-port.ts'
import { StoreError } from '../store/errors.ts'
import type { AcmeDeps, AcmeProfile } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'
import { errorOf, grantedNames, grantedUnbound, parseIdentifiers, textOf } from './identifiers.ts'
import { deactivateAuthorization, failOrder, type OrderStatus } from './order.ts'
import { createOrderLimits } from './order-limits.ts'
import { optionalText, optionalTime, type Payload, readPayload } from './payload.ts'
import { isNow, profileOf } from './profiles.ts'
import { replacedCertificate } from './renewal-info.ts'
import type { AccountRequest } from './request.ts'

export interface Orders {
  /** @throws AcmeError `malformed`, `rejectedIdentifier`, `invalidProfile`, `alreadyReplaced`, `rateLimited` */
  create(request: AccountRequest): Promise<AcmeOrder>
  /** One of this account's. @throws AcmeError `notFound`; `unauthorized` for somebody else's */
  get(request: AccountRequest, id: string): AcmeOrder
  /** Newest first. @returns the page, and where the next one begins */
  list(
    request: AccountRequest,
    before: string | undefined,
  ): { readonly orders: readonly AcmeOrder[]; readonly next: string | null }
  /** @throws AcmeError `notFound`; `unauthorized` for somebody else's */
  authorization(request: AccountRequest, id: string, index: number): AuthorizationOf
  /** RFC 8555 §7.5.2; an empty payload only reads. @throws AcmeError */
  updateAuthorization(request: AccountRequest, id: string, index: number): Promise<AuthorizationOf>
}

export interface AuthorizationOf {
  readonly order: AcmeOrder
  readonly index: number
  readonly authorization: AcmeAuthorization
}

const pageSize = 50
const nothingHere = (what: string): AcmeError => new AcmeError('notFound', `this account has no such ${what}`)

/** RFC 8555 §7.1.4, RFC 8738 §7: a wildcard is proved by DNS only, an address never. */
const challengesOf = (identifier: AcmeIdentifier, profile: AcmeProfile) =>
  profile.challenges.filter(type => {
    if (identifier.type === 'ip') return type !== 'dns-01'
    return !identifier.value.startsWith('*.') || type === 'dns-01'
  })

const createAuthorizer = (deps: AcmeDeps) => {
  const token = (): string => toBase64url(deps.randomBytes(32))

  /** Granted, to be proved, or a problem. */
  return (
    identifier: AcmeIdentifier,
    { granted, profile }: { readonly granted: ReadonlySet<string>; readonly profile: AcmeProfile },
  ): AcmeAuthorization | AcmeProblem => {
    const type = 'rejectedIdentifier'
    if (identifier.type === 'ip' && profile.kind !== 'service')
      return { type, detail: 'only services have IP addresses in their certificates', identifier }
    if (granted.has(textOf(identifier))) return { identifier, status: 'valid', challenges: [] }
    const types = challengesOf(identifier, profile)
    if (types.length === 0)
      return { type, detail: 'this name was granted neither by the registration nor by the binding', identifier }
    const challenges = types.map(each => ({ type: each, token: token(), status: 'pending' as const }))
    return { identifier, status: 'pending', challenges }
  }
}

const isProblem = (value: AcmeAuthorization | AcmeProblem): value is AcmeProblem => 'detail' in value

/** @throws AcmeError `malformed` */
const validityOf = (payload: Payload, profile: AcmeProfile, now: number) => {
  const notBefore = optionalTime(payload, 'notBefore')
  const notAfter = optionalTime(payload, 'notAfter')
  if (notBefore !== null && !isNow(notBefore, now))
    throw malformed('notBefore can only be now', { hint: 'leave notBefore out' })
  const latest = now + profile.lifetimeSeconds * 1000
  if (notAfter !== null && (notAfter > latest || notAfter < now + profile.minLifetimeSeconds * 1000))
    throw malformed(`notAfter lies outside profile ${profile.name}`, {
      hint: `expected ${profile.minLifetimeSeconds} s to ${profile.lifetimeSeconds} s from now`,
      facts: { latest },
    })
  return { notBefore, notAfter }
}

/** @param statusOf of an order as it is now */
export const createOrders = (deps: AcmeDeps, statusOf: (order: AcmeOrder) => OrderStatus): Orders => {
  const { orders } = deps.ports
  const { settings } = deps
  const limits = createOrderLimits(deps)
  const authorizationFor = createAuthorizer(deps)

  const authorizationsOf = (
    { registration, account }: AccountRequest,
    identifiers: readonly AcmeIdentifier[],
    profile: AcmeProfile,
  ): readonly AcmeAuthorization[] => {
    const granted =
      account.kid === null
        ? grantedUnbound(registration, identifiers)
        : grantedNames(registration, account.names, deps.trustDomain)
    const judged = identifiers.map(each => authorizationFor(each, { granted, profile }))
    const problems = judged.filter(isProblem)
    if (problems.length === 0) return judged as readonly AcmeAuthorization[]
    const { kind, name } = registration
    const error = errorOf(problems, 'rejectedIdentifier')
    throw new AcmeError(error.code, error.message, {
      subproblems: problems,
      hint: `order ${[...granted].join(', ') || 'what a profile lets you prove'}, or have it granted: agentca acme eab create --${kind} ${name} --dns NAME`,
    })
  }

  /** An order that came to nothing replaced nothing. */
  const freeReplaced = async (serial: string | null): Promise<void> => {
    const before = serial === null ? null : orders.replacing(serial)
    if (before === null || statusOf(before) !== 'invalid') return
    const error = { type: 'orderNotReady', detail: 'the order ended before it was finalized' }
    await orders.change(
      before.id,
      present => (statusOf(present) === 'invalid' ? failOrder(present, error) : present),
      null,
    )
  }

  const create: Orders['create'] = async request => {
    const { account, registration, call } = request
    const now = deps.clock.now()
    limits.check(account, now)
    const payload = readPayload(request.payload)
    const identifiers = parseIdentifiers(payload.identifiers)
    limits.checkNames(account, identifiers.length)
    const profile = profileOf(deps.profiles(), registration, optionalText(payload, 'profile'))
    if (account.kid === null && profile.challenges.length === 0)
      throw new AcmeError('unauthorized', 'an account without a binding orders only under profiles with challenges')
    const validity = validityOf(payload, profile, now)
    const replaces = replacedCertificate(deps, request, optionalText(payload, 'replaces'))
    const order: AcmeOrder = {
      id: deps.newId(),
      account: account.id,
      profile: profile.name,
      authorizations: authorizationsOf(request, identifiers, profile),
      ...validity,
      replaces,
      certificate: null,
      error: null,
      expiresAt: Math.floor(now / 1000) * 1000 + settings.orderLifetimeSeconds * 1000,
      createdAt: now,
    }
    const leaf = acmeOrderCreated(leafContextOf(call.context(), now), registration, {
      account: account.id,
      order: order.id,
      profile: profile.name,
      names: identifiers.map(textOf),
      replaces: replaces ?? undefined,
    })
    await freeReplaced(replaces)
    try {
      const created = await limits.within(account, now, () => orders.create(order, leaf))
      deps.reached('acme 2')
      return created
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'conflict') throw error
      throw new AcmeError('alreadyReplaced', 'another order replaces this certificate already', {
        cause: error,
        hint: 'finish that order, or order without replaces',
      })
    }
  }

  const get: Orders['get'] = ({ account }, id) => {
    const order = orders.get(id)
    if (order === null) throw nothingHere('order')
    if (order.account === account.id) return order
    // Its id is beyond guessing: somebody showed it, or lost it, and the operator should know.
    throw new AcmeError('unauthorized', 'this order is another account’s')
  }

  const authorization: Orders['authorization'] = (request, id, index) => {
    const order = get(request, id)
    const found = order.authorizations[index]
    if (found === undefined) throw nothingHere('authorization')
    return { order, index, authorization: found }
  }

  return {
    create,
    get,
    authorization,
    list: ({ account }, before) => {
      const filter = { account: account.id, limit: pageSize + 1, ...(before === undefined ? {} : { before }) }
      const found = orders.list(filter)
      const page = found.slice(0, pageSize)
      return { orders: page, next: found.length > pageSize ? (page.at(-1)?.id ?? null) : null }
    },
    updateAuthorization: async (request, id, index) => {
      const present = authorization(request, id, index)
      if (request.payload.length === 0) return present
      const status = optionalText(readPayload(request.payload), 'status')
      if (status !== 'deactivated') throw malformed('expected status to be deactivated: nothing else can be asked for')
      const { account, registration, call } = request
      const name = textOf(present.authorization.identifier)
      const facts = { account: account.id, order: id, what: 'authorization_deactivated', name } as const
      const leaf = () => acmeOrderChanged(leafContextOf(call.context(), deps.clock.now()), registration, facts)
      await orders.change(id, order => deactivateAuthorization(order, index), leaf)
      return authorization(request, id, index)
    },
  }
}
