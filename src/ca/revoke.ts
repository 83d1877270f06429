// Revocation for good, by whatever an operator can name. One transaction of the ledger covers certificates, intents, instances and
// tokens, the audit leaf and the feed entry; this file decides what may be asked and shows what it would hit.
import * as events from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Metrics } from '../base/metrics.ts'
import type { ReachedStep } from '../base/steps.ts'
import { isRevocationReason, type RevocationReason, revocationReasons } from '../pki/crl-reasons.ts'
import { parseSerialHex } from '../pki/serial.ts'
import type { BlastRadius, FeedPort, RevocationSelector, RevocationsPort } from '../store/ports.ts'
import { leafContextOf } from './leaf-context.ts'
import { checkText, invalidValue } from './operator-values.ts'
import { type ChangeOptions, checkExpected } from './registration-change.ts'

export interface RevokeDeps {
  readonly clock: Clock
  readonly metrics: Pick<Metrics, 'count'>
  readonly revocations: Pick<RevocationsPort, 'blastRadius' | 'revoke'>
  readonly feed: Pick<FeedPort, 'head'>
  readonly reached: ReachedStep
}

export interface Revocation {
  /** Normalised. */
  readonly selector: RevocationSelector
  readonly reason: RevocationReason
  readonly radius: BlastRadius
  /** Where verifiers find it in the feed; null for a dry run. */
  readonly feed: { readonly epoch: string; readonly n: number } | null
  readonly at: number
  readonly dryRun: boolean
}

/**
 * @throws CaError `value_invalid` for a reason that is not final; PkiError `serial_malformed`; StoreError `not_found`, `radius_changed`
 */
export type Revoke = (
  selector: RevocationSelector,
  reason: string,
  options: ChangeOptions & {
    /** Asked under the ledger's lock about what would be hit; throws to refuse. */
    readonly check?: (radius: BlastRadius) => void
    /** By whoever has the certificate: no reason to give its lineage no other one. */
    readonly bySubject?: boolean
  },
) => Promise<Revocation>

/** RFC 5280 §5.3.1 without the two that do not end anything. */
export const finalReasons: readonly RevocationReason[] = (Object.keys(revocationReasons) as RevocationReason[]).filter(
  reason => reason !== 'certificateHold' && reason !== 'removeFromCRL',
)

const parseReason = (text: string): RevocationReason => {
  if (!isRevocationReason(text))
    throw invalidValue('reason', `expected one of ${finalReasons.join(', ')}, got ${JSON.stringify(text)}`)
  if (finalReasons.includes(text)) return text
  const hint =
    text === 'certificateHold'
      ? 'agentca agent hold NAME, which can be released'
      : 'agentca agent release NAME after agentca agent hold NAME'
  throw invalidValue('reason', `a revocation is final, got ${text}`, hint)
}

const parseKeyHash = (text: string): string => {
  const digits = text
    .trim()
    .toLowerCase()
    .replace(/^sha256:/, '')
    .replaceAll(':', '')
  if (!/^[0-9a-f]{64}$/.test(digits))
    throw invalidValue('value', 'expected the SHA-256 of a SubjectPublicKeyInfo, 64 hex digits', 'agentca cert show')
  return digits
}

const normalised = (selector: RevocationSelector): RevocationSelector => {
  if (selector.by === 'serial') return { by: 'serial', value: parseSerialHex(selector.value) }
  if (selector.by === 'key') return { by: 'key', value: parseKeyHash(selector.value) }
  return selector
}

export const createRevoke = (deps: RevokeDeps): Revoke => {
  const { clock, revocations } = deps
  return async (given, reasonText, { context, why, expected, dryRun, check, bySubject }) => {
    const reason = parseReason(reasonText)
    const selector = normalised(given)
    checkText('value', selector.value)
    if (why !== undefined) checkText('why', why)
    const at = clock.now()
    if (dryRun) {
      const radius = revocations.blastRadius(selector, at)
      check?.(radius)
      checkExpected(radius, expected)
      return { selector, reason, radius, feed: null, at, dryRun }
    }
    deps.reached('revocation 1')
    const { radius, feedN } = await revocations.revoke({
      selector,
      reason,
      at,
      expected: expected ?? null,
      bySubject,
      leaf: (hit, n) => {
        check?.(hit)
        return events.revoked(leafContextOf(context, at), { ...selector, reason, radius: hit, feedN: n, why })
      },
    })
    deps.reached('revocation 2')
    deps.metrics.count('agentca_revocations_total', { by: selector.by, reason })
    return { selector, reason, radius, feed: { epoch: deps.feed.head().epoch, n: feedN }, at, dryRun }
  }
}
