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

const outSize = ({ curve }: SigningKey): number => 2 * curveFacts[curve].coordinateBytes + 16

/** Everything the two calls need, kept referenced until C_Sign settles: the addon keeps bare pointers to these buffers. */
const signOnPool = (deps: SigningDeps, { session, key, digest }: Call): Promise<Buffer> => {
  deps.cryptoki.C_SignInit(session, { mechanism: ck.CKM_ECDSA }, key.handle)
  deps.onAttempt()
  return deps.cryptoki.C_SignAsync(session, digest, Buffer.alloc(outSize(key)))
}

// Owned by this module: what is signed on the event loop is read before the next call begins.
const inlineOut = Buffer.alloc(128)

const signInline = (deps: SigningDeps, { session, key, digest }: Call): Buffer => {
  deps.cryptoki.C_SignInit(session, { mechanism: ck.CKM_ECDSA }, key.handle)
  deps.onAttempt()
  const startedAt = performance.now()
  try {
    return deps.cryptoki.C_Sign(session, digest, inlineOut.subarray(0, outSize(key)))
  } finally {
    deps.pace.observe(performance.now() - startedAt)
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

/** One signature with all its attempts. */
interface Work {
  readonly deps: SigningDeps
  readonly data: Uint8Array
  readonly digest: Buffer
  /** What the attempts so far may have done. */
  hsmCalled: HsmCalled
}

/**
 * Repeating is safe: the result of a failed C_Sign was never released.
 * @returns ECDSA-Sig-Value, verified: at once where the module is fast enough for the event loop and made no trouble, so that a signature
 *   among many costs neither promises nor a turn of the microtask queue
 * @throws SignerError `hsm_error`
 */
export const signVerified = (
  deps: SigningDeps,
  key: SigningKey,
  data: Uint8Array,
): Uint8Array | Promise<Uint8Array> => {
  const work: Work = { deps, data, digest: digestFor(key.curve, data), hsmCalled: 'no' }
  if (!deps.pace.isInline()) return repeat(work, key, 0)
  const counted = countedBy(work)
  let session: Handle | null = null
  try {
    session = deps.pool.take()
    const raw = signInline(counted, { session, key, digest: work.digest })
    const signature = checkedSignature(key, data, raw)
    deps.pool.give(session)
    return signature
  } catch (error) {
    if (session !== null) deps.pool.poison(session)
    const failure = retryOf(work, error, 0)
    return prepareRetry(deps, { failure, key, attempt: 0, hsmCalled: work.hsmCalled }).then(next =>
      repeat(work, next, 1),
    )
  }
}

const countedBy = (work: Work): SigningDeps => ({
  ...work.deps,
  onAttempt: () => {
    work.deps.onAttempt()
    work.hsmCalled = 'maybe'
  },
})

/** What went wrong, where another attempt may follow. @throws SignerError where none may */
const retryOf = ({ deps, hsmCalled }: Work, error: unknown, attempt: number): Pkcs11Failure => {
  if (error instanceof SignerError) throw error
  const failure = classifyPkcs11(error)
  if (failure === null) {
    throw new SignerError('hsm_error', 'the PKCS#11 call failed before it reached the token', {
      hsmCalled,
      cause: error,
    })
  }
  const { behaviour } = failure
  if (attempt < behaviour.retries) return failure
  if (behaviour.atEnd !== 'fail-request') deps.onModuleDown(`the token answered ${failure.name}`)
  throw failed(failure, hsmCalled, error)
}

const repeat = async (work: Work, key: SigningKey, from: number): Promise<Uint8Array> => {
  const { deps, data, digest } = work
  const counted = countedBy(work)
  let current = key
  for (let attempt = from; ; attempt++) {
    let session: Handle | null = null
    try {
      session = deps.pool.take()
      const call = { session, key: current, digest }
      const raw = deps.pace.isInline() ? signInline(counted, call) : await signOnPool(counted, call)
      const signature = checkedSignature(current, data, raw)
      deps.pool.give(session)
      return signature
    } catch (error) {
      if (session !== null) deps.pool.poison(session)
      const failure = retryOf(work, error, attempt)
      current = await prepareRetry(deps, { failure, key: current, attempt, hsmCalled: work.hsmCalled })
    }
  }
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
