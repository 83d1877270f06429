// Types of test-counts.mjs, which is plain JavaScript because what runs the tests is.
export interface TestReport {
  /** Whether the runner ended with 0: an error outside of any test is in no result. */
  readonly ok: boolean
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[]
  }[]
}
export const secondTryOf: (report: TestReport | null, root: string) => string[]
export const countTests: (reports: readonly [first: TestReport | null, second?: TestReport | null]) => {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly unsteady: readonly string[]
}
