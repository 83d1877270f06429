// Which signatures of leaves go first, when the HSM is slower than what is asked of it.
import type { SignPriority } from '../signer/port.ts'
import type { IntentRecord } from '../store/ports.ts'
import type { IssuanceOperation } from './issuance.ts'

const priorities: Readonly<Record<IssuanceOperation, SignPriority>> = {
  enrol: 'enrol',
  issue: 'enrol',
  order: 'enrol',
  renew: 'renew',
  recover: 'renew',
}

/** An order renews where its lineage has a certificate already: who works has more to lose than who begins. */
export const priorityOf = (
  operation: IssuanceOperation,
  { predecessor }: Pick<IntentRecord, 'predecessor'>,
): SignPriority => (operation === 'order' && predecessor !== null ? 'renew' : priorities[operation])
