// OCSP answers for what lives already, signed in quiet steps: after a start there are none, and an HSM that fails then must not leave
// the certificates unanswered that nobody has asked about yet. What is issued meanwhile has its answer signed by itself.
import type { Clock } from '../base/clock.ts'
import type { CertificatesPort } from '../store/ports.ts'
import type { CertificateState } from '../store/records.ts'

export interface AnswersAheadDeps {
  readonly clock: Clock
  readonly certificates: Pick<CertificatesPort, 'list'>
  /** Returns at once, and does nothing where there is an answer. */
  readonly presign: (serial: string) => void
  readonly canSign: () => boolean
}

/** Rows looked at in one step: signatures behind all others, and a look-up too short to be noticed. */
const rowsPerStep = 100
/** The newest ones: less than the memory of answers holds, so that a walk never pushes out what it made. */
const rowsPerWalk = 50_000
/** After that many steps at the end of a walk the next one begins; what was issued under load is without an answer till then. */
const restSteps = 60

/** Those that are answered at all; expired ones are not asked about. */
const answered: ReadonlySet<CertificateState> = new Set(['issued', 'held', 'revoked'])

/** @returns one step, for each second */
export const createAnswersAhead = ({ clock, certificates, presign, canSign }: AnswersAheadDeps): (() => void) => {
  let before: string | null = null
  let looked = 0
  let rest = 0

  const beginAnew = (): void => {
    before = null
    looked = 0
    rest = restSteps
  }
  return () => {
    if (rest > 0) rest--
    else if (canSign()) {
      const page = certificates.list({ limit: rowsPerStep, ...(before === null ? {} : { before }) })
      const now = clock.now()
      for (const { serial, state, notAfter } of page.rows) if (answered.has(state) && notAfter > now) presign(serial)
      looked += page.rows.length
      before = page.next
      if (before === null || looked >= rowsPerWalk) beginAnew()
    }
  }
}
