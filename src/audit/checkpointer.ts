// Signs the head of the log from time to time and on demand: kept as the latest, recorded in the ledger, appended to a file. What
// was signed once is never taken back: a log that does not continue its last checkpoint gets none.

import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Metrics } from '../base/metrics.ts'
import { createUpkeep } from '../base/upkeep.ts'
import type { AuditPort } from '../store/ports.ts'
import type { CheckpointRecord, LeafDraft } from '../store/records.ts'
import { type Checkpoint, encodeCheckpoint, encodeNote, type LogKey, verifyNote } from './checkpoint.ts'
import { appendNote, lastNoteOf } from './checkpoint-file.ts'
import { emptyHead } from './leaf.ts'
import type { Sampler } from './sampler.ts'

/**
 * A log that stands still is signed again each time, so that the age of the latest says that somebody is there; ledger and file, which
 * keep everything for ever, get one of those after this long.
 */
const idleMs = 3_600_000

export interface CheckpointerDeps {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly audit: Pick<AuditPort, 'append' | 'head' | 'read' | 'checkpoints' | 'recordCheckpoint'>
  readonly sampler: Pick<Sampler, 'flush'>
  readonly logKey: LogKey
  /** DER ECDSA-Sig-Value by the log key over the text, with SHA-256. */
  readonly sign: (text: Uint8Array) => Promise<Uint8Array>
  readonly everySeconds: number
  /** null: nowhere. */
  readonly file: string | null
}

export interface Checkpointer {
  latest(): CheckpointRecord | null
  /**
   * A checkpoint of a head that was read after the call, durable in the ledger and the file.
   * @throws AgentCaError `conflict` when the log does not continue what was signed before; what signing, ledger or file throws
   */
  now(): Promise<CheckpointRecord>
  close(): Promise<void>
}

export const createCheckpointer = (deps: CheckpointerDeps): Checkpointer => {
  const { clock, log, audit } = deps
  const { origin } = deps.logKey
  // Changed only by the upkeep's work, which never runs twice at once.
  let latest: CheckpointRecord | null = audit.checkpoints({ limit: 1 })[0] ?? null
  let recorded = latest
  let signedInFile: Checkpoint | null = null
  let fileBehind = false
  let asked = false
  let doneAt = Number.NEGATIVE_INFINITY
  const everyMs = deps.everySeconds * 1000
  const dueInMs = (): number => everyMs - (clock.monotonic() - doneAt)
  const writeSummary = createSummaryWriter(deps)

  const readFile = async (): Promise<void> => {
    if (deps.file === null || signedInFile !== null) return
    try {
      signedInFile = await lastNoteOf(deps.file, origin)
    } catch (error) {
      log.error({ file: deps.file, reason: messageOf(error) }, 'earlier checkpoints cannot be read from their file')
    }
  }
  const sign = async (head: { readonly size: number; readonly head: Uint8Array }): Promise<CheckpointRecord> => {
    const at = Math.floor(clock.now() / 1000) * 1000
    const text = encodeCheckpoint({ origin, size: head.size, head: head.head, at })
    const note = encodeNote(text, origin, await deps.sign(text))
    verifyNote(note, deps.logKey)
    return { size: head.size, head: head.head, at, note }
  }
  const record = async (checkpoint: CheckpointRecord): Promise<void> => {
    await audit.recordCheckpoint(checkpoint)
    recorded = checkpoint
    fileBehind = deps.file !== null
  }
  const work = async (): Promise<void> => {
    const demanded = asked
    asked = false
    if (demanded || dueInMs() <= 0) {
      await writeSummary()
      await readFile()
      const head = audit.head()
      checkGoesOn(audit, latest)
      checkGoesOn(audit, signedInFile)
      const checkpoint = await sign(head)
      const behind = recorded === null || recorded.size !== head.size || clock.now() - recorded.at >= idleMs
      if (demanded || behind) await record(checkpoint)
      latest = checkpoint
      doneAt = clock.monotonic()
    }
    if (!fileBehind || deps.file === null || recorded === null) return
    await appendNote(deps.file, origin, recorded.note)
    fileBehind = false
  }

  const upkeep = createUpkeep({
    clock,
    work,
    dueInMs,
    minIntervalMs: 0,
    failed: (error, failures) =>
      log.error({ failures, reason: messageOf(error) }, 'no new checkpoint of the audit log'),
  })
  deps.metrics.gauge('agentca_audit_checkpoint_age_seconds', () =>
    latest === null ? [] : [{ value: (clock.now() - latest.at) / 1000 }],
  )
  upkeep.wake()
  return {
    latest: () => latest,
    now: async () => {
      asked = true
      await upkeep.run()
      return latest!
    },
    close: upkeep.close,
  }
}

/** A summary is kept until it is written: the sampler forgets what it has given away. */
const createSummaryWriter = ({ audit, sampler }: Pick<CheckpointerDeps, 'audit' | 'sampler'>) => {
  let summary: LeafDraft | null = null
  return async (): Promise<void> => {
    summary ??= sampler.flush()
    if (summary === null) return
    await audit.append([summary])
    summary = null
  }
}

/** What was signed must be a beginning of this log: two logs under one key are what checkpoints exist to show. */
const checkGoesOn = (audit: CheckpointerDeps['audit'], signed: Pick<Checkpoint, 'size' | 'head'> | null): void => {
  if (signed === null) return
  const head = signed.size === 0 ? emptyHead : audit.read(signed.size - 1, 1)[0]?.head
  if (head !== undefined && equalBytes(head, signed.head)) return
  throw new AgentCaError('conflict', `the log does not continue the ${signed.size} leaves that were signed`, {
    hint: 'agentca audit verify; after a restore that was meant, begin another audit.checkpointFile',
    facts: { signed: signed.size },
  })
}
