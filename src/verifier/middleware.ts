// The verifier in frameworks: Express (and whatever takes `(request, response, next)`), Fastify's `onRequest` hook, and plain node:http
// listeners. Frameworks are the caller's: shapes, no packages.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { AgentCaError, messageOf } from '../base/errors.ts'
import { CallRefused, type VerifiedPeer } from '../verify/decision.ts'
import type { CallFacts } from './conditions.ts'
import type { Demand } from './judgement.ts'
import { refusalAnswer } from './problem.ts'

/** What a handler reads of its caller. */
export interface RequestAgent {
  readonly spiffeId: string
  readonly kind: string
  /** Name of the registration. */
  readonly agent: string
  readonly instance: string | null
  readonly serial: string
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly attributes: Readonly<Record<string, string>>
  /**
   * Aborted when the caller may not call any more, or has lost a role or scope that let this request in, with the refusal as its reason:
   * for work that takes long, and for sessions, which may outlive their answers and connections. The same one for all calls of a caller
   * with the same demand, until the last certificate it called with ends: work that is done takes its listener away. Of a request that was
   * let in by conditions (`require(action, describe)`) it is this request's own: they are asked again for as long as it is being answered;
   * after that only the caller counts. The answer itself is ended by the same rules.
   */
  readonly signal: AbortSignal
}

declare global {
  // What @types/express leaves open for middleware; nothing where it is not installed.
  namespace Express {
    interface Request {
      agent?: RequestAgent
    }
  }
}

export type WithAgent = IncomingMessage & { agent?: RequestAgent }
export type Handler = (request: WithAgent, response: ServerResponse, next: (error?: unknown) => void) => void

interface FastifyRequestLike {
  readonly raw: IncomingMessage
}
interface FastifyReplyLike {
  code(status: number): FastifyReplyLike
  type(contentType: string): FastifyReplyLike
  send(body: string): unknown
}

/** The resource that a call is about, and what else policies may ask of it. */
export type DescribeCall = (request: never) => CallFacts

export interface Middleware {
  /** Sets `request.agent`, or answers 401 or 403. */
  express(): Handler
  /** The same with what this route demands: scopes, all of them. */
  require(...scopes: readonly string[]): Handler
  /**
   * Decided by the policies in force with what `describe` says of this very call, for a verifier with `conditions: true`. A describer that
   * throws refuses the call.
   */
  require(action: string, describe: DescribeCall): Handler
  /** The same with roles. */
  requireRole(...roles: readonly string[]): Handler
  /** For `fastify.addHook('onRequest', verifier.fastify())`; the caller is at `request.raw.agent`. */
  fastify(demand?: Demand): (request: FastifyRequestLike, reply: FastifyReplyLike) => Promise<void>
}

const noDemand: Demand = {}

type SignalOf = (request: IncomingMessage, peer: VerifiedPeer, demand: Demand) => AbortSignal

/** One for each request: a class, because an object with a getter of its own costs as much as the judgement. */
class Caller implements RequestAgent {
  // Not defined before they are set: that would be done for each request too.
  declare readonly spiffeId: string
  declare readonly kind: string
  declare readonly agent: string
  declare readonly instance: string | null
  declare readonly serial: string
  declare readonly roles: readonly string[]
  declare readonly scopes: readonly string[]
  declare readonly attributes: Readonly<Record<string, string>>
  readonly #peer: VerifiedPeer
  readonly #request: IncomingMessage
  readonly #demand: Demand
  readonly #signalOf: SignalOf
  #signal: AbortSignal | null = null

  constructor(peer: VerifiedPeer, request: IncomingMessage, demand: Demand, signalOf: SignalOf) {
    this.spiffeId = peer.spiffeId
    this.kind = peer.kind
    this.agent = peer.name
    this.instance = peer.instance
    this.serial = peer.serial
    this.roles = peer.roles
    this.scopes = peer.scopes
    this.attributes = peer.attributes
    this.#peer = peer
    this.#request = request
    this.#demand = demand
    this.#signalOf = signalOf
  }

  /** Most handlers never ask. */
  get signal(): AbortSignal {
    this.#signal ??= this.#signalOf(this.#request, this.#peer, this.#demand)
    return this.#signal
  }
}

const demandFor = (demanded: readonly (string | DescribeCall)[]): ((request: WithAgent) => Demand) => {
  const scopes = demanded.filter(each => typeof each === 'string')
  const describe = demanded.find(each => typeof each === 'function')
  if (describe === undefined) {
    const demand = { scopes }
    return () => demand
  }
  const [action] = scopes
  if (action === undefined || scopes.length > 1)
    throw new AgentCaError('option_invalid', 'require: expected one action and how its calls are described')
  return request => {
    try {
      return { conditional: { action, ...describe(request as never) } }
    } catch (cause) {
      throw new CallRefused('condition_failed', `the call cannot be described: ${messageOf(cause)}`, { cause })
    }
  }
}

export const createMiddleware = (
  verify: (request: IncomingMessage, demand?: Demand) => VerifiedPeer,
  signalOf: SignalOf,
): Middleware => {
  const handler =
    (demandOf: (request: WithAgent) => Demand): Handler =>
    (request, response, next) => {
      try {
        const demand = demandOf(request)
        request.agent = new Caller(verify(request, demand), request, demand, signalOf)
      } catch (error) {
        const { status, contentType, body } = refusalAnswer(error)
        response.statusCode = status
        response.setHeader('Content-Type', contentType)
        response.end(body)
        return
      }
      next()
    }
  return {
    express: () => handler(() => noDemand),
    require: (...demanded: readonly (string | DescribeCall)[]) => handler(demandFor(demanded)),
    requireRole: (...roles) => {
      const demand = { roles }
      return handler(() => demand)
    },
    fastify:
      (demand = noDemand) =>
      async (request, reply) => {
        try {
          ;(request.raw as WithAgent).agent = new Caller(verify(request.raw, demand), request.raw, demand, signalOf)
        } catch (error) {
          const { status, contentType, body } = refusalAnswer(error)
          reply.code(status).type(contentType).send(body)
        }
      },
  }
}
