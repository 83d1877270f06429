// Finalizing an order (RFC 8555 §7.4): the request must name exactly what was ordered, and its certificate comes from the same steps as every
// other (ca/ISSUANCE.md), which also see to it that an order has one certificate, however often it is asked for.
import { acmeOrderChanged } from '../audit/acme-events.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { IssuanceRequest } from '../ca/issuance.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import { type CertificationRequest, parseCertificationRequest } from '../pki/csr.ts'
import { ipAddressText, isDnsName, parseIpAddress } from '../pki/host-names.ts'
import { oidOf } from '../pki/oid.ts'
import type { AcmeIdentifier, AcmeOrder } from '../store/acme-port.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError } from './errors.ts'
import { grantedNames, grantedUnbound, textOf } from './identifiers.ts'
import { failOrder, type OrderStatus, orderStatus } from './order.ts'
import { readPayload, requiredBytes } from './payload.ts'
import { isNow } from './profiles.ts'
import { acmeErrorOf, problemOf } from './refusals.ts'
import { type AccountRequest, whoOf } from './request.ts'

export interface Finalizer {
  statusOf(order: AcmeOrder): OrderStatus
  /**
   * @param inFlight a place is taken there for as long as the work goes on
   * @returns the order as it is then: `valid`, or `processing` where it takes longer
   * @throws AcmeError `badCSR`, `orderNotReady`, …; what `inFlight` throws: the order is then as it was
   */
  finalize(request: AccountRequest, order: AcmeOrder, inFlight: InFlight): Promise<AcmeOrder>
  /** Waits for what is in work. */
  close(): Promise<void>
}

/** Places among the certificates that are in work; each throws where there is none. */
export interface InFlight {
  /** For the first certificate of an account. */
  run<T>(work: () => Promise<T>): Promise<T>
  /** For the next ones. */
  renew<T>(work: () => Promise<T>): Promise<T>
}

/** For who ordered the shortest life that there is: so much of it may be over. */
const finalizeTimeMs = 60_000

const tooLate = (): AcmeError =>
  new AcmeError('malformed', 'notAfter of the order has come too near', { hint: 'order again' })

/** While another order of the same account is being signed. */
const retryMs = 50

/** The host names that a request asks for, in their one form, and everything else that it asks for. */
const namesOf = (
  csr: CertificationRequest,
): { readonly hosts: ReadonlySet<string>; readonly uris: readonly string[] } => {
  const hosts = new Set<string>()
  const uris: string[] = []
  for (const name of csr.subjectAltNames) {
    if (name.kind === 'dns') hosts.add(`dns:${name.value.toLowerCase()}`)
    else if (name.kind === 'ip' && [4, 16].includes(name.bytes.length)) hosts.add(`ip:${ipAddressText(name.bytes)}`)
    else if (name.kind === 'uri') uris.push(name.value)
    else throw new AcmeError('badCSR', `the request asks for a name of kind ${name.kind}`)
  }
  // RFC 8555 §7.4: a name may stand in the subject alone. One that is no host's name is ignored, as everywhere.
  for (const { type, value } of csr.subject.rdns.flat()) {
    if (type !== oidOf.commonName) continue
    const octets = parseIpAddress(value)
    if (octets !== null) hosts.add(`ip:${ipAddressText(octets)}`)
    else if (value.includes('.') && isDnsName(value.toLowerCase())) hosts.add(`dns:${value.toLowerCase()}`)
  }
  return { hosts, uris }
}

/** @throws AcmeError `badCSR` naming what is missing and what is too much */
const checkNames = (csr: CertificationRequest, ordered: readonly AcmeIdentifier[], spiffeId: string): void => {
  const { hosts, uris } = namesOf(csr)
  const wanted = new Set(ordered.map(textOf))
  const missing = [...wanted].filter(name => !hosts.has(name))
  const extra = [...hosts].filter(name => !wanted.has(name))
  const foreign = uris.filter(uri => uri !== spiffeId)
  if (missing.length + extra.length + foreign.length === 0) return
  const parts = [
    ...(missing.length === 0 ? [] : [`lacks ${missing.join(', ')}`]),
    ...(extra.length + foreign.length === 0 ? [] : [`asks for ${[...extra, ...foreign].join(', ')}`]),
  ]
  throw new AcmeError(
    'badCSR',
    `the names of the request are not those of the order: it ${parts.join(' and ')}`.slice(0, 1000),
  )
}

