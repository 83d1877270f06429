// `POST /v1/webhooks/leaver`: an identity provider says that somebody has left, and their agents are held. It proves itself by the HMAC of
// the body under a shared secret; an operator with role security may call it too. Whoever left without owning anything is no error: a
// provider tells of everybody.
import type { IRouter, RequestHandler, Response } from 'express'
import { leaverUnknown } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import { isAgentCaError } from '../base/errors.ts'
import type { Metrics } from '../base/metrics.ts'
import type { RequestContext } from '../ca/issuance.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import { checkBody, signatureHeader } from '../events/webhook-signature.ts'
import { createReplayMemory } from '../jws/replay-memory.ts'
import { leaverBody, parseWith } from '../schema/api-bodies.ts'
import type { AuditPort, BlastRadius, OwnersPort } from '../store/ports.ts'
import type { Owner } from '../store/records.ts'
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
  readonly metrics: Pick<Metrics, 'count'>
  readonly audit: Pick<AuditPort, 'append'>
  readonly owners: Pick<OwnersPort, 'find' | 'list'>
  /** null: no provider is configured. */
  readonly secret: () => string | null
  /** How far the clock of the provider may be from ours, and how long a delivery takes. */
  readonly toleranceMs: number
}

interface LeaverAnswer {
  /** As it was named. */
  readonly owner: string
  readonly result: 'gone' | 'gone_already' | 'unknown'
  readonly agents: readonly string[]
  readonly certificates: number
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
  /** @returns to be called where the delivery did nothing */
  return (header: string | undefined, body: Uint8Array): (() => void) => {
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
    return () => seen.giveBack(verdict.signature)
  }
}

/** Mail systems do not tell the case of addresses apart, and providers and operators write them differently. Other names are exact. */
const ownersNamed = ({ owners }: LeaverDeps, name: string): readonly Owner[] => {
  if (name.includes('@')) return owners.list().filter(each => each.name.toLowerCase() === name.toLowerCase())
  const found = owners.find(name)
  return found === null ? [] : [found]
}

/** @returns null: it was gone by then */
const end = async (
  deps: LeaverDeps,
  actor: Actor | null,
  owner: string,
  context: RequestContext,
): Promise<BlastRadius | null> => {
  try {
    return await endOwner(deps, actor, owner, { context, why: 'leaver', dryRun: false })
  } catch (error) {
    // Two deliveries at once: the other one did it.
    if (!isAgentCaError(error) || deps.owners.find(owner)?.state !== 'gone') throw error
    return null
  }
}

const leave = async (
  deps: LeaverDeps,
  actor: Actor | null,
  owner: string,
  context: RequestContext,
): Promise<LeaverAnswer> => {
  const known = ownersNamed(deps, owner)
  // A wrong spelling, or somebody who never had agents: only a person can tell.
  if (known.length === 0) await deps.audit.append([leaverUnknown(leafContextOf(context, deps.clock.now()), owner)])
  const ended: BlastRadius[] = []
  for (const { name, state } of known) {
    const radius = state === 'gone' ? null : await end(deps, actor, name, context)
    if (radius !== null) ended.push(radius)
  }
  return {
    owner,
    result: known.length === 0 ? 'unknown' : ended.length === 0 ? 'gone_already' : 'gone',
    agents: ended.flatMap(({ registrations }) => registrations.map(({ name }) => name)),
    certificates: ended.reduce((sum, { certificates, intents }) => sum + certificates + intents, 0),
  }
}

const receive = (deps: LeaverDeps): RequestHandler => {
  const takeSignature = createSignatureCheck(deps)
  const answer = async (actor: Actor | null, body: Uint8Array, response: Response): Promise<void> => {
    const { owner } = parseWith(leaverBody, parseJson(body), 'body')
    const left = await leave(deps, actor, owner, contextOf(response))
    deps.metrics.count('agentca_leavers_total', { result: left.result })
    sendJson(response, 200, left)
  }
  return async (request, response) => {
    const body = (request.body ?? new Uint8Array()) as Uint8Array
    const call = callOf(response)
    if (call.caller.kind === 'peer') {
      // As `agentca owner gone` is allowed; the mode only makes a difference to the socket.
      const decision = authorize('ownersGone', call.caller, { mode: 'production', hasActiveOperator: () => true })
      if (!decision.allow) throw new HttpError(decision.code, decision.message, { hint: decision.hint })
      return answer(decision.actor, body, response)
    }
    const giveBack = takeSignature(request.get(signatureHeader), body)
    // Nobody's registration: rows begin with 1.
    setCall(response, { ...call, evidence: { who: 'webhook:leaver', registrationId: 0 } })
    try {
      await answer(null, body, response)
    } catch (error) {
      // Nobody left by it: what could not be done now is sent again as it was.
      giveBack()
      throw error
    }
  }
}

/** @param rawBody leaves `request.body` as it came */
export const mountLeaver = (router: IRouter, deps: LeaverDeps, rawBody: RequestHandler): void => {
  router.post(leaverPaths.leaver, rawBody, receive(deps))
  router.all(leaverPaths.leaver, methodNotAllowed('POST'))
}
