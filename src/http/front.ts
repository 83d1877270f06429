// The first middleware of every request: its id, where it comes from, who calls, and how often they may. A certificate that is shown is
// checked for this very request, or the request ends here; routes only ask what kind of caller they have.
import type { RequestHandler, Response } from 'express'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { pooledRandomBytes } from '../base/random.ts'
import { CaError } from '../ca/errors.ts'
import { type Caller, callOf, type HolderCaller, setCall, type VerifiedCaller } from './call.ts'
import { checkCallerState, type PresentStates } from './caller-state.ts'
import { HttpError } from './errors.ts'
import type { Limits } from './limits.ts'
import { type Connection, connectionOf, identify, type PresentedDeps, presentStates } from './presented-certificate.ts'

export interface FrontDeps extends PresentedDeps {
  readonly clock: Clock
  readonly limits: Limits
}

/** 128 bits, lower-case hex: drawn here, never taken from a request, so that nobody can choose what the log says. */
export const newRequestId = (): string => toHex(pooledRandomBytes(16))

const anonymous: Caller = { kind: 'anonymous' }
const local: Caller = { kind: 'local' }

/** Counts before it refuses: certificates that are not ours cost their sender what no certificate costs. */
const identified = (deps: FrontDeps, { network, presented }: Connection, foreign: 'refused' | 'anonymous'): Caller => {
  if (presented === null) {
    deps.limits.takeAnonymous(network)
    return anonymous
  }
  try {
    return identify(deps, presented)
  } catch (error) {
    deps.limits.takeAnonymous(network)
    // It names nobody here; whether it is evidence, an attestor says.
    if (foreign === 'anonymous' && error instanceof CaError && error.code === 'certificate_unknown') return anonymous
    throw error
  }
}

const peer = (
  { certificate, record, spiffeId }: HolderCaller,
  { registration, instance }: PresentStates,
): VerifiedCaller => ({ kind: 'peer', certificate, record, spiffeId, registration, instance })

/**
 * For the TLS listener.
 * @param decidedLater paths whose own decision looks at the state of certificate, instance and registration, and audits it
 * @param takesForeign paths that take certificates of other authorities
 */
export const createFront =
  (deps: FrontDeps, decidedLater: ReadonlySet<string>, takesForeign: ReadonlySet<string> = new Set()): RequestHandler =>
  (request, response, next) => {
    const requestId = newRequestId()
    response.setHeader('X-Request-Id', requestId)
    const connection = connectionOf(request.socket)
    const { source } = connection
    // Refusals from here on know at least where they come from.
    setCall(response, { requestId, source, caller: anonymous })
    const caller = identified(deps, connection, takesForeign.has(request.path) ? 'anonymous' : 'refused')
    if (caller.kind === 'holder') {
      setCall(response, { requestId, source, caller })
      deps.limits.takeIdentity(caller.record.instanceId)
      if (!decidedLater.has(request.path)) {
        const present = presentStates(deps, caller)
        checkCallerState(caller, present, deps.clock.now())
        setCall(response, { requestId, source, caller: peer(caller, present) })
      }
    }
    next()
  }

/** For the admin socket: whoever may open it is the operator of this machine. */
export const localFront: RequestHandler = (_request, response, next) => {
  const requestId = newRequestId()
  response.setHeader('X-Request-Id', requestId)
  setCall(response, { requestId, source: 'socket', caller: local })
  next()
}

/** @throws HttpError `client_certificate_missing` */
export const peerOf = (response: Response): VerifiedCaller => {
  const { caller } = callOf(response)
  if (caller.kind === 'peer') return caller
  throw missingCertificate()
}

export const missingCertificate = (): HttpError =>
  new HttpError('client_certificate_missing', 'this call needs a client certificate of this CA', {
    hint: 'connect with the certificate and key of your identity; POST /v1/enroll gives one',
  })
