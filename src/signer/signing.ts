// One raw signature, from digest to verified DER: sessions, retries by the error table, verification before anything leaves.
// What may be signed is decided before (purpose-checks.ts), when by the queue.
import { verify } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CallPace } from './call-pace.ts'
import { type Cryptoki, ck, type Handle } from './cryptoki.ts'
import { curveFacts, digestFor, encodeEcdsaSigValue } from './ec-key.ts'
import { classifyPkcs11, type Pkcs11Failure } from './error-table.ts'
import { type HsmCalled, SignerError } from './errors.ts'
import type { SigningKey } from './keys.ts'
import type { SessionPool } from './session-pool.ts'

export interface SigningDeps {
  readonly cryptoki: Cryptoki
  readonly pool: SessionPool
  readonly pace: CallPace
  /** Logs in again on the keep-alive session. */
  readonly login: () => void
  /** Looks the key up again and checks that its public key is still the same. */
  readonly findKeyAgain: (key: SigningKey) => SigningKey
  /** Called before every C_Sign, repeated ones included: the signature count. */
  readonly onAttempt: () => void
  /** The module is beyond cure in this process. */
  readonly onModuleDown: (reason: string) => void
}

const backoffMs = [20, 80]

interface Call {
  readonly session: Handle
  readonly key: SigningKey
  readonly digest: Buffer
}

/** Everything the two calls need, kept referenced until C_Sign settles: the addon keeps bare pointers to these buffers. */
const prepareCall = (asked: Asked, { session, key }: Call): Buffer => {
  asked.deps.cryptoki.C_SignInit(session, { mechanism: ck.CKM_ECDSA }, key.handle)
  asked.deps.onAttempt()
  asked.hsmCalled = 'maybe'
  return Buffer.alloc(2 * curveFacts[key.curve].coordinateBytes + 16)
}

const signPooled = (asked: Asked, call: Call): Promise<Buffer> =>
  asked.deps.cryptoki.C_SignAsync(call.session, call.digest, prepareCall(asked, call))

const signInline = (asked: Asked, call: Call): Buffer => {
  const out = prepareCall(asked, call)
  const startedAt = performance.now()
  try {
    return asked.deps.cryptoki.C_Sign(call.session, call.digest, out)
  } finally {
    asked.deps.pace.observe(performance.now() - startedAt)
  }
}

/** What is verified are the very bytes that leave. */
const checkedSignature = (key: SigningKey, data: Uint8Array, raw: Uint8Array): Uint8Array => {
  const { coordinateBytes, hash } = curveFacts[key.curve]
  const encoded = raw.length === 2 * coordinateBytes ? encodeEcdsaSigValue(raw) : null
  if (encoded === null || !verify(hash, data, key.publicKey, encoded)) {
    // SoftHSMv2 #901, or a fault attack on the HSM: a wrong ECDSA signature may reveal the key, so it goes nowhere.
    throw new SignerError('hsm_error', `the token made a signature that does not verify with key "${key.label}"`, {
      hsmCalled: 'maybe',
      rule: 'signature_invalid',
      hint: 'agentca hsm test-sign',
    })
  }
  return encoded
}

const failed = (failure: Pkcs11Failure, hsmCalled: HsmCalled, cause: unknown): SignerError =>
  new SignerError('hsm_error', `the token answered ${failure.name}`, {
    hsmCalled,
    facts: { ckr: failure.name, class: failure.behaviour.class },
    cause,
  })

/** One request for a signature, over all its attempts. */
interface Asked {
  readonly deps: SigningDeps
  readonly data: Uint8Array
  readonly digest: Buffer
  hsmCalled: HsmCalled
}

/**
 * Repeating is safe: the result of a failed C_Sign was never released.
 * @returns ECDSA-Sig-Value, verified; at once where the module is so fast that its calls are made on the event loop and the first one
 * succeeds
 * @throws SignerError `hsm_error`, always by the promise
 */
export const signVerified = (
  deps: SigningDeps,
  key: SigningKey,
  data: Uint8Array,
): Uint8Array | Promise<Uint8Array> => {
  const asked: Asked = { deps, data, digest: digestFor(key.curve, data), hsmCalled: 'no' }
  if (!deps.pace.isInline()) return signFrom(asked, key, 0)
  let session: Handle | null = null
  try {
    session = deps.pool.take()
    const signature = checkedSignature(key, data, signInline(asked, { session, key, digest: asked.digest }))
    deps.pool.give(session)
    return signature
  } catch (error) {
    return signAfter(asked, { key, session, attempt: 0, error })
  }
}

const signFrom = async (asked: Asked, key: SigningKey, attempt: number): Promise<Uint8Array> => {
  const { deps, data, digest } = asked
  let session: Handle | null = null
  try {
    session = deps.pool.take()
    const call = { session, key, digest }
    const raw = deps.pace.isInline() ? signInline(asked, call) : await signPooled(asked, call)
    const signature = checkedSignature(key, data, raw)
    deps.pool.give(session)
    return signature
  } catch (error) {
    return await signAfter(asked, { key, session, attempt, error })
  }
}

interface FailedAttempt {
  readonly key: SigningKey
  readonly session: Handle | null
  readonly attempt: number
  readonly error: unknown
}

/** Another attempt where the error table has one, else the refusal. */
const signAfter = async (asked: Asked, { key, session, attempt, error }: FailedAttempt): Promise<Uint8Array> => {
  const { deps, hsmCalled } = asked
  if (session !== null) deps.pool.poison(session)
  if (error instanceof SignerError) throw error
  const failure = classifyPkcs11(error)
  if (failure === null) {
    throw new SignerError('hsm_error', 'the PKCS#11 call failed before it reached the token', {
      hsmCalled,
      cause: error,
    })
  }
  const { behaviour } = failure
  if (attempt >= behaviour.retries) {
    if (behaviour.atEnd !== 'fail-request') deps.onModuleDown(`the token answered ${failure.name}`)
    throw failed(failure, hsmCalled, error)
  }
  return signFrom(asked, await prepareRetry(deps, { failure, key, attempt, hsmCalled }), attempt + 1)
}

const prepareRetry = async (
  deps: SigningDeps,
  at: { failure: Pkcs11Failure; key: SigningKey; attempt: number; hsmCalled: HsmCalled },
): Promise<SigningKey> => {
  const { before } = at.failure.behaviour
  if (before === 'wait') await sleep((backoffMs[at.attempt] ?? 80) * (0.5 + Math.random()))
  if (before !== 'login' && before !== 'find-key') return at.key
  try {
    if (before === 'login') deps.login()
    // A login that was lost takes the handles of private objects with it.
    return deps.findKeyAgain(at.key)
  } catch (error) {
    deps.onModuleDown(`recovery after ${at.failure.name} failed`)
    throw failed(at.failure, at.hsmCalled, error)
  }
}
