// Which call demands which scope: rules by method and path prefix. All rules that fit are demanded together, so that a rule added for a
// part of a tree never loosens what holds for the whole. Where none fits, an active caller is enough, or nobody is. Backends read a path more
// loosely than it is written, so rules do too: a demand too many is refused in the open, one too few lets somebody in.
import { isAgentCaError } from '../../base/errors.ts'
import { type CallTarget, parseRulePath } from './call-target.ts'
import { RequestRefused, type SidecarError, usage } from './errors.ts'

export interface Requirement {
  /** `*`: any. */
  readonly method: string
  /** Whole segments, in either case: `/orders` is also `/Orders/7` and `/orders.json`, never `/orders-old`. */
  readonly path: string
  /** `*`: an active caller is enough. */
  readonly scope: string
}

const expected = (text: string, why: string): SidecarError =>
  usage(
    `expected a rule METHOD PATH-PREFIX=SCOPE, got "${text}": ${why}`,
    "for example: --require 'GET /orders=orders:read'",
  )

/** `GET /orders=orders:read`; method and scope may be `*`. @throws SidecarError `usage` */
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

/** A file of something else is one fault a line. */
const maxFaults = 100

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
  if (faults.length > maxFaults)
    throw usage([...faults.slice(0, maxFaults), `${faults.length - maxFaults} more`].join('\n'))
  if (faults.length > 0) throw usage(faults.join('\n'))
  return rules
}

/** HEAD tells what GET would. */
const methodFits = (wanted: string, method: string): boolean =>
  wanted === '*' || wanted === method || (wanted === 'GET' && method === 'HEAD')

/** Express, ASP.NET and file systems know no case. What is encoded still is UTF-8: call-target.ts saw to it. */
const folded = (path: string): string => decodeURIComponent(path).toLowerCase()

/** Rails and others take `/orders.json` for `/orders`. */
const pathFits = (prefix: string, path: string): boolean =>
  prefix === '/' || path === prefix || path.startsWith(`${prefix}/`) || path.startsWith(`${prefix}.`)

export type Otherwise = 'allow' | 'refuse'

/** @param otherwise what becomes of a call that no rule fits @throws RequestRefused `rule_missing` */
export const scopesDemanded = (
  requirements: readonly Requirement[],
  otherwise: Otherwise,
  target: CallTarget,
): readonly string[] => {
  const called = folded(target.path)
  const fitting = requirements.filter(
    ({ method, path }) => methodFits(method, target.method) && pathFits(folded(path), called),
  )
  if (fitting.length === 0 && otherwise === 'refuse')
    throw new RequestRefused('rule_missing', `no rule is for ${target.method} ${target.path.slice(0, 200)}`, {
      hint: `--require '${target.method} /PATH=SCOPE', where SCOPE may be *`,
    })
  return [...new Set(fitting.map(({ scope }) => scope))].filter(scope => scope !== '*')
}
