// Why a certificate was revoked: the names and numbers of RFC 5280 §5.3.1.
// Which reason an operator may give is policy and decided elsewhere.

/** Name to number; 7 is not used by the standard. */
export const revocationReasons = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  removeFromCRL: 8,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const

export type RevocationReason = keyof typeof revocationReasons

const reasonsByNumber = new Map<number, RevocationReason>(
  (Object.keys(revocationReasons) as RevocationReason[]).map(name => [revocationReasons[name], name]),
)

export const isRevocationReason = (text: string): text is RevocationReason => Object.hasOwn(revocationReasons, text)

/** Undefined for a number the standard does not define. */
export const revocationReasonOf = (number: number): RevocationReason | undefined => reasonsByNumber.get(number)
