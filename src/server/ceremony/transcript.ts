// The record of one ceremony: every step with its time, facts and result, as JSON for programs and as text for people. Both files are
// written again, durably, after each step, so that a transcript exists however the ceremony ends, and says where. Never a secret.
import { createHash } from 'node:crypto'
import { closeSync, openSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { toHex, utf8 } from '../../base/bytes.ts'
import type { Clock } from '../../base/clock.ts'
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import type { CeremonyKind } from '../../schema/ceremony.ts'
import { writeDurably } from '../../signer/durable-file.ts'
import { makeDirectory } from '../make-directory.ts'
import { CeremonyError } from './errors.ts'

export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [name: string]: Fact }
export type Facts = { readonly [name: string]: Fact }

export interface TranscriptStep {
  readonly title: string
  /** RFC 3339. */
  readonly at: string
  /** `planned`: what a dry run did not do. */
  readonly result: 'done' | 'failed' | 'planned'
  readonly facts: Facts
}

export interface TranscriptHeader {
  readonly ceremony: CeremonyKind
  /** Name of the CA. */
  readonly name: string
  readonly mode: 'perform' | 'dry-run'
  readonly input: CeremonyText
  /** Versions and machine. */
  readonly environment: Facts
}

/** The text that was reviewed, and what it is called. */
export interface CeremonyText {
  readonly source: string
  readonly text: string
}

export interface TranscriptRecord extends Omit<TranscriptHeader, 'input'> {
  readonly input: CeremonyText & { readonly sha256: string }
  readonly startedAt: string
  /** `running` at the end of a file means that the process died in the step after the last one listed. */
  readonly outcome: 'running' | 'done' | 'failed'
  readonly steps: readonly TranscriptStep[]
}

export interface Transcript {
  /** Runs the step and records what it was; a failure is recorded and thrown on. */
  step<T>(title: string, work: () => Promise<StepResult<T>> | StepResult<T>): Promise<T>
  /** What a dry run leaves undone. */
  plan(title: string, facts: Facts): void
}

export interface StepResult<T> {
  readonly facts: Facts
  readonly value: T
}

/** Where a transcript lies; the SHA-256 of its JSON is what the audit log keeps of it. */
export interface FinishedTranscript {
  readonly textFile: string
  readonly jsonFile: string
  readonly sha256: string
}

export interface CeremonyOutcome<T> {
  readonly value: T
  readonly record: TranscriptRecord
  /** null when it was kept in memory only. */
  readonly transcript: FinishedTranscript | null
}

export interface TranscriptDeps {
  readonly clock: Pick<Clock, 'now'>
  /** The text's file, which must not exist; the JSON lies beside it with `.json` at its end. null: kept in memory only. */
  readonly file: string | null
  readonly onStep?: (step: TranscriptStep, number: number) => void
}

const sha256Hex = (text: string): string => toHex(createHash('sha256').update(utf8(text)).digest())

const failureFacts = (error: unknown): Facts => ({
  ...(isAgentCaError(error) ? { code: error.code } : {}),
  message: messageOf(error),
  ...(isAgentCaError(error) && error.hint !== undefined ? { hint: error.hint } : {}),
})

const claim = (path: string): void => {
  makeDirectory(dirname(path))
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new CeremonyError('transcript_exists', `transcript ${path} exists already`, {
      hint: 'a transcript is never overwritten: name another file with --transcript',
    })
  }
}

/**
 * Runs one ceremony under a transcript.
 * @throws CeremonyError `transcript_exists`, and whatever `work` throws, after it was recorded
 */
