// The numbered points of the durable procedures, so that a test can end the process at any one of them: `issuance` as in
// ca/ISSUANCE.md, `crl`, `revocation` and `acme` as their files number them. In production nobody listens.

export type Step =
  | `issuance ${1 | 2 | 3 | 4 | 5 | 6}`
  /** 1 number reserved, 2 bytes built, 3 signed, 4 recorded, 5 published. */
  | `crl ${1 | 2 | 3 | 4 | 5}`
  /** 1 decided, 2 durable, not yet answered. */
  | `revocation ${1 | 2}`
  /** 1 account recorded, 2 order recorded, 3 its finalizing allowed and not begun, 4 its certificate recorded; nothing of it answered. */
  | `acme ${1 | 2 | 3 | 4}`

/** Called when a step is done and the next has not begun. */
export type ReachedStep = (step: Step) => void

export const noSteps: ReachedStep = () => {}
