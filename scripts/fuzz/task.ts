// What the thread that fuzzes is told, and what it tells.

export interface WorkerTask {
  readonly names: readonly string[]
  readonly secondsEach: number
  readonly seed: number
  /** What was found new is written to the corpus. */
  readonly keep: boolean
  /** Count of inputs, length of the present one, its bytes. */
  readonly shared: SharedArrayBuffer
}

export const sharedBytes = 8 + 65_536

/** What came of one target. */
export interface Report {
  readonly target: string
  readonly runs: number
  readonly parts: number
  readonly corpus: number
  readonly workPerByte: number
  readonly accepted: readonly Uint8Array[]
  readonly findings: readonly { readonly problem: string; readonly path: string }[]
}
