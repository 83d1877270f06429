// Declarative files: what shall be registered, several documents a file, each of one kind. A document says everything of its registration:
// what it leaves out is none, or the default; only an end date that it does not name stays. Every fault of every document at once, with
// its line.
import { isScalar, LineCounter, parseAllDocuments, visit } from 'yaml'
import * as z from 'zod'
import { faultsOf } from './document.ts'
import type { Fault } from './errors.ts'

const name = z.string().min(1).max(64)
const keyHash = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256: and 64 hex digits, or bindKeyFile')
const common = {
  name,
  purpose: z.string().max(1000).default(''),
  profile: name.optional(),
  roles: z.array(z.string().min(1).max(64)).max(64).default([]),
  attributes: z.record(z.string().min(1).max(64), z.string().max(256)).default({}),
  instances: z.int().min(1).max(100_000).optional(),
  until: z.union([z.literal('never'), z.iso.datetime({ offset: true }), z.iso.date()]).optional(),
  /** The only key that may enrol: SHA-256 of its SubjectPublicKeyInfo, or a PEM file beside this one. */
  bindKey: keyHash.optional(),
  bindKeyFile: z.string().min(1).max(4096).optional(),
}
const oneKey = (value: { readonly bindKey?: string | undefined; readonly bindKeyFile?: string | undefined }): boolean =>
  value.bindKey === undefined || value.bindKeyFile === undefined
const keyFault = { error: 'expected bindKey or bindKeyFile, not both' }

const owner = z.strictObject({ kind: z.literal('Owner'), name })
const agent = z.strictObject({ kind: z.literal('Agent'), ...common, owner: name }).refine(oneKey, keyFault)
const service = z
  .strictObject({
    kind: z.literal('Service'),
    ...common,
    owner: name.optional(),
    dns: z.array(z.string().min(1).max(253)).max(64).default([]),
  })
  .refine(oneKey, keyFault)
/** A directory as `agentca policy apply` takes it, from the file's own. */
const policy = z.strictObject({ kind: z.literal('Policy'), directory: z.string().min(1).max(4096) })

const document = z.discriminatedUnion('kind', [owner, agent, service, policy], {
  error: 'expected kind Owner, Agent, Service or Policy',
})

export type DeclaredDocument = z.output<typeof document>
export type DeclaredRegistration = z.output<typeof agent> | z.output<typeof service>

export interface Declared {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly document: DeclaredDocument
}

export interface DeclaredFault extends Fault {
  readonly file: string
  readonly line: number
}

/** As many as a pipeline writes, and no more than somebody can read in a plan. */
const maxDocuments = 5_000
const maxTextLength = 4_194_304

interface Read {
  readonly declared: readonly Declared[]
  readonly faults: readonly DeclaredFault[]
}

type YamlDocument = Exclude<ReturnType<typeof parseAllDocuments>, { readonly empty: true }>[number]

const readOne = (yaml: YamlDocument, file: string, lines: LineCounter): Read => {
  const lineAt = (offset: number | undefined): number => (offset === undefined ? 1 : lines.linePos(offset).line)
  const line = lineAt(yaml.contents?.range?.[0] ?? yaml.range?.[0])
  const faults: DeclaredFault[] = yaml.errors.map(({ message, pos }) => ({
    ...{ file, line: lineAt(pos[0]), path: '', problem: message.split('\n')[0] as string },
  }))
  visit(yaml, {
    Alias: (_key, node) => {
      faults.push({ file, line: lineAt(node.range?.[0]), path: '', problem: 'aliases are not allowed' })
    },
    // zod leaves it out without a word.
    Pair: (_, { key }) => {
      if (isScalar(key) && key.value === '__proto__')
        faults.push({ file, line: lineAt(key.range?.[0]), path: '__proto__', problem: 'unknown key' })
    },
  })
  if (faults.length > 0) return { declared: [], faults }
  // `---` at the end of a file, or one after the other, says nothing.
  if (yaml.contents === null) return { declared: [], faults: [] }
  const result = document.safeParse(yaml.toJS())
  if (result.success) return { declared: [{ file, line, document: result.data }], faults: [] }
  return {
    declared: [],
    faults: faultsOf(result.error).map(fault => {
      const node = yaml.getIn(fault.path === '' ? [] : fault.path.split('.'), true) as
        | { readonly range?: readonly number[] }
        | undefined
      return { ...fault, file, line: node?.range === undefined ? line : lineAt(node.range[0]) }
    }),
  }
}

/** @param file as messages call it */
export const readDeclared = (text: string, file: string): Read => {
  if (text.length > maxTextLength)
    return {
      declared: [],
      faults: [{ file, line: 1, path: '', problem: `expected at most ${maxTextLength} characters` }],
    }
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { uniqueKeys: true, version: '1.2', lineCounter: lines })
  if ('empty' in documents || documents.length === 0) return { declared: [], faults: [] }
  if (documents.length > maxDocuments)
    return {
      declared: [],
      faults: [{ file, line: 1, path: '', problem: `expected at most ${maxDocuments} documents` }],
    }
  const read = documents.map(each => readOne(each, file, lines))
  return { declared: read.flatMap(({ declared }) => declared), faults: read.flatMap(({ faults }) => faults) }
}

/** Of all files together: each thing once, one set of policies. */
export const faultsBetween = (declared: readonly Declared[]): readonly DeclaredFault[] => {
  const first = new Map<string, Declared>()
  return declared.flatMap(each => {
    const { document, file, line } = each
    const key = document.kind === 'Policy' ? 'Policy' : `${document.kind} ${document.name}`
    const other = first.get(key)
    if (other === undefined) {
      first.set(key, each)
      return []
    }
    return [{ file, line, path: '', problem: `${key} is at ${other.file}:${other.line} too` }]
  })
}
