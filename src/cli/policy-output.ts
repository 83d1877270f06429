// How policies are shown: faults by file and line, cases, who gains and who loses.
import { printable } from '../base/printable.ts'
import type {
  PolicyDifferenceAnswer,
  PolicyFaultAnswer,
  PolicyTestAnswer,
  PolicyVersionAnswer,
} from '../schema/policy-answers.ts'
import type { CommandIo } from './io.ts'
import { type Format, members, paint, type View, writeRows } from './output.ts'

const place = ({ file, line }: Pick<PolicyFaultAnswer, 'file' | 'line'>): string =>
  line === null ? file : `${file}:${line}`

export const faultView: View<PolicyFaultAnswer> = {
  columns: [{ name: 'where', value: place }, ...members<PolicyFaultAnswer>('severity', 'problem')],
  name: place,
}

export const testView: View<PolicyTestAnswer> = {
  columns: [
    { name: 'result', value: row => (row.problem === null ? 'ok' : 'failed') },
    { name: 'case', value: row => `${row.file} #${row.number}` },
    ...members<PolicyTestAnswer>('name', 'expected', 'got', 'by'),
  ],
  name: row => `${row.file} #${row.number}`,
}

export const versionView: View<PolicyVersionAnswer> = {
  columns: members<PolicyVersionAnswer>('version', 'state', 'activatedAt', 'author', 'why', 'hash'),
  name: row => String(row.version),
}

const differenceView: View<PolicyDifferenceAnswer> = {
  columns: [
    { name: 'who', value: row => `${row.kind} ${row.name}` },
    ...members<PolicyDifferenceAnswer>('gains', 'loses'),
    { name: 'gains for some calls', value: row => row.gainsConditionally },
    { name: 'loses for some calls', value: row => row.losesConditionally },
  ],
  name: row => row.name,
}

/** On standard error, one a line: an editor finds its way by `file:line`. */
export const tellFaults = (io: CommandIo, directory: string, faults: readonly PolicyFaultAnswer[]): void => {
  for (const fault of faults) {
    const word = fault.severity === 'error' ? paint(io, 'red', 'error') : paint(io, 'yellow', 'warning')
    io.err(`${directory}/${place(fault)}: ${word}: ${printable(fault.problem)}\n`)
  }
}

export const tellFailures = (io: CommandIo, tests: readonly PolicyTestAnswer[]): void => {
  for (const { file, number, name, problem, by } of tests)
    if (problem !== null)
      io.err(
        `${file} #${number} (${printable(name)}): ${printable(problem)}${by.length === 0 ? '' : ` by ${by.join(', ')}`}\n`,
      )
}

export const writeDifferences = (
  io: CommandIo,
  format: Format,
  differences: readonly PolicyDifferenceAnswer[],
): void => {
  if (format !== 'table' || differences.length > 0) writeRows(io, format, differences, differenceView)
  if (differences.length === 0) io.err('nobody gains or loses anything\n')
}
