// The whole log against its signed checkpoints: the chain shows careless tampering at its leaf, a checkpoint that was kept outside
// shows even a log that was rewritten and chained anew, and between which positions.
import { equalBytes, toHex } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import type { Leaf } from '../store/records.ts'
import { type ChainState, chainStart, checkLeaf, type Finding } from './chain.ts'
import { type Checkpoint, type LogKey, verifyNote } from './checkpoint.ts'
import { extendHead, hashLeaf } from './leaf.ts'

export interface LogToVerify {
  /** From position 0, in the stored order. */
  readonly leaves: Iterable<Leaf> | AsyncIterable<Leaf>
  /** Signed notes, from the ledger and from files kept elsewhere. */
  readonly checkpoints: readonly string[]
  readonly log: LogKey
}

export interface LogVerdict {
  readonly size: number
  readonly checkpoints: number
  readonly findings: readonly Finding[]
}

export const verifyLog = async (input: LogToVerify): Promise<LogVerdict> => {
  const findings: Finding[] = []
  const checkpoints = trustedCheckpoints(input, findings)
  let state: ChainState = chainStart
  // Recomputed from the bytes alone: what an auditor without our stored heads would get.
  let honest = state.head
  let from = 0
  const compare = (leaf: Leaf | null): void => {
    for (const checkpoint of checkpoints.filter(each => each.size === state.size)) {
      if (equalBytes(checkpoint.head, honest)) from = checkpoint.size
      else findings.push(rewritten(checkpoint, from, leaf))
    }
  }
  compare(null)
  for await (const leaf of input.leaves) {
    const checked = checkLeaf(state, leaf)
    findings.push(...checked.findings)
    honest = extendHead(honest, hashLeaf(leaf.bytes))
    state = checked.next
    compare(leaf)
  }
  for (const checkpoint of checkpoints.filter(each => each.size > state.size))
    findings.push({
      kind: 'log_rolled_back',
      index: state.size,
      event: null,
      at: checkpoint.at,
      detail: `a checkpoint covers ${checkpoint.size} leaves, the log has ${state.size}`,
    })
  return { size: state.size, checkpoints: checkpoints.length, findings }
}

const rewritten = (checkpoint: Checkpoint, from: number, leaf: Leaf | null): Finding => ({
  kind: 'log_rewritten',
  index: from,
  event: leaf?.event ?? null,
  at: leaf?.at ?? null,
  detail: `a leaf from ${from} to ${checkpoint.size - 1} is not what the checkpoint of size ${checkpoint.size} covers`,
})

const trustedCheckpoints = (input: LogToVerify, findings: Finding[]): readonly Checkpoint[] => {
  const bySize = new Map<number, Checkpoint>()
  for (const note of input.checkpoints) {
    try {
      const checkpoint = verifyNote(note, input.log)
      const same = bySize.get(checkpoint.size)
      if (same !== undefined && !equalBytes(same.head, checkpoint.head))
        findings.push({
          kind: 'checkpoints_disagree',
          index: checkpoint.size,
          event: null,
          at: checkpoint.at,
          detail: `two signed heads for size ${checkpoint.size}: ${toHex(same.head)} and ${toHex(checkpoint.head)}`,
        })
      bySize.set(checkpoint.size, checkpoint)
    } catch (error) {
      findings.push({ kind: 'checkpoint_invalid', index: 0, event: null, at: null, detail: messageOf(error) })
    }
  }
  return [...bySize.values()]
}
