// The service registration under which this CA shows itself (`service/agentca`). Whoever held an identity of that name could pose as the
// CA to its agents, so operators get no tokens and no certificates for it, and cannot end it.
import { CaError } from './errors.ts'
import type { Subject } from './registration-change.ts'

export const ownServiceName = 'agentca'

export const isOwnService = ({ kind, name }: Subject): boolean => kind === 'service' && name === ownServiceName

/** @throws CaError `conflict` */
export const refuseOwnService = (subject: Subject): void => {
  if (!isOwnService(subject)) return
  throw new CaError('conflict', `service ${ownServiceName} is this CA itself`, {
    hint: 'its certificate is made and renewed by the server',
  })
}
