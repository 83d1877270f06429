// One request for a certificate, the same for enrolment, renewal and recovery: a key that is durable before it is named to the CA, a
// request signed by it, the call, the checks, and the credential stored before it is used. Asking again finds the same key in the
// store, and the CA gives the same certificate again: a lost answer costs nothing.
import type { KeyObject } from 'node:crypto'
import { encodePem } from '../pki/pem.ts'
import { checkIdentityAnswer, parseIdentityAnswer } from './answer.ts'
import type { Timing } from './backoff.ts'
import { type CaTarget, callCa } from './ca-call.ts'
import type { CaCall } from './ca-route.ts'
import { type Credential, credentialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import { type AgentKeyAlgorithm, createRequest, generateKey, spkiOf } from './key-pair.ts'
import type { CredentialStore, PendingKeys } from './store.ts'

export interface RequestDeps {
  readonly timing: Timing
  readonly store: CredentialStore
  readonly keyAlgorithm: AgentKeyAlgorithm
  /** Left out: from this thread. */
  readonly callCa?: CaCall
  /** Ends a call under way; nothing is lost by that. */
  readonly signal: AbortSignal
}

/** The keys to ask with: those that were asked with before, if their answers never came, or a new one. */
export const pendingKeys = async (deps: RequestDeps, purpose: string): Promise<PendingKeys['keys']> => {
  const pending = await deps.store.pending(purpose)
  if (pending !== null) return pending.keys
  const keys: PendingKeys['keys'] = [await generateKey(deps.keyAlgorithm)]
  await deps.store.keepPending({ purpose, keys })
  return keys
}

export interface IdentityRequest {
  readonly target: CaTarget
  readonly path: '/v1/enroll' | '/v1/renew' | '/v1/recover'
  readonly key: KeyObject
  /** What goes along with the request, given its DER. */
  readonly body: (csr: Uint8Array) => Promise<Readonly<Record<string, unknown>>>
  /** null at enrolment. */
  readonly spiffeId: string | null
  /** At enrolment: the service it must be, if it is known. */
  readonly service: string | null
  readonly enrolledWith: string | null
}

/** Refusals of the key itself: it was not registered, and asking with it again is of no use. */
const keyRefusals: ReadonlySet<string> = new Set(['key_in_use', 'key_revoked', 'key_not_accepted', 'key_not_allowed'])

const dropped = async (deps: RequestDeps, error: unknown): Promise<never> => {
  if (error instanceof AgentError && keyRefusals.has(error.code)) await deps.store.dropPending()
  throw error
}

/**
 * @returns the credential, already stored
 * @throws AgentError of the call, the checks or the store
 */
export const requestIdentity = async (deps: RequestDeps, request: IdentityRequest): Promise<Credential> => {
  const { target, path, key } = request
  const csr = await createRequest(key)
  const body = { csr: encodePem('CERTIFICATE REQUEST', csr), ...(await request.body(csr)) }
  const call = deps.callCa ?? callCa
  const { value, trustDomain } = await call(target, { method: 'POST', path, body, signal: deps.signal }).catch(error =>
    dropped(deps, error),
  )
  const answer = parseIdentityAnswer(value)
  checkIdentityAnswer(answer, {
    spkiDer: spkiOf(key),
    now: deps.timing.clock.now(),
    trustDomain,
    spiffeId: request.spiffeId,
    service: request.service,
  })
  const credential = credentialOf(answer, key, { url: target.url, enrolledWith: request.enrolledWith })
  await deps.store.save(credential)
  return credential
}
