// An agent in Python (`ssl`, `requests`) that calls the backend in TypeScript.
import { join } from 'node:path'
import { root } from '../demo/processes.ts'
import { keepFiles } from './files.ts'
import { revokeWhileCalling, startOrders } from './orders.ts'
import type { Stage } from './stage.ts'

export const play = async (stage: Stage): Promise<void> => {
  const orders = await startOrders(stage)
  const agent = await stage.agent('snake')
  const directory = await keepFiles(stage, agent)
  const program = join(root, 'examples/python/agent.py')
  const caller = stage.program(agent.name, ['python3', program, directory, orders.url, orders.spiffeId])
  await revokeWhileCalling(stage, agent, caller)
}
