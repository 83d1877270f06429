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
  /** Of the values of all runs. */
  readonly min: number
  readonly max: number
  readonly cores: number
  readonly node: string
  readonly at: string
}

/** A value and its limit, measured next to each other: whatever else the machine did then, it did to both. */
export interface Run {
  readonly value: number
  readonly limitValue: number
}

export interface Measured {
  readonly metric: string
  readonly unit: string
  readonly limit: string
  /** At least one. */
  readonly runs: readonly Run[]
}

const ratioOf = ({ value, limitValue }: Run): number => value / limitValue

/** The run in the middle, by its ratio: an outlier on either side moves nothing. Of an even number the lower one of the two. */
export const medianRun = (runs: readonly Run[]): Run => {
  const sorted = runs.toSorted((a, b) => ratioOf(a) - ratioOf(b))
  const middle = sorted[Math.floor((sorted.length - 1) / 2)]
  if (middle === undefined) throw new RangeError('expected at least one run')
  return middle
}

/** @param share 0.5: the median; 0.99: what one of a hundred exceeds. NaN of nothing */
export const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1] ?? Number.NaN

export const figureOf = (bench: string, measured: Measured): Figure => {
  const { value, limitValue } = medianRun(measured.runs)
  const values = measured.runs.map(run => run.value)
  return {
    bench,
    metric: measured.metric,
    value,
    unit: measured.unit,
    limit: measured.limit,
    limitValue,
    ratio: value / limitValue,
    runs: values.length,
    min: Math.min(...values),
    max: Math.max(...values),
    cores: availableParallelism(),
    node: process.version,
    at: new Date().toISOString(),
  }
}

const short = (n: number): string => (n >= 100 ? n.toFixed(0) : n >= 1 ? n.toFixed(2) : n.toPrecision(3))

/** One line for people. */
export const lineOf = (figure: Figure): string =>
  `${`${figure.bench}/${figure.metric}`.padEnd(31)} ${short(figure.value).padStart(8)} ${figure.unit.padEnd(8)} = ` +
  `${short(figure.ratio)} × ${figure.limit} (${short(figure.limitValue)}); ` +
  `${figure.runs} runs, ${short(figure.min)} to ${short(figure.max)}`

/** The last figure of each metric in a file of JSON lines, by `bench/metric`. @throws Error that names the line that is no figure */
export const readFigures = (text: string): ReadonlyMap<string, Figure> => {
  const figures = new Map<string, Figure>()
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const figure = parseFigure(line)
    if (figure === null) throw new Error(`line ${index + 1} is no figure of a benchmark`)
    figures.set(`${figure.bench}/${figure.metric}`, figure)
  }
  return figures
}

const parseFigure = (line: string): Figure | null => {
  try {
    const figure = JSON.parse(line) as Partial<Figure>
    const { bench, metric, value, ratio } = figure
    const isFigure = [typeof bench, typeof metric, typeof value, typeof ratio].join() === 'string,string,number,number'
    return isFigure ? (figure as Figure) : null
  } catch {
    return null
  }
}

const percent = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(share * 100).toFixed(1)} %`

/**
 * The change since an earlier run, for people: of the ratio, since the machine may be another or busier today; the value's beside it.
 * null: it was not measured then.
 */
export const changeOf = (figure: Figure, earlier: Figure | undefined): string | null => {
  if (earlier === undefined) return null
  const machine =
    earlier.cores === figure.cores && earlier.node === figure.node ? '' : ` (${earlier.cores} cores, ${earlier.node})`
  return (
    `ratio ${percent(figure.ratio / earlier.ratio - 1)}, value ${percent(figure.value / earlier.value - 1)} ` +
    `since ${earlier.at}${machine}`
  )
}
