// Counters in the code of src, put there while it is loaded: one at the beginning of each function, branch, loop and right-hand side, so that the
// loop can see after every input what ran and how often. V8's own coverage tells the same a thousand times slower.
import { readFileSync } from 'node:fs'
import { registerHooks, stripTypeScriptTypes } from 'node:module'
import { fileURLToPath } from 'node:url'
import { type Node, parse } from 'acorn'

export const maxCounters = 1 << 17

type AnyNode = Node & Readonly<Record<string, unknown>>

const isNode = (value: unknown): value is AnyNode =>
  typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string'

interface Insert {
  readonly at: number
  readonly text: string
}

/** Statements that need braces where a counter is to stand before them, and expressions that need parentheses. */
const branchesOf: Readonly<Record<string, readonly string[]>> = {
  IfStatement: ['consequent', 'alternate'],
  ForStatement: ['body'],
  ForInStatement: ['body'],
  ForOfStatement: ['body'],
  WhileStatement: ['body'],
  DoWhileStatement: ['body'],
  FunctionDeclaration: ['body'],
  FunctionExpression: ['body'],
  ArrowFunctionExpression: ['body'],
  CatchClause: ['body'],
  ConditionalExpression: ['consequent', 'alternate'],
  LogicalExpression: ['right'],
}

const counterName = '__agentcaRan'

/** The same code with counters from `first` on; `count` of them. Lines stay where they are. */
export const instrumented = (source: string, first: number): { readonly code: string; readonly count: number } => {
  const inserts: Insert[] = []
  let count = 0
  const tick = (): string => `${counterName}[${first + count++}]++`

  const visitBranch = (node: AnyNode): void => {
    const isStatement = node.type.endsWith('Statement') || node.type.endsWith('Declaration')
    if (node.type === 'BlockStatement') {
      inserts.push({ at: node.start + 1, text: `${tick()};` })
      visitChildren(node)
      return
    }
    inserts.push({ at: node.start, text: isStatement ? `{${tick()};` : `(${tick()},` })
    visit(node)
    inserts.push({ at: node.end, text: isStatement ? '}' : ')' })
  }
  const visitChildren = (node: AnyNode): void => {
    const branches = branchesOf[node.type] ?? []
    for (const [name, value] of Object.entries(node))
      for (const each of Array.isArray(value) ? value : [value]) {
        if (!isNode(each)) continue
        if (branches.includes(name)) visitBranch(each)
        else visit(each)
      }
  }
  const visit = (node: AnyNode): void => {
    if (node.type === 'SwitchCase') {
      const [head] = node.consequent as readonly AnyNode[]
      if (head !== undefined) inserts.push({ at: head.start, text: `${tick()};` })
    }
    visitChildren(node)
  }

  visit(parse(source, { ecmaVersion: 'latest', sourceType: 'module' }) as Node as AnyNode)
  // Opening ones were added from outside to inside, closing ones from inside to outside: a stable order keeps both.
  inserts.sort((a, b) => a.at - b.at)
  let code = `const ${counterName} = globalThis.${counterName}; `
  let at = 0
  for (const { at: to, text } of inserts) {
    code += source.slice(at, to) + text
    at = to
  }
  return { code: code + source.slice(at), count }
}

export interface Instruments {
  /** Everything that is loaded from now on and lies in src counts here. */
  readonly counters: Uint32Array
  /** How many of them are in use. */
  used(): number
}

/** Once in a thread, before anything of src is loaded. */
export const installInstruments = (): Instruments => {
  const counters = new Uint32Array(maxCounters)
  Object.assign(globalThis, { [counterName]: counters })
  let used = 0
  registerHooks({
    load: (url, context, next) => {
      if (!url.startsWith('file:') || !url.includes('/src/') || url.includes('/node_modules/') || !url.endsWith('.ts'))
        return next(url, context)
      const source = stripTypeScriptTypes(readFileSync(fileURLToPath(url), 'utf8'))
      const { code, count } = instrumented(source, used)
      if (used + count > maxCounters) throw new Error(`more than ${maxCounters} counters`)
      used += count
      return { format: 'module', source: code, shortCircuit: true }
    },
  })
  return { counters, used: () => used }
}
