// A set of files to policies that can be evaluated, or every fault of them with file and line. A grant that ends (`@until`) becomes a
// condition like any other, so that whoever evaluates need not know of it.
import { createHash } from 'node:crypto'
import { toHex, utf8 } from '../base/bytes.ts'
import { SchemaError } from '../schema/errors.ts'
import { type DeclaredService, type PolicyTestCase, parseActions, parsePolicyTests } from '../schema/policy-bundle.ts'
import type { Cedar, DetailedError, PolicyJson } from './cedar.ts'
import { isConditional } from './cedar-dependence.ts'
import { cedarSchema, ownActions } from './cedar-schema.ts'
import { lineAt, type StatementText, splitStatements, unitsOf } from './cedar-split.ts'

/** Text by name: `orders.cedar`, `actions.yaml`, `tests/orders.yaml`. */
export type PolicyFiles = Readonly<Record<string, string>>

export interface PolicyFault {
  readonly file: string
  /** From 1; null: the file as a whole. */
  readonly line: number | null
  readonly severity: 'error' | 'warning'
  readonly problem: string
}

export interface Statement {
  /** Its `@id`, else its place. */
  readonly id: string
  readonly file: string
  readonly line: number
  readonly effect: 'permit' | 'forbid'
  readonly text: string
  readonly json: PolicyJson
  /** It may hold for one call and not for another of the same caller. */
  readonly conditional: boolean
  /** `@until`, milliseconds since the epoch. */
  readonly until: number | null
}

export interface PolicyTest extends PolicyTestCase {
  readonly file: string
  readonly number: number
}

export interface Policies {
  /** SHA-256 of the files, hex. */
  readonly hash: string
  readonly services: readonly DeclaredService[]
  readonly statements: readonly Statement[]
  readonly tests: readonly PolicyTest[]
}

export interface Compiled {
  /** Errors and warnings, by file and line. */
  readonly faults: readonly PolicyFault[]
  /** null where there is an error. */
  readonly policies: Policies | null
}

/** The same files have one hash, whatever their order. */
export const hashOfFiles = (files: PolicyFiles): string => {
  const sorted = Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))
  return toHex(
    createHash('sha256')
      .update(utf8(JSON.stringify(sorted)))
      .digest(),
  )
}

interface Place extends StatementText {
  readonly file: string
  readonly source: string
}

type Report = (fault: PolicyFault) => void

const idForm = /^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$/

