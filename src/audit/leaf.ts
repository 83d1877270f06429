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
  const members = value as { readonly [key: string]: LeafValue | undefined }
  const { sorted, written } = orderOf(Object.keys(members))
  let text = ''
  for (let i = 0; i < sorted.length; i++) {
    const member = members[sorted[i] as string]
    if (member !== undefined) text += `${text === '' ? '' : ','}${written[i]}${canonicalJson(member)}`
  }
  return `{${text}}`
}

interface Order {
  readonly keys: readonly string[]
  readonly sorted: readonly string[]
  /** Each of `sorted` as it is written, with its colon. */
  readonly written: readonly string[]
}

// Leaves of one event have the same members in the same order, every time: sorting them costs as much as writing them. By their number
// and first key; the last of each kind. Owned by this module.
const orders = new Map<string, Order>()
const maxOrders = 200

const orderOf = (keys: readonly string[]): Order => {
  const kind = `${keys.length} ${keys[0]}`
  const known = orders.get(kind)
  if (known !== undefined && sameTexts(known.keys, keys)) return known
  const sorted = keys.toSorted()
  const order = { keys, sorted, written: sorted.map(key => `${canonicalJson(key)}:`) }
  if (known !== undefined || orders.size < maxOrders) orders.set(kind, order)
  return order
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
  const { at, who, requestId, source } = context
  const [subject = null, ...also] = typeof subjects === 'string' ? [subjects] : (subjects ?? [])
  const bytes = utf8(
    canonicalJson({ ...facts, at, event, who, req: requestId, src: source, sub: subject ?? undefined }),
  )
  return also.length === 0 ? { event, at, subject, bytes } : { event, at, subject, also, bytes }
}

/** RFC 6962 §2.1: the leaf hash, domain-separated from inner nodes. */
export const hashLeaf = (bytes: Uint8Array): Uint8Array => sha256([new Uint8Array([0]), bytes])

/** The chain before its first leaf. */
export const emptyHead: Uint8Array = new Uint8Array(32)

export const extendHead = (head: Uint8Array, leafHash: Uint8Array): Uint8Array => sha256([head, leafHash])

const sha256 = (parts: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(createHash('sha256').update(concatBytes(parts)).digest())
