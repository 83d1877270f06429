// The backend that several examples call: examples/typescript/backend.ts.

import type { Line, Speaker } from '../demo/processes.ts'
import type { Participant, Stage } from './stage.ts'

export interface Orders extends Participant {
  readonly url: string
}

export const startOrders = async (stage: Stage): Promise<Orders> => {
  const service = await stage.service('orders')
  const { port } = await stage.typescript('typescript/backend.ts', service).next(line => line.event === 'listening')
  stage.step(`the backend listens on 127.0.0.1:${port} as ${service.spiffeId}`)
  // By its name: what its certificate has beside the SPIFFE ID.
  return { ...service, url: `https://localhost:${port}/whoami` }
}

const isRefusal = ({ event, status }: Line): boolean =>
  event === 'refused' || (event === 'called' && (status === 401 || status === 403))

/** The agent calls until it is refused: revokes it after the first answer and waits for the end. */
export const revokeWhileCalling = async (stage: Stage, agent: Participant, caller: Speaker): Promise<void> => {
  const refused = caller.next(isRefusal)
  refused.catch(() => {})
  const first = await caller.next(line => line.event === 'called')
  if (first.status !== 200)
    throw new Error(`expected the first call to be answered, got ${first.status}: ${first.body}`)
  stage.step(`the agent calls and is answered: ${String(first.body).trim()}`)
  await stage.operator('revoke', '--agent', agent.name, '--reason', 'keyCompromise', '--confirm', '1', '--yes')
  const { status, reason } = await refused
  stage.step(`its next call is refused: ${status ?? reason}`)
}
