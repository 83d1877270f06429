// What a benchmark is: a name, the metrics it finds, and a run that reports them.
import type { Measured } from './figure.ts'

export interface BenchContext {
  /** Temporary, of this run. */
  readonly directory: string
  /** Short: shows that it works, not how fast. */
  readonly quick: boolean
  /** Sizes that take minutes. */
  readonly full: boolean
  readonly found: (measured: Measured) => void
  /** For people only. */
  readonly say: (text: string) => void
}

export interface Bench {
  readonly name: string
  /** Everything that it may find. */
  readonly metrics: readonly string[]
  readonly run: (context: BenchContext) => Promise<void>
}
