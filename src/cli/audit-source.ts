// The audit log as a verifier reads it: leaves in order with their exact bytes, and signed notes; from a running server page by page,
// or from a file that `agentca audit export` wrote.
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { emptyHead, extendHead, hashLeaf } from '../audit/leaf.ts'
import { fromBase64, fromHex } from '../base/bytes.ts'
import type { LeafAnswer } from '../schema/admin-answers.ts'
import type { Leaf } from '../store/records.ts'
import type { AdminClient } from './admin-client.ts'
import { CliError } from './errors.ts'
import { readInput, unreadable } from './files.ts'
import type { CommandIo } from './io.ts'

const pageSize = 1000

export interface AuditSource {
  readonly checkpoints: readonly string[]
  /** PEM of the log key as the source itself says; null where it does not. */
  readonly publicKey: string | null
  answers(): AsyncGenerator<LeafAnswer>
}

async function* serverLeaves(client: AdminClient): AsyncGenerator<LeafAnswer> {
  for (let from = 0; ; ) {
    const { items } = await client.call('auditLeaves', { query: { from, limit: pageSize } })
    yield* items
    const last = items.at(-1)
    if (last === undefined) return
    from = last.index + 1
  }
}

export const serverSource = async (client: AdminClient): Promise<AuditSource> => {
  // Before the leaves: what was signed by now is covered by leaves that are read later.
  const { items } = await client.call('auditCheckpoints')
  return {
    checkpoints: items.map(each => each.note),
    publicKey: items.find(each => each.publicKey !== undefined)?.publicKey ?? null,
    answers: () => serverLeaves(client),
  }
}

/** A line of an export: notes first, then leaves. */
export interface CheckpointLine {
  readonly checkpoint: string
  readonly publicKey?: string | undefined
}

async function* fileLines(io: CommandIo, file: string): AsyncGenerator<LeafAnswer | CheckpointLine> {
  let number = 0
  const handle = await open(resolve(io.cwd, file)).catch((error: unknown) => {
    throw unreadable(file, error)
  })
  for await (const line of handle.readLines()) {
    number++
    if (line === '') continue
    try {
      const value: unknown = JSON.parse(line)
      if (typeof value !== 'object' || value === null) throw new Error('no object')
      yield value as LeafAnswer | CheckpointLine
    } catch {
      throw new CliError('verification_failed', `${file}: line ${number} is not a line of an export`)
    }
  }
}

export const fileSource = async (io: CommandIo, file: string): Promise<AuditSource> => {
  const checkpoints: string[] = []
  let publicKey: string | null = null
  for await (const line of fileLines(io, file))
    if ('checkpoint' in line) {
      checkpoints.push(line.checkpoint)
      publicKey ??= line.publicKey ?? null
    }
  return {
    checkpoints,
    publicKey,
    answers: async function* () {
      for await (const line of fileLines(io, file)) if (!('checkpoint' in line)) yield line
    },
  }
}

const malformed = (leaf: LeafAnswer): CliError =>
  new CliError('verification_failed', `leaf ${String(leaf.index)} has no readable bytes`)

/** Stored heads where the source gives them; else the recomputed ones, and only checkpoints can tell. */
export async function* leavesOf(source: AuditSource): AsyncGenerator<Leaf> {
  let computed = emptyHead
  for await (const answer of source.answers()) {
    const bytes = typeof answer.bytes === 'string' ? fromBase64(answer.bytes) : null
    const at = Date.parse(answer.at)
    if (bytes === null || !Number.isSafeInteger(answer.index) || Number.isNaN(at)) throw malformed(answer)
    const leafHash = hashLeaf(bytes)
    const stored = typeof answer.head === 'string' ? fromHex(answer.head) : null
    const head = stored ?? extendHead(computed, leafHash)
    computed = head
    yield { index: answer.index, event: answer.event, at, subject: answer.subject, bytes, leafHash, head }
  }
}

/** Notes one after the other, as the server's sink appends them: each ends with its signature line. */
export const readNotes = (io: CommandIo, file: string): readonly string[] => {
  const text = Buffer.from(readInput(io, file)).toString('utf8')
  const notes: string[] = []
  let lines: string[] = []
  // A file from elsewhere: read line by line, it costs its length and no more.
  for (const line of text.split('\n')) {
    const isEnd = lines.length > 0 && line.startsWith('\u2014 ')
    if (lines.length > 0 || line !== '') lines.push(`${line}\n`)
    if (!isEnd) continue
    notes.push(lines.join(''))
    lines = []
  }
  if (notes.length === 0)
    throw new CliError('file_unreadable', `${file} holds no signed checkpoint`, { hint: 'agentca audit checkpoint' })
  return notes
}
