// Renewal and recovery of an identity that exists. Renewal shows the present certificate and asks with a new key; recovery proves the
// last registered key where there is no certificate left to show. Each is one attempt; when to make it is renewal-loop.ts.
import type { KeyObject } from 'node:crypto'
import { signProof } from '../jws/sign-proof.ts'
import { endpointOf, namedAudience } from './ca-call.ts'
import { type Credential, tlsMaterialOf } from './credential.ts'
import { AgentError } from './errors.ts'
import { type Evidence, evidenceBody, evidenceHash } from './evidence.ts'
import { generateKey } from './key-pair.ts'
import { pendingKeys, type RequestDeps, requestIdentity } from './request-identity.ts'

export interface RenewalDeps extends RequestDeps {
  readonly url: string
  /** PEM of the roots that recovery trusts, given the bundle of the credential: what slept may have missed a change of roots. */
  readonly recoveryRoots: (bundlePem: string) => Promise<string>
  /** `jws`: where a proxy ends TLS, so that no certificate reaches the CA, the present key signs the request instead. Left out: `tls`. */
  readonly renewBy?: 'tls' | 'jws'
}

const purposeOf = (credential: Credential): string => `after ${credential.facts.serial}`

/** POST /v1/renew. @returns the next generation, stored. @throws AgentError */
export const renew = async (deps: RenewalDeps, credential: Credential): Promise<Credential> => {
  if (deps.renewBy === 'jws') return renewByProof(deps, credential)
  const { key, cert, ca } = tlsMaterialOf(credential)
  const [next] = await pendingKeys(deps, purposeOf(credential))
  return requestIdentity(deps, {
    target: { url: deps.url, roots: ca, trustDomain: credential.trustDomain, client: { key, cert } },
    path: renewPath,
    key: next,
    body: async () => ({}),
    spiffeId: credential.spiffeId,
    service: null,
    enrolledWith: credential.enrolledWith,
  })
}

const renewPath = '/v1/renew'

const renewByProof = async (deps: RenewalDeps, credential: Credential): Promise<Credential> => {
  const [next] = await pendingKeys(deps, purposeOf(credential))
  // What stands in front of the CA need not have a certificate of its making: the roots that were given count too.
  const roots = await deps.recoveryRoots(credential.bundlePem)
  const ask = (audience: string): Promise<Credential> =>
    requestIdentity(deps, {
      target: { url: deps.url, roots, trustDomain: credential.trustDomain, client: null },
      path: renewPath,
      key: next,
      body: async csr => ({
        jws: await signProof({ privateKey: credential.privateKey, csr, audience, now: deps.timing.clock.now() }),
      }),
      spiffeId: credential.spiffeId,
      service: null,
      enrolledWith: credential.enrolledWith,
    })
  return ask(endpointOf(deps.url, renewPath).href).catch(error => {
    const audience = namedAudience(error, renewPath)
    if (audience === null) throw error
    return ask(audience)
  })
}

const recoverPath = '/v1/recover'

/**
 * What the CA says of a proof by a key that is not, or not yet, the last one it registered; and of a pair of keys that it knows from a
 * request whose answer was lost, when the certificate of that has ended too.
 */
const wrongProof: ReadonlySet<string> = new Set(['recovery_not_allowed', 'certificate_unknown', 'certificate_expired'])

/** Keys whose answers were lost, one after the other, before somebody should look. */
const maxLostAnswers = 4

/**
 * POST /v1/recover. The last key that the CA registered is the present one, or one whose answer was lost: then that key proves, and a
 * further one is asked for. A wrong proof changes nothing at the CA.
 * @param evidence fresh, beside the proof, for profiles that want it
 * @returns the next generation, stored
 * @throws AgentError
 */
export const recover = async (
  deps: RenewalDeps,
  credential: Credential,
  evidence: Evidence | null = null,
): Promise<Credential> => {
  const roots = await deps.recoveryRoots(credential.bundlePem)
  const askFor = (audience: string, proof: KeyObject, key: KeyObject): Promise<Credential> =>
    requestIdentity(deps, {
      target: { url: deps.url, roots, trustDomain: credential.trustDomain, client: null },
      path: recoverPath,
      key,
      body: async csr => ({
        jws: await signProof({ privateKey: proof, csr, audience, now: deps.timing.clock.now() }),
        ...(evidence === null
          ? {}
          : {
              evidence: await evidenceBody(evidence, {
                csr,
                audience: audience.slice(0, -recoverPath.length),
                now: deps.timing.clock.now(),
              }),
            }),
      }),
      spiffeId: credential.spiffeId,
      service: null,
      enrolledWith: evidence === null ? credential.enrolledWith : evidenceHash(evidence.secret),
    })
  const ask = async (proof: KeyObject, key: KeyObject): Promise<Credential> => {
    try {
      return await askFor(endpointOf(deps.url, recoverPath).href, proof, key)
    } catch (error) {
      const audience = namedAudience(error, recoverPath)
      if (audience === null) throw error
      return askFor(audience, proof, key)
    }
  }

  const purpose = purposeOf(credential)
  const before = await deps.store.pending(purpose)
  const keys = await pendingKeys(deps, purpose)
  let refusal: unknown
  for (const proof of [credential.privateKey, ...keys.slice(0, -1)])
    try {
      return await ask(proof, keys.at(-1)!)
    } catch (error) {
      if (!(error instanceof AgentError) || !wrongProof.has(error.code)) throw error
      refusal ??= error
    }
  // A key that nobody was asked with cannot be registered.
  if (before === null || keys.length >= maxLostAnswers) throw refusal
  const further = await generateKey(deps.keyAlgorithm)
  await deps.store.keepPending({ purpose, keys: [...keys, further] })
  try {
    return await ask(keys.at(-1)!, further)
  } catch (error) {
    // Refused for certain: the further key was not registered, and the list must not grow with every attempt.
    if (error instanceof AgentError && wrongProof.has(error.code)) {
      await deps.store.keepPending(before)
      throw refusal
    }
    throw error
  }
}
