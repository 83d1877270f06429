// The routes of ACME under `/acme` (RFC 8555): raw bodies of application/jose+json in, JSON and PEM out, with the headers that its clients
// go by. What is answered, and to whom, is acme's; the URL that a request must have signed is made of publicUrl, never of its Host.
import { type Request, type RequestHandler, type Response, Router } from 'express'
import type { Acme } from '../../acme/acme.ts'
import * as answers from '../../acme/answers.ts'
import { certificateChain } from '../../acme/certificates.ts'
import type { AcmeCall } from '../../acme/deps.ts'
import { AcmeError } from '../../acme/errors.ts'
import { checkPostAsGet } from '../../acme/payload.ts'
import { renewalInfo } from '../../acme/renewal-info.ts'
import type { AccountRequest } from '../../acme/request.ts'
import { revokeCertificate } from '../../acme/revocation.ts'
import { acmePaths } from '../../acme/urls.ts'
import type { AcmeOrder } from '../../store/acme-port.ts'
import { methodNotAllowed } from '../agent-api.ts'
import { sendJson, sendPem } from '../answer.ts'
import { createRawBody, type MediaType } from '../body.ts'
import { callOf, contextOf, setCall } from '../call.ts'
import type { InFlight, Limits } from '../limits.ts'
import { connectionOf } from '../presented-certificate.ts'

export interface AcmeRouterDeps {
  readonly acme: Acme
  readonly inFlight: InFlight
  readonly limits: Pick<Limits, 'recognised' | 'takeIdentity'>
  readonly bodyDeadlineMs?: number | undefined
}

/** RFC 8555 §6.2: exactly this one, without parameters. */
const jose: MediaType = { name: 'application/jose+json', pattern: /^application\/jose\+json\s*$/i }

/** Where an order is processing: its certificate is seconds away. */
const processingRetrySeconds = 1
const probingRetrySeconds = 2

export const indexLinkOf = ({ deps }: Acme): string => `<${deps.urls.of(acmePaths.directory)}>;rel="index"`

const link = (response: Response, url: string, relation: string): void => {
  response.appendHeader('Link', `<${url}>;rel="${relation}"`)
}

const callFor = (request: Request, response: Response): AcmeCall => ({
  path: request.originalUrl.slice('/acme'.length),
  body: request.body as Uint8Array,
  identified: (who, registrationId) => setCall(response, { ...callOf(response), evidence: { who, registrationId } }),
  context: () => contextOf(response),
})

type Handler = (request: AccountRequest, http: { readonly request: Request; readonly response: Response }) => unknown

const text = (request: Request, name: string): string => {
  const value = request.params[name]
  return typeof value === 'string' ? value : ''
}

/** @throws AcmeError `notFound` for what is no number */
const number = (request: Request, name: string): number => {
  const value = text(request, name)
  if (/^[0-9]{1,3}$/.test(value)) return Number(value)
  throw new AcmeError('notFound', 'there is nothing at this path')
}

const sendOrder = (acme: Acme, response: Response, order: AcmeOrder, status: number): void => {
  const state = acme.finalizer.statusOf(order)
  if (state === 'processing') response.setHeader('Retry-After', processingRetrySeconds)
  response.setHeader('Location', acme.deps.urls.order(order.id))
  sendJson(response, status, answers.orderAnswer(acme.deps, order, state))
}

