// The steps of judging one certificate by files: chain, identity, validity, revocation, freshness, registration. Each says what it found;
// the first that refuses gives the verdict, as it would for a call. A step whose grounds are missing refuses too: nothing is assumed.

import { isAgentCaError, messageOf } from '../../base/errors.ts'
import type { Certificate } from '../../pki/certificate.ts'
import type { Crl } from '../../pki/crl.ts'
import { nameToString } from '../../pki/names.ts'
import { type TrustDomain, trustDomainOf } from '../../pki/spiffe.ts'
import { usualBudget } from '../../verify/budget.ts'
import { type Peer, readPeer } from '../../verify/decision.ts'
import { checkPathAt, type ValidatedPath, validatePath } from '../../verify/path.ts'
import { anyPolicies } from '../../verify/policies.ts'
import { usualAlgorithms } from '../../verify/signatures.ts'
import { anchorOf } from '../../verify/trust-anchor.ts'
import { type Kept, readKept } from '../kept-state.ts'
import { durationMs } from './duration.ts'

export interface CheckStep {
  readonly step: 'chain' | 'identity' | 'validity' | 'revocation' | 'freshness' | 'registration'
  readonly outcome: 'ok' | 'refused' | 'skipped'
  /** Code of the rule that refuses. */
  readonly rule: string | null
  readonly detail: string
}

export interface CheckVerdict {
  readonly accepted: boolean
  readonly rule: string | null
  readonly hint: string | null
  readonly steps: readonly CheckStep[]
}

export interface CertificateToCheck {
  readonly leaf: Certificate
  readonly intermediates: readonly Certificate[]
  readonly roots: readonly Certificate[]
  readonly crls: readonly Crl[] | null
  readonly stateDirectory: string | null
  readonly maxStaleness: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

const time = (at: number): string => new Date(at).toISOString()

/** `2 h 5 min`, `40 s`. */
const span = (ms: number): string => {
  const seconds = Math.round(Math.abs(ms) / 1000)
  if (seconds < 120) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 120) return `${minutes} min`
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`
}

const ok = (step: CheckStep['step'], detail: string): CheckStep => ({ step, outcome: 'ok', rule: null, detail })
const skipped = (step: CheckStep['step'], detail: string): CheckStep => ({
  step,
  outcome: 'skipped',
  rule: null,
  detail,
})
const refusedBy = (step: CheckStep['step'], rule: string, detail: string): CheckStep => ({
  step,
  outcome: 'refused',
  rule,
  detail,
})

const attempt = (step: CheckStep['step'], run: () => string): CheckStep => {
  try {
    return ok(step, run())
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return refusedBy(step, error.code, messageOf(error))
  }
}

const validated = (input: CertificateToCheck, at: number, crls: readonly Crl[] | null): ValidatedPath =>
  validatePath({
    leaf: input.leaf,
    intermediates: input.intermediates,
    anchors: input.roots.map(root => anchorOf(root, 'constraints')),
    at,
    purpose: 'clientAuth',
    algorithms: usualAlgorithms,
    policies: anyPolicies,
    names: 'any',
    revocation: crls === null ? 'none' : { crls },
    budget: usualBudget,
  })

/** At a time when the leaf was valid: whether it ended is a step of its own. */
const chainStep = (input: CertificateToCheck): { readonly step: CheckStep; readonly path: ValidatedPath | null } => {
  const { leaf, now } = input
  let path: ValidatedPath | null = null
  const step = attempt('chain', () => {
    path = validated(input, Math.min(Math.max(now, leaf.notBefore), leaf.notAfter), null)
    const names = path.intermediates.map(each => nameToString(each.subject))
    const { anchor } = path
    const root = input.roots.find(each => each.comparableSubject === anchor.comparableSubject)
    return `by ${[...names, root === undefined ? 'the root' : nameToString(root.subject)].join(', by ')}`
  })
  return { step, path }
}

const validityStep = ({ leaf, now }: CertificateToCheck, path: ValidatedPath | null): CheckStep => {
  if (now < leaf.notBefore)
    return refusedBy(
      'validity',
      'certificate_not_yet_valid',
      `begins ${time(leaf.notBefore)}, in ${span(leaf.notBefore - now)}; this machine's clock says ${time(now)}`,
    )
  if (now >= leaf.notAfter + 1000)
    return refusedBy(
      'validity',
      'certificate_expired',
      `ended ${time(leaf.notAfter)}, ${span(now - leaf.notAfter)} ago`,
    )
  if (path === null) return ok('validity', `until ${time(leaf.notAfter)}, ${span(leaf.notAfter - now)} left`)
  return attempt('validity', () => {
    checkPathAt(path, now)
    return `until ${time(leaf.notAfter)}, ${span(leaf.notAfter - now)} left`
  })
}

/** Lists say nothing about a certificate that has ended, and less about one without a chain. */
const byLists = (input: CertificateToCheck, crls: readonly Crl[], chained: boolean): readonly CheckStep[] => {
  const { leaf, now } = input
  if (!chained || now < leaf.notBefore || now >= leaf.notAfter + 1000)
    return [skipped('revocation', 'not asked: refused for another reason'), skipped('freshness', 'not asked')]
  try {
    const { currentUntil } = validated(input, now, crls)
    const fresh = Number.isFinite(currentUntil)
      ? `the lists hold until ${time(currentUntil)}, ${span(currentUntil - now)} left; what was revoked since they were made is not in them`
      : 'the certificate needs no list (noRevAvail): it ends instead'
    return [ok('revocation', 'no certificate of the chain is on a list'), ok('freshness', fresh)]
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return [refusedBy('revocation', error.code, `${messageOf(error)}${factsText(error.facts)}`)]
  }
}