const hostsOf = (order: AcmeOrder): readonly string[] => order.authorizations.map(({ identifier }) => identifier.value)

interface Grants {
  /** Valid from the beginning, and granted no more. */
  readonly lost: readonly AcmeIdentifier[]
  /** By the registration's list alone, which the decision looks at once more. */
  readonly listed: readonly string[]
}

/** Of the authorizations that nobody proved, as the registration is now. */
const grantsOf = (deps: AcmeDeps, { account, registration }: AccountRequest, order: AcmeOrder): Grants => {
  const identifiers = order.authorizations.map(({ identifier }) => identifier)
  const unproved = order.authorizations.filter(({ challenges }) => challenges.length === 0)
  const grantedBy = (of: typeof registration): ReadonlySet<string> =>
    account.kid === null ? grantedUnbound(of, identifiers) : grantedNames(of, account.names, deps.trustDomain)
  const granted = grantedBy(registration)
  const unlisted = grantedBy({ ...registration, dnsNames: [] })
  return {
    lost: unproved.map(({ identifier }) => identifier).filter(each => !granted.has(textOf(each))),
    listed: unproved.flatMap(({ identifier }) => (unlisted.has(textOf(identifier)) ? [] : [identifier.value])),
  }
}

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

/** @returns whether the work ended within the time; its failure counts as an end */
const endsWithin = async (ms: number, work: Promise<unknown>): Promise<boolean> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>(resolve => {
    timer = setTimeout(() => resolve(false), ms)
  })
  const ended = work.then(
    () => true,
    () => true,
  )
  try {
    return await Promise.race([ended, late])
  } finally {
    clearTimeout(timer)
  }
}

