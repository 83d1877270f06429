// Which call demands which scope: rules by method and path prefix. All rules that fit are demanded together, so that a rule added for a
// part of a tree never loosens what holds for the whole. Without a rule, an active caller is enough.
import { isAgentCaError } from '../../base/errors.ts'
import { type CallTarget, parseRulePath } from './call-target.ts'
import { type SidecarError, usage } from './errors.ts'

export interface Requirement {
  /** `*`: any. */
  readonly method: string
  /** Whole segments: `/orders` is also `/orders/7`, never `/orders-old`. */
  readonly path: string
  readonly scope: string
}

const expected = (text: string, why: string): SidecarError =>
  usage(
    `expected a rule METHOD PATH-PREFIX=SCOPE, got "${text}": ${why}`,
    "for example: --require 'GET /orders=orders:read'",
  )

/** `GET /orders=orders:read`; the method may be `*`. @throws SidecarError `usage` */
export const parseRequirement = (text: string): Requirement => {
  const match = /^([A-Z-]+|\*) +(\/[^ =?]*)=([!-~]{1,128})$/.exec(text.trim())
  if (match === null) throw expected(text, 'it has another form')
  const [, method = '', path = '', scope = ''] = match
  try {
    const canonical = parseRulePath(path)
    return { method, path: canonical.length > 1 ? canonical.replace(/\/$/, '') : canonical, scope }
  } catch (error) {
    if (isAgentCaError(error)) throw expected(text, error.message)
    throw error
  }
}

/** One rule a line; `#` begins a comment, empty lines are skipped. @throws SidecarError `usage` naming each faulty line */
export const parseRequirementFile = (text: string, name: string): readonly Requirement[] => {
  const faults: string[] = []
  const rules: Requirement[] = []
  for (const [at, line] of text.split('\n').entries()) {
    const rule = line.replace(/(?:^|\s)#.*$/, '').trim()
    if (rule === '') continue
    try {
      rules.push(parseRequirement(rule))
    } catch (error) {
      if (!isAgentCaError(error)) throw error
      faults.push(`${name}:${at + 1}: ${error.message}`)
    }
  }
  if (faults.length > 0) throw usage(faults.join('\n'))
  return rules
}

/** HEAD tells what GET would. */
const methodFits = (wanted: string, method: string): boolean =>
  wanted === '*' || wanted === method || (wanted === 'GET' && method === 'HEAD')

const pathFits = (prefix: string, path: string): boolean =>
  prefix === '/' || path === prefix || path.startsWith(`${prefix}/`)

export const scopesDemanded = (requirements: readonly Requirement[], target: CallTarget): readonly string[] => [
  ...new Set(
    requirements
      .filter(({ method, path }) => methodFits(method, target.method) && pathFits(path, target.path))
      .map(({ scope }) => scope),
  ),
]
