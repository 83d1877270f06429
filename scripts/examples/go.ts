// An agent and a backend in Go, with the standard library alone.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../demo/processes.ts'
import { keepFiles } from './files.ts'
import { revokeWhileCalling } from './orders.ts'
import type { Stage } from './stage.ts'

const build = async (stage: Stage, name: string): Promise<string> => {
  const program = join(stage.directory, `go-${name}`)
  await promisify(execFile)('go', ['build', '-o', program, `./${name}`], { cwd: join(root, 'examples/go') })
  return program
}

export const play = async (stage: Stage): Promise<void> => {
  const [backend, caller] = [await build(stage, 'backend'), await build(stage, 'agent')]
  const service = await stage.service('stock')
  const directory = await keepFiles(stage, service)
  const server = stage.program('stock', [backend, directory, stage.status])
  const { port } = await server.next(line => line.event === 'listening')
  stage.step(`the backend in Go listens on 127.0.0.1:${port} as ${service.spiffeId}`)
  const agent = await stage.agent('gopher')
  const files = await keepFiles(stage, agent)
  const program = stage.program(agent.name, [caller, files, `https://localhost:${port}/`, service.spiffeId])
  await revokeWhileCalling(stage, agent, program)
}
