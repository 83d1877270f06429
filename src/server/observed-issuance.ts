// Issuance as the rest of the server sees it: counted, and with the OCSP answer that will be asked for signed in a quiet moment.
import { isAgentCaError } from '../base/errors.ts'
import type { Metrics } from '../base/metrics.ts'
import type { Issuance } from '../ca/issuance.ts'
import type { Released } from '../ca/released.ts'

export interface ObservedIssuanceDeps {
  readonly issuance: Issuance
  readonly metrics: Pick<Metrics, 'count'>
  readonly released: Pick<Released, 'add'>
  /** Returns at once. */
  readonly presign: (serial: string) => void
}

export const observeIssuance = ({ issuance, metrics, released, presign }: ObservedIssuanceDeps): Issuance => {
  let inFlight = 0
  return {
    issue: async request => {
      inFlight++
      try {
        const issued = await issuance.issue(request)
        if (issued.answer === 'new') {
          released.add(issued.certificate)
          metrics.count('agentca_certificates_issued_total', {
            kind: issued.registration.kind,
            operation: request.operation,
          })
          // Under load the HSM belongs to those who wait for it; an answer that was not signed ahead is signed when asked for.
          if (inFlight === 1) presign(issued.record.serial)
        }
        return issued
      } catch (error) {
        if (isAgentCaError(error) && error.code === 'lineage_conflict') metrics.count('agentca_lineage_locks_total')
        throw error
      } finally {
        inFlight--
      }
    },
    sweep: issuance.sweep,
  }
}
