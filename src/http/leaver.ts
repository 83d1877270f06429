// `POST /v1/webhooks/leaver`: an identity provider says that somebody has left, and their agents are held. It proves itself by the HMAC of
// the body under a shared secret; an operator with role security may call it too. Whoever left without owning anything is no error: a
// provider tells of everybody.
import type { IRouter, RequestHandler, Response } from 'express'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import { checkBody, signatureHeader } from '../events/webhook-signature.ts'
import { createReplayMemory } from '../jws/replay-memory.ts'
import { leaverBody, parseWith } from '../schema/api-bodies.ts'
import type { OwnersPort } from '../store/ports.ts'
import { type Actor, authorize } from './admin/authorize.ts'
import { endOwner, type OwnerGoneDeps } from './admin/owner-gone.ts'
import { methodNotAllowed } from './agent-api.ts'
import { sendJson } from './answer.ts'
import { parseJson } from './body.ts'
import { callOf, contextOf, setCall } from './call.ts'
import { HttpError } from './errors.ts'

export const leaverPaths = { leaver: '/v1/webhooks/leaver' } as const

export interface LeaverDeps extends OwnerGoneDeps {
  readonly clock: Clock
  readonly owners: Pick<OwnersPort, 'find'>
  /** null: no provider is configured. */
  readonly secret: () => string | null
  /** How far the clock of the provider may be from ours, and how long a delivery takes. */
  readonly toleranceMs: number
}

/** Signatures remembered at once: far more than people leave within the tolerance. */
const maxRemembered = 10_000

const refusal = {
  malformed: ['webhook_signature_invalid', `expected ${signatureHeader}: t=SECONDS,v1=HEX`],
  wrong: ['webhook_signature_invalid', 'the signature does not fit the body'],
  not_current: ['webhook_not_current', 'the signature was made too long ago, or ahead of our clock'],
} as const

const createSignatureCheck = (deps: LeaverDeps) => {
  // A signature could be sent again while it is current, on both sides of its time.
  const seen = createReplayMemory(deps.clock.monotonic, 2 * deps.toleranceMs, maxRemembered)
  return (header: string | undefined, body: Uint8Array): void => {
    const secret = deps.secret()
    if (secret === null)
      throw new HttpError('webhook_signature_invalid', 'no identity provider may call this', {
        hint: 'webhooks.in.secretFile in the configuration',
      })
    const verdict = checkBody(secret, header, body, { nowMs: deps.clock.now(), toleranceMs: deps.toleranceMs })
    if (!verdict.ok) {
      const [code, message] = refusal[verdict.why]
      throw new HttpError(code, message, { hint: 'docs/orphans.md shows how a delivery is signed' })
    }
    const taken = seen.take(verdict.signature, verdict.signature)
    if (taken === 'full') throw new HttpError('overloaded', 'too many deliveries at once')
    if (taken !== 'fresh')
      throw new HttpError('webhook_replayed', 'this delivery was taken before', {
        hint: 'sign again, with the time of now, what is sent again',
      })
  }
}

const leave = async (deps: LeaverDeps, actor: Actor | null, owner: string, response: Response): Promise<void> => {
  const found = deps.owners.find(owner)
  if (found === null || found.state === 'gone') {
    sendJson(response, 200, { owner, result: found === null ? 'unknown' : 'gone_already', agents: [], certificates: 0 })
    return
  }
  try {
    const options = { context: contextOf(response), why: 'leaver', dryRun: false }
    const { registrations, certificates, intents } = await endOwner(deps, actor, owner, options)
    const agents = registrations.map(({ name }) => name)
    sendJson(response, 200, { owner, result: 'gone', agents, certificates: certificates + intents })
  } catch (error) {
    // Two deliveries at once: the other one did it.
    if (!isAgentCaError(error) || deps.owners.find(owner)?.state !== 'gone') throw error
    sendJson(response, 200, { owner, result: 'gone_already', agents: [], certificates: 0 })
  }
}

const receive = (deps: LeaverDeps): RequestHandler => {
  const checkSignature = createSignatureCheck(deps)
  return async (request, response) => {
    const body = (request.body ?? new Uint8Array()) as Uint8Array
    const call = callOf(response)
    let actor: Actor | null = null
    if (call.caller.kind === 'peer') {
      // As `agentca owner gone` is allowed; the mode only makes a difference to the socket.
      const decision = authorize('ownersGone', call.caller, { mode: 'production', hasActiveOperator: () => true })
      if (!decision.allow) throw new HttpError(decision.code, decision.message, { hint: decision.hint })
      actor = decision.actor
    } else {
      checkSignature(request.get(signatureHeader), body)
      // Nobody's registration: rows begin with 1.
      setCall(response, { ...call, evidence: { who: 'webhook:leaver', registrationId: 0 } })
    }
    const { owner } = parseWith(leaverBody, parseJson(body), 'body')
    await leave(deps, actor, owner, response)
  }
}

/** @param rawBody leaves `request.body` as it came */
export const mountLeaver = (router: IRouter, deps: LeaverDeps, rawBody: RequestHandler): void => {
  router.post(leaverPaths.leaver, rawBody, receive(deps))
  router.all(leaverPaths.leaver, methodNotAllowed('POST'))
}
