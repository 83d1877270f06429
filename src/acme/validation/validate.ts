// One challenge, probed once, in bounded time. Whether it may be probed at all (the profile says), when, and what comes of the result
// is the caller's. Nothing is thrown for what the other side does.

import { probeDns01 } from './dns-01.ts'
import { createDns, type Dns } from './dns-questions.ts'
import { probeHttp01 } from './http-01.ts'
import { type Challenge, ProbeFailure, type ValidationPolicy, type ValidationResult } from './policy.ts'
import { probeTlsAlpn01 } from './tls-alpn-01.ts'

export type {
  Challenge,
  ChallengeType,
  Identifier,
  ValidationPolicy,
  ValidationProblem,
  ValidationResult,
} from './policy.ts'

/** RFC 8555 §8.3: base64url without padding, at least 128 bits. It becomes a part of a path. */
const tokenForm = /^[A-Za-z0-9_-]{22,128}$/

const probe = (challenge: Challenge, policy: ValidationPolicy, signal: AbortSignal): Promise<void> => {
  const { token, keyAuthorization, type } = challenge
  if (!tokenForm.test(token) || !keyAuthorization.startsWith(`${token}.`))
    throw new ProbeFailure('malformed', 'the key authorization does not belong to the token')
  const dns = (): Dns => createDns(policy.resolvers, signal)
  switch (type) {
    case 'http-01':
      return probeHttp01(challenge, policy, { dns, signal })
    case 'dns-01':
      return probeDns01(challenge, dns())
    case 'tls-alpn-01':
      return probeTlsAlpn01(challenge, policy, { dns, signal })
  }
}

/** @throws what is a fault of this program only */
export const validate = async (challenge: Challenge, policy: ValidationPolicy): Promise<ValidationResult> => {
  const signal = AbortSignal.timeout(policy.timeout * 1000)
  try {
    await probe(challenge, policy, signal)
    return { ok: true }
  } catch (error) {
    if (error instanceof ProbeFailure) return { ok: false, problem: error.problem }
    if (!signal.aborted) throw error
    const detail = `${challenge.identifier.value}: no result within ${policy.timeout} s`
    return { ok: false, problem: { type: challenge.type === 'dns-01' ? 'dns' : 'connection', detail } }
  }
}