export const createFinalizer = (deps: AcmeDeps): Finalizer => {
  const { orders } = deps.ports
  // By order, and the end of the line by account: a lineage has one intent at a time. Owned by this closure.
  const running = new Map<string, Promise<unknown>>()
  const lines = new Map<string, Promise<unknown>>()

  const statusOf = (order: AcmeOrder): OrderStatus => {
    const row = order.certificate === null ? null : deps.certificates.get(order.certificate)
    return orderStatus(order, { now: deps.clock.now(), certificate: row, running: running.has(order.id) })
  }

  /** Whether its account has had a certificate: who works has more to lose than who begins. */
  const goesOn = ({ account }: AcmeOrder): boolean => {
    const serial = deps.instances.get(account)?.headSerial ?? null
    const head = serial === null ? null : deps.certificates.get(serial)
    // Another order of the account may be in work.
    return head !== null && (head.issuedAt !== null || head.predecessor !== null)
  }

  const issueOnce = async (request: IssuanceRequest): Promise<void> => {
    const until = deps.clock.monotonic() + deps.settings.issueWaitMs
    for (;;)
      try {
        await deps.issuance.issue(request)
        return
      } catch (error) {
        const busy = isAgentCaError(error) && error.code === 'issuance_in_progress'
        if (!busy || deps.clock.monotonic() > until) throw error
        await sleep(retryMs)
      }
  }

  /** After those of the same account that came before. */
  const inLine = (account: string, work: () => Promise<void>): Promise<void> => {
    const before = lines.get(account) ?? Promise.resolve()
    const mine = before.then(work, work)
    lines.set(account, mine)
    const leave = () => {
      if (lines.get(account) === mine) lines.delete(account)
    }
    mine.then(leave, leave)
    return mine
  }

  const start = (order: AcmeOrder, request: IssuanceRequest, inFlight: InFlight): Promise<void> => {
    // Waiting in line is work too: it holds its place until the certificate is there, however soon its client was answered.
    const place = goesOn(order) ? inFlight.renew : inFlight.run
    const work = place(() => inLine(order.account, () => issueOnce(request))).finally(() => running.delete(order.id))
    running.set(order.id, work)
    work.catch(() => {})
    return work
  }

  /** Its client was told `processing`: it will look at the order, and must find an end. */
  const recordFailure = async (request: AccountRequest, order: AcmeOrder, error: unknown): Promise<void> => {
    const problem = problemOf(error)
    deps.log.warn({ order: order.id, reason: messageOf(error) }, 'an order came to nothing')
    const facts = { account: order.account, order: order.id, what: 'failed', problem: problem.type } as const
    const context = leafContextOf(request.call.context(), deps.clock.now())
    await orders
      .change(
        order.id,
        present => failOrder(present, problem),
        () => acmeOrderChanged(context, request.registration, facts),
      )
      .catch(cause => deps.log.error({ order: order.id, err: cause }, 'the end of an order was not recorded'))
  }

  const again = (order: AcmeOrder): AcmeOrder => orders.get(order.id) ?? order

  const endsTooSoon = ({ notAfter, profile }: AcmeOrder): boolean => {
    if (notAfter === null) return false
    const shortest = (deps.profiles().find(({ name }) => name === profile)?.minLifetimeSeconds ?? 0) * 1000
    return notAfter < deps.clock.now() + shortest - finalizeTimeMs
  }

  /** What was right when it was ordered, up to a day ago, and is not any more. */
  const refusedNow = (request: AccountRequest, order: AcmeOrder): AcmeError | null => {
    const { lost } = grantsOf(deps, request, order)
    if (lost.length === 0) return endsTooSoon(order) ? tooLate() : null
    const detail = 'this name is granted no more'
    return new AcmeError('rejectedIdentifier', `${detail}: ${lost.map(textOf).join(', ')}`.slice(0, 1000), {
      subproblems: lost.map(identifier => ({ type: 'rejectedIdentifier', detail, identifier })),
      hint: 'order again, without it',
    })
  }

  const requestOf = (request: AccountRequest, order: AcmeOrder): IssuanceRequest => {
    const { account, registration, call } = request
    const der = requiredBytes(readPayload(request.payload), 'csr')
    const csr = parseCertificationRequest(der)
    const who = whoOf(deps, registration, account.id)
    checkNames(
      csr,
      order.authorizations.map(({ identifier }) => identifier),
      who,
    )
    return {
      operation: 'order',
      evidence: { kind: 'account', accountId: account.id, orderId: order.id },
      csr: der,
      context: { ...call.context(), who },
      terms: {
        profile: order.profile,
        hosts: hostsOf(order),
        listed: grantsOf(deps, request, order).listed,
        // Only the time of the order could be asked for: once that is over, the profile's own is as near to it as can be.
        notBefore: isNow(order.notBefore, deps.clock.now()) ? order.notBefore : null,
        notAfter: order.notAfter,
      },
    }
  }

  const finalize: Finalizer['finalize'] = async (request, order, inFlight) => {
    const status = statusOf(order)
    // Asked again: the answer is the order's one certificate, whatever the request says now.
    if (status === 'valid' || status === 'processing') return order
    if (status !== 'ready')
      throw new AcmeError('orderNotReady', `the order is ${status}`, {
        hint: status === 'pending' ? 'fulfil a challenge of each authorization first' : 'order again',
      })
    const refusal = refusedNow(request, order)
    if (refusal !== null) {
      await recordFailure(request, order, refusal)
      throw refusal
    }
    const issuance = requestOf(request, order)
    deps.reached('acme 3')
    const work = start(order, issuance, inFlight)
    if (await endsWithin(deps.settings.finalizeWaitMs, work)) {
      await work
      deps.reached('acme 4')
      return again(order)
    }
    work.catch(error => recordFailure(request, order, error))
    return again(order)
  }

  return {
    statusOf,
    finalize: async (request, order, inFlight) => {
      try {
        return await finalize(request, order, inFlight)
      } catch (error) {
        throw acmeErrorOf(error)
      }
    },
    close: async () => {
      await Promise.allSettled(running.values())
    },
  }
}
