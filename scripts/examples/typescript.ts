// An agent and a backend in TypeScript, by `agentca/agent` and `agentca/verifier`.
import { revokeWhileCalling, startOrders } from './orders.ts'
import type { Stage } from './stage.ts'

export const play = async (stage: Stage): Promise<void> => {
  const orders = await startOrders(stage)
  const agent = await stage.agent('shopper')
  const caller = stage.typescript('typescript/agent.ts', agent, orders.url, orders.spiffeId)
  await revokeWhileCalling(stage, agent, caller)
}