export const withTranscript = async <T>(
  deps: TranscriptDeps,
  header: TranscriptHeader,
  work: (transcript: Transcript) => Promise<T>,
): Promise<CeremonyOutcome<T>> => {
  const { file } = deps
  const jsonFile = `${file}.json`
  const now = (): string => new Date(deps.clock.now()).toISOString()
  // Owned by this call: replaced as a whole with every step.
  let record: TranscriptRecord = {
    ...header,
    input: { ...header.input, sha256: sha256Hex(header.input.text) },
    startedAt: now(),
    outcome: 'running',
    steps: [],
  }
  const json = (): string => `${JSON.stringify(record, null, 2)}\n`
  const save = (change: Partial<TranscriptRecord>): void => {
    record = { ...record, ...change }
    if (file === null) return
    writeDurably(file, renderTranscript(record))
    writeDurably(jsonFile, json())
  }
  const add = (step: TranscriptStep): void => {
    save({ steps: [...record.steps, step] })
    deps.onStep?.(step, record.steps.length)
  }
  if (file !== null) {
    claim(file)
    try {
      claim(jsonFile)
    } catch (error) {
      rmSync(file, { force: true })
      throw error
    }
  }
  save({})
  const transcript: Transcript = {
    step: async (title, act) => {
      try {
        const { facts, value } = await act()
        add({ title, at: now(), result: 'done', facts })
        return value
      } catch (error) {
        add({ title, at: now(), result: 'failed', facts: failureFacts(error) })
        throw error
      }
    },
    plan: (title, facts) => add({ title, at: now(), result: 'planned', facts }),
  }
  try {
    const value = await work(transcript)
    save({ outcome: 'done' })
    const finished = file === null ? null : { textFile: file, jsonFile, sha256: sha256Hex(json()) }
    return { value, record, transcript: finished }
  } catch (error) {
    if (record.steps.at(-1)?.result !== 'failed')
      add({ title: 'end between two steps', at: now(), result: 'failed', facts: failureFacts(error) })
    save({ outcome: 'failed' })
    throw error
  }
}

const indented = (text: string, by: string): string =>
  text
    .trimEnd()
    .split('\n')
    .map(line => `${by}${line}`)
    .join('\n')

const renderFacts = (facts: Facts, by: string): string[] => {
  const width = Math.max(0, ...Object.keys(facts).map(name => name.length))
  return Object.entries(facts).flatMap(([name, fact]) => {
    if (typeof fact === 'object' && fact !== null) {
      const inner = Array.isArray(fact)
        ? (fact as readonly Fact[]).map(each => `${by}  - ${inline(each)}`)
        : renderFacts(fact as Facts, `${by}  `)
      return [`${by}${name}:${inner.length === 0 ? ' none' : ''}`, ...inner]
    }
    const text = String(fact)
    if (text.includes('\n')) return [`${by}${name}:`, indented(text, `${by}  `)]
    return [`${by}${name.padEnd(width)}  ${text}`]
  })
}

const inline = (fact: Fact): string =>
  typeof fact === 'object' && fact !== null
    ? Object.entries(fact)
        .map(([name, value]) => `${name} ${inline(value)}`)
        .join(', ')
    : String(fact)

/** The transcript as people read it. */
export const renderTranscript = (record: TranscriptRecord): string => {
  const { ceremony, name, mode, input, environment, startedAt, outcome, steps } = record
  const body = steps.flatMap(({ title, at, result, facts }, index) => [
    '',
    `${index + 1}. ${title} (${result}, ${at})`,
    ...renderFacts(facts, '   '),
  ])
  return `${[
    `agentca key ceremony: ${ceremony} ${name}`,
    '',
    ...renderFacts({ mode, started: startedAt, ...environment, input: input.source, 'input sha256': input.sha256 }, ''),
    '',
    'Input:',
    indented(input.text, '  | '),
    ...body,
    '',
    `Outcome: ${outcome}`,
  ].join('\n')}\n`
}

/** A name of its own for each ceremony in a directory of them: sorted by time, and no colon for file systems that mind. */
export const transcriptFile = (directory: string, ceremony: string, now: number): string =>
  join(directory, `${new Date(now).toISOString().replaceAll(':', '').replace('.', '-')}-${ceremony}.txt`)
