// The audit log: its end for people, its exact bytes for whoever verifies it, its checkpoints.
import { operatorAction } from '../../audit/events.ts'
import { fromUtf8, toBase64, toHex } from '../../base/bytes.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { CheckpointAnswer, LeafAnswer } from '../../schema/admin-answers.ts'
import type { CheckpointRecord, Leaf } from '../../store/records.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'
import { filled } from './query.ts'

const shownCheckpoints = 100

const leafAnswer = ({ index, event, at, subject }: Leaf): LeafAnswer => ({ index, event, at: time(at), subject })

type Names = 'auditTail' | 'auditLeaves' | 'auditCheckpoints' | 'auditCheckpoint'

export const auditHandlers = (deps: AdminDeps): Pick<Handlers, Names> => {
  const { audit } = deps.ledger
  const checkpointAnswer = ({ size, head, at, note }: CheckpointRecord): CheckpointAnswer => ({
    size,
    head: toHex(head),
    at: time(at),
    note,
    publicKey: deps.checkpoints.publicKeyPem,
  })
  return {
    auditTail: ({ query: { limit, ...filter } }) =>
      wholeList(
        audit
          .tail({ ...filled(filter), limit })
          .map(leaf => ({ ...leafAnswer(leaf), content: JSON.parse(fromUtf8(leaf.bytes)) })),
      ),
    auditLeaves: ({ query: { from, limit } }) => {
      const leaves = audit.read(from, limit)
      const end = from + leaves.length
      return {
        items: leaves.map(leaf => ({ ...leafAnswer(leaf), bytes: toBase64(leaf.bytes), head: toHex(leaf.head) })),
        next: leaves.length > 0 && end < audit.head().size ? String(end) : null,
      }
    },
    auditCheckpoints: () => wholeList(audit.checkpoints({ limit: shownCheckpoints }).map(checkpointAnswer)),
    auditCheckpoint: async ({ body: { dryRun }, context }) => {
      // The log as it is: nothing is appended to it, and nothing signed.
      if (dryRun) return checkpointAnswer({ ...audit.head(), at: deps.clock.now(), note: '' })
      await audit.append([operatorAction(leafContextOf(context, deps.clock.now()), { action: 'audit_checkpoint' })])
      return checkpointAnswer(await deps.checkpoints.now())
    },
  }
}
