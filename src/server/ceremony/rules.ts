// Rules over what a ceremony made: each row says what must hold and which section demands it. All of them are applied, so that one
// failed ceremony shows every fault; each result goes into the transcript.
import { messageOf } from '../../base/errors.ts'
import { CeremonyError } from './errors.ts'
import type { Facts } from './transcript.ts'

/** What is wrong; null for nothing. */
export type Fault = string | null
export interface Rule<Subject, Expected> {
  readonly rule: string
  readonly source: string
  readonly fault: (subject: Subject, expected: Expected) => Fault
}

export const unless = (holds: boolean, fault: string): Fault => (holds ? null : fault)
export const differs = (got: unknown, expected: unknown): Fault =>
  unless(JSON.stringify(got) === JSON.stringify(expected), `expected ${expected}, got ${got}`)

export interface CheckResult {
  readonly rule: string
  readonly source: string
  readonly fault: Fault
}

export const applyRules = <S, E>(rules: readonly Rule<S, E>[], subject: S, expected: E): readonly CheckResult[] =>
  rules.map(({ rule, source, fault }) => {
    try {
      return { rule, source, fault: fault(subject, expected) }
    } catch (error) {
      // A field that cannot be parsed is a fault of the rule that asked for it.
      return { rule, source, fault: messageOf(error) }
    }
  })

/**
 * All rules, and then one error for all that fail.
 * @returns what a transcript says of them
 * @throws CeremonyError `self_check_failed`
 */
export const requireRules = <S, E>(rules: readonly Rule<S, E>[], subject: S, expected: E): Facts => {
  const results = applyRules(rules, subject, expected)
  const faults = results.flatMap(({ rule, source, fault }) => (fault === null ? [] : [`${rule} (${source}): ${fault}`]))
  if (faults.length > 0) throw new CeremonyError('self_check_failed', faults.join('; '), { facts: { faults } })
  return Object.fromEntries(results.map(({ rule, source }) => [rule, `holds (${source})`]))
}
