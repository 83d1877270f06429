// `npm run example -- NAME`: one of `examples/`, played to its end: a backend, an agent that calls it, an operator who revokes the agent,
// and the call that is refused. Exit code 0 only if all of it happened.
import { startCa } from '../demo/authority.ts'
import { CommandFailed } from '../demo/processes.ts'
import { createStage, type Stage, step } from './stage.ts'

const examples = ['typescript', 'python', 'go', 'nginx', 'mcp'] as const

const [name = ''] = process.argv.slice(2)
const known = examples.find(each => each === name)
if (known === undefined) {
  process.stderr.write(`agentca: no example ${JSON.stringify(name)}: expected one of ${examples.join(', ')}\n`)
  process.exit(2)
}

const main = async (): Promise<void> => {
  const ca = await startCa(step)
  try {
    await using stage = createStage(ca, known)
    const { play } = (await import(`./${known}.ts`)) as { readonly play: (stage: Stage) => Promise<void> }
    await play(stage)
  } finally {
    await ca.server?.stop()
  }
}

process.once('SIGTERM', () => process.exit(143))
main().catch((error: Error) => {
  process.stderr.write(`agentca: ${error.message}\n`)
  process.exit(error instanceof CommandFailed ? error.code : 1)
})
