// One measured figure beside its limit, taken in the same run on the same machine: what counts is the ratio.
import { availableParallelism } from 'node:os'

export interface Figure {
  readonly bench: string
  readonly metric: string
  readonly value: number
  readonly unit: string
  /** What it is held against, in words. */
  readonly limit: string
  readonly limitValue: number
  /** value / limitValue */
  readonly ratio: number
  readonly runs: number
  readonly min: number
  readonly max: number
  readonly cores: number
  readonly node: string
  readonly at: string
}

export interface Measured {
  readonly metric: string
  readonly unit: string
  readonly limit: string
  /** One per run. */
  readonly values: readonly number[]
  readonly limitValues: readonly number[]
}

export const medianOf = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const figureOf = (bench: string, measured: Measured): Figure => {
  const value = medianOf(measured.values)
  const limitValue = medianOf(measured.limitValues)
  return {
    bench,
    metric: measured.metric,
    value,
    unit: measured.unit,
    limit: measured.limit,
    limitValue,
    ratio: value / limitValue,
    runs: measured.values.length,
    min: Math.min(...measured.values),
    max: Math.max(...measured.values),
    cores: availableParallelism(),
    node: process.version,
    at: new Date().toISOString(),
  }
}

const short = (n: number): string => (n >= 100 ? n.toFixed(0) : n >= 1 ? n.toFixed(2) : n.toPrecision(3))

/** One line for people. */
export const lineOf = (figure: Figure): string =>
  `${`${figure.bench}/${figure.metric}`.padEnd(34)} ${short(figure.value).padStart(8)} ${figure.unit.padEnd(9)} ` +
  `${short(figure.ratio)} × ${figure.limit} (${short(figure.limitValue)}), ` +
  `${figure.runs} runs, ${short(figure.min)} to ${short(figure.max)}`
