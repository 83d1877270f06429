// How much work one validation may cost. What is presented for validation is the presenter's choice, and searching a graph of cross
// certificates can cost exponentially much (RFC 4158 §2.4, CVE-2023-0464 and its relatives), so everything that repeats is counted.
import { VerifyError } from './errors.ts'

export interface Budget {
  /** Verifications of a signature: the dearest step, 85 µs for P-256, a millisecond for P-384 and for the largest RSA key. */
  readonly signatures: number
  /** Certificates and anchors that were looked at as the issuer of another one. */
  readonly steps: number
  /** Names held against a name constraint. */
  readonly nameComparisons: number
  /** CA certificates between the leaf and its anchor. */
  readonly intermediates: number
}

/**
 * Enough for two candidates at each of four levels with their CRLs; at most some ten milliseconds. webpki's corresponding numbers
 * are 100 signatures, 200,000 steps, 250,000 comparisons and 6 intermediates: those suit the web's graph of cross certificates.
 */
export const usualBudget: Budget = { signatures: 32, steps: 500, nameComparisons: 10_000, intermediates: 6 }

export type Spent = { readonly [Kind in Counted]: number }
type Counted = Exclude<keyof Budget, 'intermediates'>

export interface Work {
  readonly budget: Budget
  readonly spent: Spent
  /** @throws VerifyError budget_exceeded */
  spend(kind: Counted): void
}

export const createWork = (budget: Budget): Work => {
  const spent = { signatures: 0, steps: 0, nameComparisons: 0 }
  return {
    budget,
    spent,
    spend(kind) {
      if (!(spent[kind] < budget[kind]))
        throw new VerifyError('budget_exceeded', `expected a path within ${budget[kind]} ${kind}`, {
          facts: { kind, limit: budget[kind] },
        })
      spent[kind]++
    },
  }
}
