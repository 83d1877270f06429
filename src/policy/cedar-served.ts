// Policies as a verifier gets them: parsed by the CA already, those of its own service only. Free of YAML and of what reads it.
import type { PolicyJson } from './cedar.ts'
import type { Policies } from './cedar-compile.ts'

export interface ServedStatement {
  readonly id: string
  readonly effect: 'permit' | 'forbid'
  readonly json: PolicyJson
}

export interface ServedPolicies {
  /** 0: none are in force. */
  readonly version: number
  readonly hash: string
  readonly statements: readonly ServedStatement[]
}

const namesOf = ({ action }: PolicyJson): readonly string[] | null => {
  if (action.op === 'All') return null
  const entities = 'entities' in action ? action.entities : 'entity' in action ? [action.entity] : []
  return entities.map(each => ('__entity' in each ? each.__entity.id : each.id))
}

const concerns = (json: PolicyJson, service: string): boolean => {
  const names = namesOf(json)
  return names === null || names.some(name => name.startsWith(`${service}:`))
}

export const servedPolicies = (
  { id: version, hash }: { readonly id: number; readonly hash: string },
  { statements }: Pick<Policies, 'statements'>,
  service: string,
): ServedPolicies => ({
  version,
  hash,
  statements: statements
    .filter(({ json }) => concerns(json, service))
    .map(({ id, effect, json }) => ({ id, effect, json })),
})

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const statementOf = (value: unknown): ServedStatement | null => {
  if (!isObject(value)) return null
  const { id, effect, json } = value
  if (typeof id !== 'string' || (effect !== 'permit' && effect !== 'forbid')) return null
  if (!isObject(json) || json.effect !== effect) return null
  return { id, effect, json: json as unknown as PolicyJson }
}

/** @returns null for anything else: whether the statements themselves make sense is Cedar's to say */
export const parseServedPolicies = (value: unknown): ServedPolicies | null => {
  if (!isObject(value)) return null
  const { version, hash, statements } = value
  if (!Number.isSafeInteger(version) || typeof hash !== 'string' || !Array.isArray(statements)) return null
  const parsed = statements.map(statementOf)
  if (parsed.some(each => each === null)) return null
  return { version: version as number, hash, statements: parsed as readonly ServedStatement[] }
}
