// One ceremony from its input text to its transcript: parses, opens the transcript, runs, ends it. What happens in between is the
// ceremony's own file.
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Clock } from '../../base/clock.ts'
import { type CeremonyInput, type CeremonyKind, parseCeremony } from '../../schema/ceremony.ts'
import type { Judge } from './judge.ts'
import type { CeremonyDeps } from './steps.ts'
import { type CeremonyOutcome, type CeremonyText, type TranscriptStep, withTranscript } from './transcript.ts'

export interface CeremonyRun<K extends CeremonyKind> {
  readonly kind: K
  readonly text: CeremonyText
  readonly mode: CeremonyDeps['mode']
  /** null: the transcript is only returned. */
  readonly transcriptFile: string | null
  readonly onStep?: (step: TranscriptStep, number: number) => void
}

export interface CeremonySurroundings {
  readonly clock: Pick<Clock, 'now'>
  readonly randomBytes: (length: number) => Uint8Array
  readonly judge: Judge
}

/** Name of the CA that a ceremony is about. */
export const subjectOf = (input: {
  readonly ceremony: CeremonyKind
  readonly name?: string
  readonly issuer?: { readonly name: string }
}): string => input.name ?? input.issuer?.name ?? ''

const version = (): string =>
  (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }).version

/**
 * @throws SchemaError for faults of the input, before there is a transcript; CeremonyError `transcript_exists`; and whatever `work`
 * throws
 */
export const runCeremony = async <K extends CeremonyKind, T>(
  { clock, randomBytes, judge }: CeremonySurroundings,
  run: CeremonyRun<K>,
  work: (deps: CeremonyDeps, input: CeremonyInput<K>) => Promise<T>,
): Promise<CeremonyOutcome<T>> => {
  const input = parseCeremony(run.kind, run.text.text, run.text.source)
  const { mode, onStep } = run
  return withTranscript(
    { clock, file: run.transcriptFile, ...(onStep === undefined ? {} : { onStep }) },
    {
      ceremony: run.kind,
      name: subjectOf(input),
      mode,
      input: run.text,
      environment: {
        agentca: version(),
        node: process.version,
        openssl: judge.version,
        host: hostname(),
        uid: process.getuid?.() ?? null,
      },
    },
    transcript => work({ clock, randomBytes, judge, transcript, mode }, input),
  )
}