const factsText = (facts: Readonly<Record<string, unknown>>): string => {
  const { revokedAt, serial } = facts
  const told = [revokedAt === undefined ? [] : `at ${revokedAt}`, serial === undefined ? [] : `serial ${serial}`].flat()
  return told.length === 0 ? '' : ` (${told.join(', ')})`
}

const openState = (directory: string): Kept | CheckStep => {
  try {
    const kept = readKept(directory)
    return kept ?? refusedBy('revocation', 'state_unknown', `there is no state in ${directory}`)
  } catch (error) {
    return refusedBy('revocation', 'state_unknown', `the state in ${directory} cannot be read: ${messageOf(error)}`)
  }
}

const freshnessStep = ({ confirmed: { at, publishedUntil } }: Kept, input: CertificateToCheck): CheckStep => {
  const { now } = input
  const age = now - at
  if (publishedUntil !== null && now < publishedUntil)
    return ok('freshness', `a signed state holds until ${time(publishedUntil)}; last confirmed ${span(age)} ago`)
  if (age >= 0 && age <= durationMs(input.maxStaleness)) return ok('freshness', `last confirmed ${span(age)} ago`)
  const detail = `last confirmed ${span(age)} ago, relied on for ${input.maxStaleness}: a backend that keeps it alone refuses everybody`
  return refusedBy('freshness', 'state_stale', detail)
}

const registrationStep = ({ state }: Kept, { kind, name, scopesVersion }: Peer): CheckStep => {
  const entry = state.principal(kind, name)
  if (entry === null)
    return refusedBy('registration', 'principal_unknown', `${kind} ${name} is not known in this state`)
  if (entry.state === 'held') return refusedBy('registration', 'principal_held', `${kind} ${name} is held`)
  if (entry.state === 'retired') return refusedBy('registration', 'principal_retired', `${kind} ${name} is retired`)
  if (scopesVersion !== null && entry.version < scopesVersion)
    return refusedBy(
      'registration',
      'principal_outdated',
      `known in version ${entry.version}, the certificate says ${scopesVersion}`,
    )
  const [roles, scopes] = [entry.roles, entry.scopes].map(each => (each.length === 0 ? 'none' : each.join(', ')))
  return ok('registration', `${kind} ${name} is active; roles: ${roles}; scopes: ${scopes}`)
}

const byState = (input: CertificateToCheck, directory: string, peer: Peer | null): readonly CheckStep[] => {
  const kept = openState(directory)
  if ('step' in kept) return [kept]
  if (peer === null) return [skipped('revocation', 'not asked: nobody is named')]
  const status = kept.state.status(peer.serialKey)
  const revocation =
    status === null
      ? ok('revocation', `serial ${peer.serial} is neither revoked nor held among ${kept.state.size}`)
      : refusedBy(
          'revocation',
          status === 'held' ? 'certificate_held' : 'certificate_revoked',
          `serial ${peer.serial} is ${status}`,
        )
  return [revocation, freshnessStep(kept, input), registrationStep(kept, peer)]
}

const nothingKnown = refusedBy(
  'revocation',
  'state_unknown',
  'neither a state nor lists were given: a backend that knows nothing refuses everybody',
)

const hints: Readonly<Record<string, string>> = {
  issuer_unknown: 'is it of this CA? name its issuing CA by --chain (agentca ca show NAME, or /aia/NAME.cer)',
  certificate_expired: 'the agent has to renew or enrol again: agentca-agent status, agentca instance show ID',
  certificate_not_yet_valid: 'compare clocks: timedatectl',
  certificate_revoked:
    'revoked is final: agentca cert show SERIAL tells who and why; a new enrolment needs a new token',
  certificate_held: 'agentca agent release NAME, or agentca instance unlock ID',
  principal_held: 'agentca agent release NAME',
  principal_unknown: 'is this state of a service that the agent may call, and of this CA?',
  revocation_unknown: 'fetch the lists anew: curl --output crls.pem http://STATUS/crl/bundle.pem',
  state_unknown: '--crl-file FILE (http://STATUS/crl/bundle.pem), or --state DIR of a sidecar',
  state_stale: 'is agentca-verify serve running, and does it reach the CA?',
}

/** @throws AgentCaError `option_invalid` for a duration that is none */
export const judgeCertificate = (input: CertificateToCheck): CheckVerdict => {
  durationMs(input.maxStaleness)
  const { leaf, crls, stateDirectory } = input
  const { step: chain, path } = chainStep(input)
  let peer: Peer | null = null
  const identity = attempt('identity', () => {
    // The anchors decide whose trust domain it is.
    const domain = leaf.spiffeId === null ? null : trustDomainOf(leaf.spiffeId)
    peer = readPeer(leaf, (domain ?? '') as TrustDomain)
    return peer.spiffeId
  })
  const revocation =
    stateDirectory !== null
      ? byState(input, stateDirectory, peer)
      : crls === null
        ? [nothingKnown]
        : byLists(input, crls, path !== null)
  const steps = [chain, identity, validityStep(input, path), ...revocation]
  const refusing = steps.find(({ outcome }) => outcome === 'refused')
  const rule = refusing?.rule ?? null
  return { accepted: refusing === undefined, rule, hint: rule === null ? null : (hints[rule] ?? null), steps }
}