const messageOfError = ({ message, help, sourceLocations = [] }: DetailedError): string => {
  const label = sourceLocations.map(each => each.label).find(each => each !== null)
  const told = message.replace(/^failed to parse polic(?:y|ies) from string: /, '').replace(/^for policy `[^`]*`, /, '')
  return [told, label, help].filter(each => each != null).join('; ')
}

const faultAt = (place: Place, error: DetailedError, severity: PolicyFault['severity'] = 'error'): PolicyFault => {
  const octets = error.sourceLocations?.[0]?.start ?? 0
  const line = lineAt(place.source, place.start + unitsOf(place.text, octets))
  return { file: place.file, line, severity, problem: messageOfError(error) }
}

/** A grant's own end, as the condition that it stands for. */
const endCondition = (until: string): PolicyJson['conditions'][number] => ({
  kind: 'when',
  body: {
    '<': { left: { '.': { left: { Var: 'context' }, attr: 'time' } }, right: { datetime: [{ Value: until }] } },
  } as unknown as PolicyJson['conditions'][number]['body'],
})

/** As Cedar's `datetime` takes it. @returns null for other text */
const endOf = (text: string): { readonly at: number; readonly literal: string } | null => {
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?(?:Z|[+-]\d\d:?\d\d)$/.test(text)
    ? Date.parse(text)
    : Number.NaN
  return Number.isNaN(at) ? null : { at, literal: new Date(at).toISOString() }
}

/** Its place; of several on one line, which of them. */
const unnamed = ({ file, source, start }: Place, line: number): string => {
  const before = splitStatements(source).filter(each => each.start < start && lineAt(source, each.start) === line)
  return `${file}:${line}${before.length === 0 ? '' : `.${before.length + 1}`}`
}

const parseStatement = (cedar: Cedar, place: Place, report: Report): Statement | null => {
  const line = lineAt(place.source, place.start)
  const fault = (problem: string): null => {
    report({ file: place.file, line, severity: 'error', problem })
    return null
  }
  const answer = cedar.policyToJson(place.text)
  if (answer.type === 'failure') {
    for (const error of answer.errors) report(faultAt(place, error))
    return null
  }
  const { annotations = {}, ...json } = answer.json
  const unknown = Object.keys(annotations).filter(name => !['id', 'until', 'description'].includes(name))
  if (unknown.length > 0) return fault(`unknown annotation @${unknown[0]}: expected @id, @until or @description`)
  const id = annotations.id ?? unnamed(place, line)
  if (!idForm.test(id)) return fault(`@id: expected letters, digits and _.:/-, got ${JSON.stringify(id)}`)
  const end = annotations.until === undefined ? null : endOf(annotations.until)
  if (annotations.until !== undefined && end === null)
    return fault(`@until: expected a time such as 2026-12-01T00:00:00Z, got ${JSON.stringify(annotations.until)}`)
  return {
    id,
    file: place.file,
    line,
    effect: json.effect,
    text: place.text,
    json: end === null ? json : { ...json, conditions: [...json.conditions, endCondition(end.literal)] },
    conditional: isConditional(json),
    until: end?.at ?? null,
  }
}

const refuseDuplicates = (statements: readonly Statement[], report: Report): void => {
  const known = new Map<string, Statement>()
  for (const each of statements) {
    const { id, file, line } = each
    const before = known.get(id)
    if (before === undefined) known.set(id, each)
    else
      report({ file, line, severity: 'error', problem: `@id("${id}") is there already: ${before.file}:${before.line}` })
  }
}

const validate = (
  cedar: Cedar,
  parsed: readonly { readonly statement: Statement; readonly place: Place }[],
  services: readonly DeclaredService[],
  report: Report,
): void => {
  // By number: ids may be there twice.
  const staticPolicies = Object.fromEntries(parsed.map(({ place }, at) => [`s${at}`, place.text]))
  const answer = cedar.validate({ schema: cedarSchema(services), policies: { staticPolicies } })
  if (answer.type === 'failure') {
    for (const error of answer.errors)
      report({ file: '', line: null, severity: 'error', problem: messageOfError(error) })
    return
  }
  const placeOf = (policyId: string): Place => parsed[Number(policyId.slice(1))]!.place
  const wrong = new Set(answer.validationErrors.map(({ policyId }) => policyId))
  for (const { policyId, error } of answer.validationErrors) report(faultAt(placeOf(policyId), error))
  // What follows from an error is no news.
  for (const { policyId, error } of answer.validationWarnings)
    if (!wrong.has(policyId)) report(faultAt(placeOf(policyId), error, 'warning'))
}

/** The faults of a YAML file; its lines are not known to who finds them. */
const yaml = <T>(file: string, work: () => T, report: Report): T | null => {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof SchemaError)) throw error
    for (const { path, problem } of error.faults)
      report({ file, line: null, severity: 'error', problem: path === '' ? problem : `${path}: ${problem}` })
    return null
  }
}

const kindOf = (name: string): 'policy' | 'actions' | 'tests' | null => {
  if (/^[a-z0-9][a-z0-9_.-]*\.cedar$/i.test(name)) return 'policy'
  if (name === 'actions.yaml') return 'actions'
  return /^tests\/[a-z0-9][a-z0-9_.-]*\.yaml$/i.test(name) ? 'tests' : null
}

/** Who wrote only refusals for enrolment would be surprised that nobody enrols. */
const warnOfOwnActions = (statements: readonly Statement[], report: Report): void => {
  for (const action of Object.values(ownActions)) {
    const naming = statements.filter(statement => namesAction(statement, action))
    const first = naming[0]
    if (first === undefined || statements.some(each => each.effect === 'permit' && appliesTo(each, action))) continue
    const { file, line } = first
    const problem = `${action} is only forbidden here: from now on it needs a permit, and there is none`
    report({ file, line, severity: 'warning', problem })
  }
}

const entitiesOf = ({ json: { action } }: Statement): readonly string[] => {
  if (action.op === 'All') return []
  const list = 'entities' in action ? action.entities : 'entity' in action ? [action.entity] : []
  return list.map(each => ('__entity' in each ? each.__entity.id : each.id))
}

/** Whether the statement's head names this action, or the group that it is in. */
export const namesAction = (statement: Statement, action: string): boolean =>
  entitiesOf(statement).some(id => id === action || id === `${action.slice(0, action.indexOf(':'))}:*`)

const appliesTo = (statement: Statement, action: string): boolean =>
  statement.json.action.op === 'All' || namesAction(statement, action)

export const compilePolicies = (cedar: Cedar, files: PolicyFiles): Compiled => {
  const faults: PolicyFault[] = []
  const report: Report = fault => faults.push(fault)
  const names = Object.keys(files).sort()
  for (const file of names.filter(name => kindOf(name) === null))
    report({ file, line: null, severity: 'error', problem: 'expected NAME.cedar, actions.yaml or tests/NAME.yaml' })
  const actions = files['actions.yaml']
  const services =
    actions === undefined ? [] : yaml('actions.yaml', () => parseActions(actions, 'actions.yaml'), report)
  const tests = names
    .filter(name => kindOf(name) === 'tests')
    .flatMap(file => {
      const cases = yaml(file, () => parsePolicyTests(files[file]!, file), report) ?? []
      return cases.map((each, at): PolicyTest => ({ ...each, file, number: at + 1 }))
    })
  const parsed = names
    .filter(name => kindOf(name) === 'policy')
    .flatMap(file => splitStatements(files[file]!).map(each => ({ ...each, file, source: files[file]! })))
    .flatMap(place => {
      const statement = parseStatement(cedar, place, report)
      return statement === null ? [] : [{ statement, place }]
    })
  const statements = parsed.map(({ statement }) => statement)
  refuseDuplicates(statements, report)
  // Without actions every statement would be wrong.
  if (services !== null) validate(cedar, parsed, services, report)
  warnOfOwnActions(statements, report)
  faults.sort((a, b) => (a.file === b.file ? (a.line ?? 0) - (b.line ?? 0) : a.file < b.file ? -1 : 1))
  const failed = services === null || faults.some(({ severity }) => severity === 'error')
  return { faults, policies: failed ? null : { hash: hashOfFiles(files), services, statements, tests } }
}
