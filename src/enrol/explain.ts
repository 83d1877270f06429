// What would come of a token, step by step, without using it: for whoever writes the rules. Says what the refusal of an enrolment keeps to
// the audit log.
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Maintenance } from '../ca/maintenance.ts'
import { readToken } from '../jws/verify-token.ts'
import type { RegistrationsPort, TokensPort } from '../store/ports.ts'
import { evidenceHash, madeBeforeRestore } from './admit.ts'
import type { Attested, Attestor } from './attestor.ts'
import { matchRules } from './rules.ts'

export interface Explanation {
  readonly attestor: string | null
  readonly issuer: string | null
  readonly audience: readonly string[]
  readonly subject: string | null
  readonly expiresAt: number | null
  /** null: it enrols. */
  readonly problem: string | null
  readonly code: string | null
  readonly rule: string | null
  readonly becomes: string | null
  readonly missed: readonly string[]
}

export interface ExplainDeps {
  readonly attestors: readonly Attestor[]
  readonly registrations: Pick<RegistrationsPort, 'find'>
  readonly tokens: Pick<TokensPort, 'byHash'>
  readonly maintenance: Pick<Maintenance, 'restored'>
}

const nothing: Explanation = {
  attestor: null,
  issuer: null,
  audience: [],
  subject: null,
  expiresAt: null,
  problem: null,
  code: null,
  rule: null,
  becomes: null,
  missed: [],
}

const becoming = (deps: ExplainDeps, attestor: Attestor, attested: Attested): Partial<Explanation> => {
  const stale = madeBeforeRestore(attested, deps.maintenance)
  if (stale !== null) return { code: stale.code, problem: stale.message }
  const match = matchRules(attestor.rules, attested.claims)
  if (match.matched === null)
    return {
      code: 'evidence_not_matched',
      problem: 'no rule matches',
      missed: match.missed.map(({ rule, claim, problem }) => `rule ${rule}: ${claim}: ${problem}`),
    }
  const { kind, name, rule } = match.matched
  const found = deps.registrations.find(kind, name)
  const known = { rule, becomes: `${kind} ${name}` }
  if (found === null)
    return { ...known, code: 'registration_not_found', problem: `no ${kind} is called ${name}: agentca ${kind} create` }
  if (found.state !== 'active')
    return { ...known, code: `registration_${found.state}`, problem: `${kind} ${name} is ${found.state}` }
  const used = deps.tokens.byHash(evidenceHash({ type: 'jwt' }, attested))
  if (used !== null) return { ...known, code: 'token_reuse', problem: 'it was shown before: only its key enrols by it' }
  return known
}

/** @param now milliseconds since the epoch */
export const explainToken = async (deps: ExplainDeps, jwt: string, now: number): Promise<Explanation> => {
  let told = nothing
  try {
    const { issuer, audiences, claims } = readToken(jwt)
    const { sub } = claims
    told = { ...told, issuer, audience: audiences, subject: typeof sub === 'string' ? sub : null }
    const evidence = { type: 'jwt', jwt } as const
    const attestor = deps.attestors.find(each => each.recognises(evidence))
    if (attestor === undefined)
      return {
        ...told,
        code: 'evidence_issuer_unknown',
        problem: 'no attestor takes this issuer with one of these audiences',
      }
    told = { ...told, attestor: attestor.name }
    const attested = await attestor.attest(evidence, { csr: new Uint8Array(), now })
    return { ...told, expiresAt: attested.expiresAt, ...becoming(deps, attestor, attested) }
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return { ...told, code: error.code, problem: messageOf(error) }
  }
}
