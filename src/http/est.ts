// EST (RFC 7030, RFC 8951): four operations for devices and gateways that speak nothing else, over the very decisions of /v1/enroll and
// /v1/renew. What a client may ask for beyond them does not exist here and says so.
import { setTimeout as delay } from 'node:timers/promises'
import type { IRouter, RequestHandler, Response } from 'express'
import { fromBase64 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { IssuedCertificate } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { KeyAlgorithm } from '../pki/algorithms.ts'
import { csrTooLarge, maxCsrBytes } from '../pki/csr.ts'
import { encodeCsrAttributes } from '../pki/csr-attributes.ts'
import { PkiError } from '../pki/errors.ts'
import { encodeCertsOnly } from '../pki/pkcs7.ts'
import { methodNotAllowed } from './agent-api.ts'
import type { AgentIssuance } from './agent-issuance.ts'
import { createRawBody, type MediaType } from './body.ts'
import { callOf } from './call.ts'
import { HttpError } from './errors.ts'
import {
  attributesType,
  certificatesType,
  estPaths,
  isEstPath,
  issuedType,
  sendBase64,
  sendText,
} from './est-answer.ts'
import { type CredentialsDeps, shownToken, tokenOf } from './est-credentials.ts'
import { jitteredSeconds } from './problem.ts'

export interface EstDeps extends CredentialsDeps {
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
  readonly issuers: Pick<Issuers, 'all'>
  readonly est: {
    /** Kinds of key that a profile accepts, the preferred one first. @returns null where there is no such profile */
    readonly keyAlgorithmsOf: (profile: string) => readonly KeyAlgorithm[] | null
    /** After this the client is told to come back (RFC 7030 §4.2.3), and the certificate is made meanwhile. */
    readonly patienceMs: number
  }
}

/** What callers that nobody knows yet are most likely to be. */
const strangersProfile = 'agent'

const pkcs10: MediaType = { name: 'application/pkcs10', pattern: /^application\/pkcs10\s*(?:;.*)?$/i }

const unreadable = (): PkiError =>
  new PkiError('csr_malformed', 'expected base64 of the DER of a certification request, without BEGIN and END lines', {
    hint: 'openssl req -new -key KEY -subj / -outform DER | openssl base64',
  })

/** Base64 of DER, with or without line breaks, whatever a Content-Transfer-Encoding says (RFC 8951 §3). */
export const csrOf = (body: Uint8Array): Uint8Array => {
  const text = Buffer.from(body)
    .toString('latin1')
    .replace(/[\r\n\t ]+/g, '')
  const der = fromBase64(text)
  if (der === null || der.length === 0) throw unreadable()
  if (der.length > maxCsrBytes) throw csrTooLarge(der.length)
  return der
}

const isInProgress = (error: unknown): boolean => isAgentCaError(error) && error.code === 'issuance_in_progress'

/** RFC 7030 §4.2.3: the same request again, later, gets what was made meanwhile. */
const sendLater = (response: Response, seconds: number): void => {
  response.setHeader('Retry-After', seconds)
  sendText(response, 202, `the certificate is being made: send the same request again in ${seconds} s\n`)
}

/** Labels would choose a CA or profile (RFC 7030 §3.2.2); here the registration does. */
const refuseUnknown: RequestHandler = request => {
  const [operation = ''] = request.path.split('/').slice(-1)
  const what =
    operation === 'serverkeygen' || operation === 'fullcmc'
      ? `${operation} is not offered: a key is made, and stays, where it is used`
      : 'there is no such operation, and no labels: the profile comes from the registration'
  throw new HttpError('route_not_found', what, { hint: `offered: ${Object.values(estPaths).join(', ')}` })
}

export const mountEst = (router: IRouter, deps: EstDeps, issuance: AgentIssuance, bodyDeadlineMs?: number): void => {
  const body = createRawBody(bodyDeadlineMs, undefined, pkcs10)

  /** Every root and every CA between a root and a leaf (RFC 7030 §4.1.3); a retired one has no leaves that are still to be verified. */
  const cacerts: RequestHandler = (_request, response) => {
    const cas = deps.issuers.all().filter(({ record }) => record.state !== 'retired')
    sendBase64(response, certificatesType, encodeCertsOnly(cas.map(({ certificate }) => certificate.der)))
  }

  const csrattrs: RequestHandler = (request, response) => {
    const { caller } = callOf(response)
    const known = caller.kind === 'peer' ? caller.registration : shownToken(deps, request, response)?.registration
    const [algorithm] = deps.est.keyAlgorithmsOf(known?.profile ?? strangersProfile) ?? []
    // RFC 7030 §4.5.2: nothing in particular is wanted.
    if (algorithm === undefined) response.status(204).end()
    else sendBase64(response, attributesType, encodeCsrAttributes(algorithm))
  }

  const answer = async (response: Response, asked: Promise<IssuedCertificate>): Promise<void> => {
    const { requestId } = callOf(response)
    const ended = new AbortController()
    const patience = delay(deps.est.patienceMs, 'later' as const, { signal: ended.signal, ref: false }).catch(
      () => 'later' as const,
    )
    try {
      const issued = await Promise.race([asked, patience])
      if (issued !== 'later') return sendBase64(response, issuedType, encodeCertsOnly([issued.certificate]))
      asked.catch(err =>
        deps.log.warn({ requestId, err }, 'a certificate that a client was told to wait for was not made'),
      )
    } catch (error) {
      if (!isInProgress(error)) throw error
    } finally {
      ended.abort()
    }
    sendLater(response, jitteredSeconds(deps.random))
  }

  const simpleenroll: RequestHandler = async (request, response) => {
    const token = tokenOf(deps, request, response)
    await answer(response, issuance.byToken(response, { token, csr: csrOf(request.body) }))
  }
  const simplereenroll: RequestHandler = async (request, response) => {
    await answer(response, issuance.byCertificate(response, csrOf(request.body)))
  }
  /** Before the body is read: who has no token has nothing to send either. */
  const authenticated: RequestHandler = (request, response, next) => {
    tokenOf(deps, request, response)
    next()
  }

  router.route(estPaths.cacerts).get(cacerts).all(methodNotAllowed('GET, HEAD'))
  router.route(estPaths.csrattrs).get(csrattrs).all(methodNotAllowed('GET, HEAD'))
  router.route(estPaths.simpleenroll).post(authenticated, body, simpleenroll).all(methodNotAllowed('POST'))
  router.route(estPaths.simplereenroll).post(body, simplereenroll).all(methodNotAllowed('POST'))
  router.use((request, response, next) => (isEstPath(request.path) ? refuseUnknown(request, response, next) : next()))
}