export const createAcmeRouter = ({ acme, inFlight, limits, bodyDeadlineMs }: AcmeRouterDeps): Router => {
  const { deps } = acme
  const { urls } = deps
  const body = createRawBody(bodyDeadlineMs, undefined, jose)
  const router = Router({ caseSensitive: true, strict: true })
  const indexLink = indexLinkOf(acme)

  const index: RequestHandler = (request, response, next) => {
    if (request.path !== acmePaths.directory) response.appendHeader('Link', indexLink)
    next()
  }
  const post = (path: string, handler: RequestHandler): void => {
    const fresh: RequestHandler = async (request, response, next) => {
      await handler(request, response, next)
    }
    router.route(path).post(body, withNonce, fresh).all(methodNotAllowed('POST'))
  }
  const withNonce: RequestHandler = (_request, response, next) => {
    response.setHeader('Replay-Nonce', acme.nonces.create())
    next()
  }
  /**
   * By the account. Only what was taken from its address is given back there: not for a call with a certificate, and not for an account that
   * anybody can have without a binding.
   */
  const count = (request: Request, response: Response, { account }: AccountRequest): void => {
    if (account.kid !== null && callOf(response).caller.kind === 'anonymous')
      limits.recognised(connectionOf(request.socket).network, account.id)
    else limits.takeIdentity(account.id)
  }
  /** By the account's key. */
  const signed = (path: string, handler: Handler): void =>
    post(path, async (request, response) => {
      const account = await acme.requests.byAccount(callFor(request, response))
      count(request, response, account)
      await handler(account, { request, response })
    })
  /** POST-as-GET. */
  const read = (path: string, handler: Handler): void =>
    signed(path, (account, http) => {
      checkPostAsGet(account.payload)
      return handler(account, http)
    })

  router.use(index)
  router
    .route(acmePaths.directory)
    .get((_request, response) => sendJson(response, 200, answers.directoryAnswer(deps)))
    .all(methodNotAllowed('GET, HEAD'))
  router
    .route(acmePaths.newNonce)
    .get(withNonce, (request, response) => {
      // RFC 8555 §7.2: HEAD says 200, GET 204.
      response.statusCode = request.method === 'HEAD' ? 200 : 204
      response.setHeader('Cache-Control', 'no-store')
      response.end()
    })
    .all(methodNotAllowed('GET, HEAD'))
  router
    .route(`${acmePaths.renewalInfo}/:id`)
    .get((request, response) => {
      const info = renewalInfo(deps, text(request, 'id'))
      response.setHeader('Retry-After', info.retryAfterSeconds)
      sendJson(response, 200, answers.renewalInfoAnswer(info))
    })
    .all(methodNotAllowed('GET, HEAD'))

  post(acmePaths.newAccount, async (request, response) => {
    const opened = await acme.accounts.open(await acme.requests.byKey(callFor(request, response)))
    response.setHeader('Location', urls.account(opened.account.id))
    sendJson(response, opened.created ? 201 : 200, answers.accountAnswer(deps, opened.account))
  })
  signed(acmePaths.keyChange, async (account, { response }) => {
    const changed = await acme.accounts.changeKey(account)
    response.setHeader('Location', urls.account(changed.id))
    sendJson(response, 200, answers.accountAnswer(deps, changed))
  })
  signed(`${acmePaths.account}/:id`, async (account, { request, response }) => {
    const updated = await acme.accounts.update(account, text(request, 'id'))
    response.setHeader('Location', urls.account(updated.id))
    sendJson(response, 200, answers.accountAnswer(deps, updated))
  })
  read(`${acmePaths.account}/:id/orders`, (account, { request, response }) => {
    if (text(request, 'id') !== account.account.id)
      throw new AcmeError('unauthorized', 'these are the orders of another account than the one that signed')
    const { before } = request.query
    const page = acme.orders.list(account, typeof before === 'string' ? before : undefined)
    if (page.next !== null) link(response, urls.orders(account.account.id, page.next), 'next')
    sendJson(response, 200, { orders: page.orders.map(({ id }) => urls.order(id)) })
  })

  signed(acmePaths.newOrder, async (account, { response }) => {
    sendOrder(acme, response, await acme.orders.create(account), 201)
  })
  read(`${acmePaths.order}/:id`, (account, { request, response }) => {
    sendOrder(acme, response, acme.orders.get(account, text(request, 'id')), 200)
  })
  signed(`${acmePaths.order}/:id/finalize`, async (account, { request, response }) => {
    const order = acme.orders.get(account, text(request, 'id'))
    sendOrder(acme, response, await acme.finalizer.finalize(account, order, inFlight), 200)
  })
  signed(`${acmePaths.authorization}/:order/:index`, async (account, { request, response }) => {
    const of = await acme.orders.updateAuthorization(account, text(request, 'order'), number(request, 'index'))
    if (of.authorization.status === 'pending') response.setHeader('Retry-After', probingRetrySeconds)
    sendJson(response, 200, answers.authorizationAnswer(deps, of))
  })
  signed(`${acmePaths.challenge}/:order/:index/:type`, async (account, { request, response }) => {
    const [order, type] = [text(request, 'order'), text(request, 'type')]
    const of = await acme.challenges.respond(account, order, number(request, 'index'), type)
    link(response, urls.authorization(of.order.id, of.index), 'up')
    if (of.challenge.status === 'processing') response.setHeader('Retry-After', probingRetrySeconds)
    sendJson(response, 200, answers.challengeAnswer(deps, of))
  })

  const certificate: Handler = (account, { request, response }) => {
    const serial = text(request, 'serial')
    const chain = certificateChain(
      deps,
      account,
      serial,
      request.params.chain === undefined ? 0 : number(request, 'chain'),
    )
    for (const other of chain.alternates) link(response, urls.certificate(serial, other), 'alternate')
    sendPem(response, chain.pem)
  }
  read(`${acmePaths.certificate}/:serial`, certificate)
  read(`${acmePaths.certificate}/:serial/:chain`, certificate)
  post(acmePaths.revokeCert, async (request, response) => {
    await revokeCertificate(deps, await acme.requests.byEither(callFor(request, response)))
    response.statusCode = 200
    response.setHeader('Cache-Control', 'no-store')
    response.end()
  })
  router.use(() => {
    throw new AcmeError('notFound', 'there is nothing at this path', {
      hint: `begin at ${urls.of(acmePaths.directory)}`,
    })
  })
  return router
}
