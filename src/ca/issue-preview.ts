// What an issuance would give, without giving it: steps 1 to 3 of ISSUANCE.md with the same code, and nothing recorded.
import type { Clock } from '../base/clock.ts'
import { checkCertificationRequestSignature, parseCertificationRequest } from '../pki/csr.ts'
import { spkiHashHex } from '../pki/spki.ts'
import type { IssuancePort } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import { decideIssuance } from './decide-issuance.ts'
import { CaError } from './errors.ts'
import type { Drafter, IssuanceRequest, LintedDraft } from './issuance.ts'

export interface PreviewDeps {
  readonly clock: Clock
  readonly issuance: Pick<IssuancePort, 'facts'>
  readonly drafter: Drafter
  readonly caId: string
}

export interface IssuancePreview {
  readonly registration: Registration
  readonly draft: LintedDraft
}

/** Stands in SPIFFE IDs where the id of an instance will be. */
export const previewInstanceId = 'new'

export type PreviewIssuance = (request: Omit<IssuanceRequest, 'context'>) => IssuancePreview

/** @throws as Issuance.issue does before step 4 */
export const createPreviewIssuance =
  (deps: PreviewDeps): PreviewIssuance =>
  ({ operation, evidence, csr: der }) => {
    const now = deps.clock.now()
    const csr = parseCertificationRequest(der)
    const keyHash = spkiHashHex(csr.spki.der)
    const facts = deps.issuance.facts({ evidence, keyHash, now })
    const { registration } = facts
    if (registration === null) throw new CaError('registration_not_found', 'nobody is registered for this evidence')
    const rules = deps.drafter.rules(registration)
    const decision = decideIssuance(facts, { operation, keyHash, caId: deps.caId, now, rules })
    if (decision.act === 'refuse') {
      const { code, message, hint, facts: why } = decision.refusal
      throw new CaError(code, message, { facts: why, ...(hint === undefined ? {} : { hint }) })
    }
    if (decision.act !== 'start' && decision.act !== 'continue')
      throw new CaError('conflict', 'this request was answered before; it would get the same certificate again')
    checkCertificationRequestSignature(csr)
    const instanceId = decision.act === 'continue' ? decision.instance.id : previewInstanceId
    return { registration, draft: deps.drafter.draft({ registration, instanceId, csr, now }) }
  }
