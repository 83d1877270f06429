// The files of an agent in any language, kept by `agentca-agent run`.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { root } from '../demo/processes.ts'
import type { Participant, Stage } from './stage.ts'

/** @returns the directory, once the first files are there */
export const keepFiles = async (stage: Stage, agent: Participant): Promise<string> => {
  const directory = join(stage.directory, agent.name)
  const evidence = ['--url', stage.api, '--ca-file', stage.caFile, '--token-file', agent.tokenFile]
  const keeper = stage.program(`${agent.name}-files`, [
    join(root, 'bin/agentca-agent'),
    'run',
    ...evidence,
    '--dir',
    directory,
  ])
  for (let tries = 0; !existsSync(join(directory, 'credential-bundle.pem')); tries++) {
    if (tries === 300 || keeper.child.exitCode !== null)
      throw new Error(`no files in ${directory}: see ${stage.directory}`)
    await sleep(100)
  }
  stage.step('agentca-agent keeps its files: one symlink swap with every renewal')
  return directory
}
