// Holds the signer's own durable count of leaf signatures against the ledger: a signature nobody recorded shows as a difference. The
// signer is asked first and the ledger after it, and an intent is on disk before it is signed, so an honest difference can only be on
// the ledger's side.
import { signerCountsMismatch } from '../audit/events.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { SignerPort } from '../signer/port.ts'
import type { AuditPort, IssuancePort } from '../store/ports.ts'

export interface ReconcileDeps {
  readonly clock: Clock
  readonly log: Log
  readonly signer: SignerPort
  readonly issuers: Issuers
  readonly issuance: Pick<IssuancePort, 'signatures'>
  readonly audit: Pick<AuditPort, 'append'>
}

export interface Reconciler {
  /** @returns the keys whose counts do not fit */
  run(): Promise<readonly string[]>
}

export const createReconciler = (deps: ReconcileDeps): Reconciler => {
  // What was said already: a standing difference is one leaf, a growing one is another.
  const reported = new Map<string, number>()
  return {
    run: async () => {
      const health = await deps.signer.health()
      if (health.state !== 'ready') return []
      const wrong: string[] = []
      for (const issuer of deps.issuers.online()) {
        const count = health.counts.find(each => each.key === issuer.keyLabel && each.purpose === 'leaf')
        const { recorded, doubtful } = deps.issuance.signatures(issuer.id)
        const total = count?.total ?? 0
        const certain = total - (count?.uncertain ?? 0)
        const difference = certain > recorded + doubtful ? certain - recorded - doubtful : Math.min(0, total - recorded)
        if (difference === 0) continue
        wrong.push(issuer.keyLabel)
        if (reported.get(issuer.keyLabel) === difference) continue
        reported.set(issuer.keyLabel, difference)
        const facts = { key: issuer.keyLabel, purpose: 'leaf', signer: total, ledger: recorded }
        deps.log.error(facts, 'the signer counts other signatures than the ledger has')
        await deps.audit.append([signerCountsMismatch({ at: deps.clock.now(), who: 'system' }, facts)])
      }
      return wrong
    },
  }
}
