// One audit leaf as canonical bytes: JSON with sorted keys and no white space (a subset of RFC 8785: no fractions), so that the same
// facts always hash the same and anyone can recompute the log with a JSON library and SHA-256. The store appends it and gives it
// its place in the hash chain.
import { createHash } from 'node:crypto'
import { concatBytes, utf8 } from '../base/bytes.ts'
import type { LeafDraft } from '../store/records.ts'

export type LeafValue =
  | string
  | number
  | boolean
  | null
  | readonly LeafValue[]
  | { readonly [key: string]: LeafValue | undefined }

/** Printable ASCII without quotation mark and backslash: nothing in it is escaped. */
const isPlain = (text: string): boolean => /^[ !#-[\]-~]*$/.test(text)

/** @throws TypeError for what has no one canonical form: fractions, non-finite and unsafe numbers, lone surrogates, undefined in a list */
export const canonicalJson = (value: LeafValue): string => {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value) || Object.is(value, -0))
      throw new TypeError(`expected a safe integer, got ${value}`)
    return String(value)
  }
  if (typeof value === 'string') {
    if (isPlain(value)) return `"${value}"`
    if (!value.isWellFormed()) throw new TypeError('expected well-formed text, got a lone surrogate')
    return JSON.stringify(value)
  }
  if (Array.isArray(value)) return `[${(value as readonly LeafValue[]).map(canonicalJson).join(',')}]`
  const members = value as Members
  const { sorted, written } = orderOf(Object.keys(members))
  let text = ''
  for (let i = 0; i < sorted.length; i++) text = appended(text, written[i]!, members[sorted[i]!])
  return `{${text}}`
}

type Members = { readonly [key: string]: LeafValue | undefined }

const appended = (text: string, written: string, member: LeafValue | undefined): string => {
  if (member === undefined) return text
  return text === '' ? written + canonicalJson(member) : `${text},${written}${canonicalJson(member)}`
}

interface Order {
  readonly keys: readonly string[]
  readonly sorted: readonly string[]
  /** Each of `sorted` as it is written, with its colon. */
  readonly written: readonly string[]
}

// Leaves of one event have the same members in the same order, every time: sorting them costs as much as writing them. The last of each
// number of members and first key. A map by a text that is made for the look-up would cost more than what it finds. Owned by this module.
const orders: Order[][] = []
const maxOrdersOfLength = 16

const orderOf = (keys: readonly string[]): Order => {
  const known = ofLength(orders, keys.length)
  const [first] = keys
  const at = known.findIndex(order => order.keys[0] === first)
  const found = known[at]
  if (found !== undefined && sameTexts(found.keys, keys)) return found
  const sorted = keys.toSorted()
  const order = { keys, sorted, written: sorted.map(key => `${canonicalJson(key)}:`) }
  if (at >= 0) known[at] = order
  else if (known.length < maxOrdersOfLength) known.push(order)
  return order
}

const ofLength = <T>(all: T[][], length: number): T[] => {
  const found = all[length]
  if (found !== undefined) return found
  const made: T[] = []
  all[length] = made
  return made
}

const sameTexts = (a: readonly string[], b: readonly string[]): boolean => {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return a.length === b.length
}

/** Who did it, through which request, from where: the part every leaf shares. Never a secret. */
export interface LeafContext {
  /** Milliseconds since the epoch. */
  readonly at: number
  /** `token:<id>`, `agent:<name>/i/<instance>`, `operator:<name>`, `socket:<uid>`, `system`. */
  readonly who: string
  readonly requestId?: string
  /** Source address without a port. */
  readonly source?: string
}

/**
 * @param subjects what the log is searched by: a registration's `kind:name`, `issuer:`, `owner:`, `instance:` and their name. The first
 *   is the leaf's own; by the others, which its facts may only count, it is found
 */
export const createLeaf = (
  event: string,
  context: LeafContext,
  subjects: string | null | readonly string[],
  facts: { readonly [key: string]: LeafValue | undefined },
): LeafDraft => {
  const { at } = context
  const [subject = null, ...also] = typeof subjects === 'string' ? [subjects] : (subjects ?? [])
  const bytes = utf8(textOf(event, context, subject, facts))
  return also.length === 0 ? { event, at, subject, bytes } : { event, at, subject, also, bytes }
}

/** What every leaf has beside its facts, and which of these wins over a fact of the same name. */
const common = ['at', 'event', 'who', 'req', 'src', 'sub'] as const
type Common = (typeof common)[number]

interface LeafOrder extends Order {
  /** Which of `sorted` are. */
  readonly areCommon: readonly boolean[]
}

/** As canonicalJson of all of them in one object, which would have to be made first. */
const textOf = (event: string, context: LeafContext, subject: string | null, facts: Members): string => {
  const { sorted, written, areCommon } = leafOrderOf(Object.keys(facts))
  let text = ''
  for (let i = 0; i < sorted.length; i++) {
    const name = sorted[i]!
    const value = areCommon[i] === true ? commonValue(name as Common, event, context, subject) : facts[name]
    text = appended(text, written[i]!, value)
  }
  return `{${text}}`
}

const isCommon = (name: string): boolean => (common as readonly string[]).includes(name)

const commonValue = (
  name: Common,
  event: string,
  { at, who, requestId, source }: LeafContext,
  subject: string | null,
): LeafValue | undefined => {
  switch (name) {
    case 'at':
      return at
    case 'event':
      return event
    case 'who':
      return who
    case 'req':
      return requestId
    case 'src':
      return source
    case 'sub':
      return subject ?? undefined
  }
}

// The last order of each number of facts and first one, as above. Owned by this module.
const leafOrders: LeafOrder[][] = []

const leafOrderOf = (keys: readonly string[]): LeafOrder => {
  const known = ofLength(leafOrders, keys.length)
  const at = known.findIndex(order => order.keys[0] === keys[0])
  const found = known[at]
  if (found !== undefined && sameTexts(found.keys, keys)) return found
  const { sorted, written } = orderOf([...keys.filter(key => !isCommon(key)), ...common])
  const order = { keys, sorted, written, areCommon: sorted.map(isCommon) }
  if (at >= 0) known[at] = order
  else if (known.length < maxOrdersOfLength) known.push(order)
  return order
}

/** RFC 6962 §2.1: the leaf hash, domain-separated from inner nodes. */
export const hashLeaf = (bytes: Uint8Array): Uint8Array => sha256([new Uint8Array([0]), bytes])

/** The chain before its first leaf. */
export const emptyHead: Uint8Array = new Uint8Array(32)

export const extendHead = (head: Uint8Array, leafHash: Uint8Array): Uint8Array => sha256([head, leafHash])

const sha256 = (parts: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(createHash('sha256').update(concatBytes(parts)).digest())
