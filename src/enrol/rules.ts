// From what is vouched for to a registration: the first rule whose requirements all hold. Pure. A claim that is a list holds a
// requirement when one of its members does; a name is only ever made of one text, as it is: no change of case, nothing left out.
import { matchesWildcard, type Star } from '../base/wildcard.ts'
import { isRegisteredName } from '../pki/names.ts'
import { type AttestorRule, claimPath, placeholdersOf, type RequiredValue } from '../schema/attestor.ts'

/** A token's claims, or what a certificate says, as JSON has them. */
export type Claims = Readonly<Record<string, unknown>>

export interface Matched {
  readonly kind: 'agent' | 'service'
  readonly name: string
  /** The rule's name, or its number from 1. */
  readonly rule: string
}

export interface Missed {
  readonly rule: string
  /** The claim that did not hold. */
  readonly claim: string
  readonly problem: 'not there' | 'another value' | 'not one text' | 'no name of an agent'
}

export type Match = { readonly matched: Matched } | { readonly matched: null; readonly missed: readonly Missed[] }

/** Own members only: a claim that nobody made must not be found on a prototype. */
export const claimOf = (claims: Claims, name: string): unknown => {
  let value: unknown = claims
  for (const step of claimPath(name)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined
    value = (value as Readonly<Record<string, unknown>>)[step]
  }
  return value
}

/** Stands for one step of a path at most, and never for nothing. */
const star: Star = { atLeast: 1, never: '/' }

const holdsOne = (required: string | number | boolean, value: unknown): boolean =>
  typeof required === 'string' && required.includes('*')
    ? typeof value === 'string' && value.length <= 1000 && matchesWildcard(required, value, star)
    : value === required

const holds = (required: RequiredValue, value: unknown): boolean => {
  const values: readonly unknown[] = Array.isArray(value) ? value : [value]
  const wanted = Array.isArray(required) ? required : [required]
  return wanted.some(each => values.some(one => holdsOne(each, one)))
}

const textOf = (value: unknown): string | null => {
  const one: unknown = Array.isArray(value) && value.length === 1 ? value[0] : value
  return typeof one === 'string' ? one : null
}

const ruleNames = (rule: AttestorRule, index: number): string => rule.name ?? String(index + 1)

const tryRule = (rule: AttestorRule, label: string, claims: Claims): Matched | Missed => {
  for (const [claim, required] of Object.entries(rule.require)) {
    const value = claimOf(claims, claim)
    if (value === undefined) return { rule: label, claim, problem: 'not there' }
    if (!holds(required, value)) return { rule: label, claim, problem: 'another value' }
  }
  const kind = rule.agent === undefined ? 'service' : 'agent'
  let name = rule.agent ?? rule.service ?? ''
  for (const claim of placeholdersOf(name)) {
    const value = claimOf(claims, claim)
    if (value === undefined) return { rule: label, claim, problem: 'not there' }
    const text = textOf(value)
    if (text === null) return { rule: label, claim, problem: 'not one text' }
    // Also keeps a value from bringing a placeholder of its own.
    if (!/^[a-z0-9-]+$/.test(text)) return { rule: label, claim, problem: 'no name of an agent' }
    name = name.replaceAll(`{${claim}}`, text)
  }
  const last = placeholdersOf(rule.agent ?? rule.service ?? '').at(-1)
  if (!isRegisteredName(kind, name)) return { rule: label, claim: last ?? kind, problem: 'no name of an agent' }
  return { kind, name, rule: label }
}

/** The first rule that holds decides; who is registered is not looked at here. */
export const matchRules = (rules: readonly AttestorRule[], claims: Claims): Match => {
  const missed: Missed[] = []
  for (const [index, rule] of rules.entries()) {
    const tried = tryRule(rule, ruleNames(rule, index), claims)
    if ('kind' in tried) return { matched: tried }
    missed.push(tried)
  }
  return { matched: null, missed }
}
