// The attestor for JWTs of one identity provider: OIDC ID tokens of a CI job, service account tokens of a cluster, and what else is a
// signed JWT with an issuer, an audience and an end.
import { hash } from 'node:crypto'
import { checkAlgorithm, checkToken, readToken, signedPartOf, type TokenRules } from '../jws/verify-token.ts'
import { audiencesOf, type JwtAttestorSettings } from '../schema/attestor.ts'
import type { Attestor, AttestorDeps, WorkloadEvidence } from './attestor.ts'
import { EnrolError } from './errors.ts'
import { fetchKeys } from './fetch-keys.ts'
import { createProviderKeys } from './provider-keys.ts'
import { claimOf } from './rules.ts'

const jwtOf = (evidence: WorkloadEvidence): string => {
  if (evidence.type !== 'jwt') throw new TypeError('expected a JWT')
  return evidence.jwt
}

/** A file changes without telling anybody. */
const fileRefreshMs = 60_000

const timesOf = ({ keys }: JwtAttestorSettings) =>
  keys.from === 'file'
    ? { refreshEveryMs: fileRefreshMs, keepForMs: Number.POSITIVE_INFINITY }
    : { refreshEveryMs: keys.refreshEvery * 1000, keepForMs: keys.keepFor * 1000 }

export const rulesOf = (settings: JwtAttestorSettings): TokenRules => ({
  issuer: settings.issuer,
  audiences: audiencesOf(settings),
  algorithms: settings.algorithms,
  clockSkewSeconds: settings.clockSkew,
  maxLifeSeconds: settings.maxLife,
})

/** RFC 7800 §3, RFC 9449 §6.1. What is there and cannot be read binds to nothing that anybody has. */
const boundKeyOf = (settings: JwtAttestorSettings, claims: Readonly<Record<string, unknown>>): string | null => {
  const thumbprint = claimOf(claims, '/cnf/jkt')
  if (typeof thumbprint === 'string') return thumbprint
  if (Object.hasOwn(claims, 'cnf') || settings.boundKey === 'required')
    throw new EnrolError('evidence_not_matched', 'the token names no key by cnf.jkt', {
      hint: 'ask the identity provider for a token that is bound to the key of the request',
    })
  return null
}

export const createJwtAttestor = (settings: JwtAttestorSettings, { clock, log }: AttestorDeps): Attestor => {
  const { name, issuer } = settings
  const rules = rulesOf(settings)
  const provider = createProviderKeys({
    clock,
    log,
    provider: issuer,
    fetch: () => fetchKeys(settings),
    ...timesOf(settings),
  })
  return {
    name,
    type: 'jwt',
    rules: settings.rules,
    recognises: evidence => {
      if (evidence.type !== 'jwt') return false
      const token = readToken(evidence.jwt)
      return token.issuer === issuer && token.audiences.some(audience => rules.audiences.includes(audience))
    },
    attest: async (evidence, { now }) => {
      const token = readToken(jwtOf(evidence))
      checkAlgorithm(token, rules)
      const claims = await checkToken(token, await provider.for(token), rules, now)
      const { sub, jti, exp, iat } = claims
      const subject = typeof sub === 'string' ? sub : ''
      return {
        issuer,
        subject,
        claims,
        // RFC 7519 §4.1.7, of each subject its own: not every provider keeps one count for all of them, and nobody uses up another's token.
        // The signature is left out: one signature has more than one spelling.
        oneUse:
          typeof jti === 'string' && jti !== ''
            ? JSON.stringify(['jti', issuer, subject, jti])
            : JSON.stringify(['sha256', issuer, hash('sha256', signedPartOf(token.jwt))]),
        // As long as it would be taken, or nobody could use what the provider's clock made.
        expiresAt: (exp + rules.clockSkewSeconds) * 1000,
        madeAfter: (iat - rules.clockSkewSeconds) * 1000,
        keyThumbprint: boundKeyOf(settings, claims),
      }
    },
    status: () => ({ name, kind: 'jwt', authority: issuer, rules: settings.rules.length, ...provider.status() }),
    close: provider.close,
  }
}
