// Checks a run of leaves against their hash chain: recomputes every hash from the stored bytes, so that a changed, removed, added or
// reordered leaf is found at its position. Whether the whole run was made up is answered by checkpoints (verify-log.ts).
import { equalBytes } from '../base/bytes.ts'
import type { Leaf } from '../store/records.ts'
import { emptyHead, extendHead, hashLeaf } from './leaf.ts'

export type FindingKind =
  | 'leaf_missing'
  | 'leaf_out_of_order'
  | 'leaf_changed'
  | 'leaf_index_differs'
  | 'log_rolled_back'
  | 'log_rewritten'
  | 'checkpoint_invalid'
  | 'checkpoints_disagree'

export interface Finding {
  readonly kind: FindingKind
  /** The leaf, or the first leaf that is affected. */
  readonly index: number
  readonly event: string | null
  /** Milliseconds since the epoch, as the leaf says. */
  readonly at: number | null
  readonly detail: string
}

export interface ChainState {
  /** Position of the next leaf. */
  readonly size: number
  readonly head: Uint8Array
  /** No head is known here: a leaf was found to be changed or to be missing, and those after it come without a whole head. */
  readonly unknown?: true
}

export const chainStart: ChainState = { size: 0, head: emptyHead }

const finding = (kind: FindingKind, leaf: Leaf, detail: string): Finding => ({
  kind,
  index: leaf.index,
  event: leaf.event,
  at: leaf.at,
  detail,
})

/**
 * One leaf on top of `state`. The state after it carries the recomputed head; where a stored head differs, the chain goes on from
 * the stored one, so that one changed leaf is one finding and not one for every leaf after it. Where no more than the beginning of a head
 * is stored, it goes on from the next one that is whole.
 */
export const checkLeaf = (
  state: ChainState,
  leaf: Leaf,
): { readonly next: ChainState; readonly findings: readonly Finding[] } => {
  const findings: Finding[] = []
  if (leaf.index > state.size)
    findings.push({
      ...finding('leaf_missing', leaf, `the next leaf that is there is ${leaf.index}, ${leaf.event}`),
      index: state.size,
    })
  else if (leaf.index < state.size)
    findings.push(finding('leaf_out_of_order', leaf, `expected leaf ${state.size}, got ${leaf.index}`))
  const head = extendHead(state.head, hashLeaf(leaf.bytes))
  // After a gap the previous head is not known; the stored one is taken and checkpoints judge it.
  const known = leaf.index === state.size && state.unknown === undefined
  if (known && !equalBytes(head.subarray(0, leaf.head.length), leaf.head))
    findings.push(finding('leaf_changed', leaf, 'the leaf, or the one before it, is not what was appended here'))
  const indexed = indexFacts(leaf)
  if (indexed !== null) findings.push(finding('leaf_index_differs', leaf, indexed))
  const size = leaf.index + 1
  if (findings.length === 0 && known) return { next: { size, head }, findings }
  if (leaf.head.length === head.length) return { next: { size, head: leaf.head }, findings }
  return { next: { size, head, unknown: true }, findings }
}

/** The columns that the log is searched by are not hashed: they must repeat what the bytes say. */
const indexFacts = (leaf: Leaf): string | null => {
  let said: { event?: unknown; at?: unknown; sub?: unknown }
  try {
    said = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(leaf.bytes))
  } catch {
    return 'the bytes are not JSON'
  }
  if (said === null || typeof said !== 'object') return 'the bytes are not a JSON object'
  if (said.event !== leaf.event) return `listed as ${leaf.event}, its bytes say ${String(said.event)}`
  if (said.at !== leaf.at) return `listed at ${leaf.at}, its bytes say ${String(said.at)}`
  if ((said.sub ?? null) !== leaf.subject) return `listed under ${leaf.subject}, its bytes say ${String(said.sub)}`
  return null
}

/** Checks a run from the log's beginning. */
export const verifyChain = (
  leaves: Iterable<Leaf>,
  start: ChainState = chainStart,
): { readonly end: ChainState; readonly findings: readonly Finding[] } => {
  const findings: Finding[] = []
  let state = start
  for (const leaf of leaves) {
    const checked = checkLeaf(state, leaf)
    findings.push(...checked.findings)
    state = checked.next
  }
  return { end: state, findings }
}
