// Data on standard output: tables for people, JSON for programs, names for pipes. Text that others wrote is shown without its
// control characters, so that a purpose or a log entry cannot drive the operator's terminal.

import { styleText } from 'node:util'
import { type Command, Option } from 'commander'
import { printable, printableJson } from '../base/printable.ts'
import type { CommandIo } from './io.ts'

export type Format = 'table' | 'json' | 'jsonl' | 'name' | 'pem'
export type Colour = 'red' | 'yellow' | 'green' | 'bold' | 'dim'

export interface OutputOptions {
  readonly output: Format
}

export const withOutput = (
  command: Command,
  formats: readonly Format[] = ['table', 'json', 'jsonl', 'name'],
): Command =>
  command.addOption(
    new Option('-o, --output <format>', 'form of the output').choices(formats).default(formats[0] as Format),
  )

export const paint = (io: Pick<CommandIo, 'colours'>, colour: Colour, text: string): string =>
  io.colours ? styleText(colour, text, { validateStream: false }) : text

export type Cell = string | number | boolean | null | undefined | readonly string[]

export interface Column<T> {
  readonly name: string
  readonly value: (row: T) => Cell
}

/** One kind of thing, as it is shown. */
export interface View<T> {
  readonly columns: readonly Column<T>[]
  readonly name: (row: T) => string
  readonly pem?: (row: T) => string
}

/** Columns that are members of the row. */
export const members = <T>(...names: readonly (keyof T & string)[]): readonly Column<T>[] =>
  names.map(name => ({ name, value: row => row[name] as Cell }))

export const cellText = (cell: Cell): string => {
  if (cell === null || cell === undefined || cell === '') return '-'
  return printable(Array.isArray(cell) ? cell.join(',') || '-' : String(cell))
}

/** Words that an eye looks for in a column. */
const colourOfWord: Readonly<Record<string, Colour>> = {
  active: 'green',
  issued: 'green',
  ready: 'green',
  ok: 'green',
  good: 'green',
  live: 'green',
  lagging: 'yellow',
  stale: 'red',
  held: 'yellow',
  locked: 'yellow',
  intent: 'yellow',
  prepared: 'yellow',
  warn: 'yellow',
  unknown: 'yellow',
  revoked: 'red',
  retired: 'dim',
  expired: 'dim',
  used: 'dim',
  void: 'dim',
  gone: 'red',
  orphaned: 'red',
  down: 'red',
  failed: 'red',
}

const painted = (io: CommandIo, text: string, width: number): string => {
  const colour = colourOfWord[text]
  const padded = text.padEnd(width)
  return colour === undefined ? padded : paint(io, colour, text) + ' '.repeat(padded.length - text.length)
}

export const writeTable = (io: CommandIo, header: readonly string[], rows: readonly (readonly string[])[]): void => {
  const widths = header.map((title, at) => rows.reduce((width, row) => Math.max(width, row[at]!.length), title.length))
  const line = (cells: readonly string[]): string => `${cells.join('  ').trimEnd()}\n`
  io.out(line(header.map((title, at) => paint(io, 'bold', title) + ' '.repeat(widths[at]! - title.length))))
  for (const row of rows) io.out(line(row.map((text, at) => painted(io, text, widths[at]!))))
}

/** Labels and values below each other. */
export const writeFields = (io: CommandIo, fields: readonly (readonly [label: string, value: Cell])[]): void => {
  const width = fields.reduce((most, [label]) => Math.max(most, label.length), 0)
  for (const [label, value] of fields)
    io.out(`${paint(io, 'bold', label)}${' '.repeat(width - label.length)}  ${painted(io, cellText(value), 0)}\n`)
}

export const writeJson = (io: CommandIo, value: unknown, format: 'json' | 'jsonl' = 'json'): void =>
  io.out(`${printableJson(format === 'json' ? JSON.stringify(value, null, 2) : JSON.stringify(value))}\n`)

/** A list: a table, a JSON array, a JSON document a line, or a name a line. */
export const writeRows = <T>(io: CommandIo, format: Format, rows: readonly T[], view: View<T>): void => {
  if (format === 'json') writeJson(io, rows)
  else if (format === 'table')
    writeTable(
      io,
      view.columns.map(column => column.name),
      rows.map(row => view.columns.map(column => cellText(column.value(row)))),
    )
  else for (const row of rows) writeLine(io, format, row, view)
}

/** One thing: its fields below each other, or as in a list. */
export const writeOne = <T>(io: CommandIo, format: Format, row: T, view: View<T>): void => {
  if (format === 'json') writeJson(io, row)
  else if (format === 'table')
    writeFields(
      io,
      view.columns.map(column => [column.name, column.value(row)]),
    )
  else writeLine(io, format, row, view)
}

const writeLine = <T>(io: CommandIo, format: Exclude<Format, 'json' | 'table'>, row: T, view: View<T>): void => {
  if (format === 'jsonl') writeJson(io, row, 'jsonl')
  else io.out(format === 'pem' && view.pem !== undefined ? view.pem(row) : `${printable(view.name(row))}\n`)
}
