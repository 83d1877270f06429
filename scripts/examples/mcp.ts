// An MCP server whose tools are authorized for each agent, and an MCP client with an agent's identity.
import { join } from 'node:path'
import { agentcaJson, root } from '../demo/processes.ts'
import type { Stage } from './stage.ts'

const policies = join(root, 'examples/mcp/policies')

/** A set replaces the one in force: somebody else's stays. */
const applyPolicies = async (stage: Stage): Promise<void> => {
  const plan = await agentcaJson<{ differences: readonly { loses: readonly string[] }[] }>(
    'policy',
    'apply',
    policies,
    '--dry-run',
  )
  const losers = plan.differences.filter(({ loses }) => loses.length > 0)
  if (losers.length > 0)
    throw new Error(
      `policies are in force from which ${losers.length} registrations would lose: add ${policies} to them`,
    )
  await stage.operator('policy', 'apply', policies)
}

export const play = async (stage: Stage): Promise<void> => {
  const notes = await stage.service('notes')
  const server = stage.typescript('mcp/server.ts', notes)
  const { port } = await server.next(line => line.event === 'listening')
  stage.step(`the MCP server listens on 127.0.0.1:${port} as ${notes.spiffeId}`)

  await applyPolicies(stage)
  const agent = await stage.agent('reader', '--role', 'notes-reader')
  const client = stage.typescript('mcp/agent.ts', agent, `https://localhost:${port}/mcp`, notes.spiffeId)
  const [written, read] = await Promise.all([
    client.next(line => line.event === 'answered' && line.tool === 'write_note'),
    client.next(line => line.event === 'answered' && line.tool === 'read_notes'),
    server.next(line => line.event === 'session opened'),
  ])
  if (written.isError !== true) throw new Error('expected write_note to be refused to a reader')
  if (read.isError !== false) throw new Error(`expected read_notes to be allowed, got ${read.text}`)
  stage.step(`read_notes answers ${JSON.stringify(read.text)}; write_note: ${JSON.stringify(written.text)}`)

  const ended = server.next(line => line.event === 'session ended')
  const refused = client.next(line => line.event === 'refused')
  await stage.operator('revoke', '--agent', agent.name, '--reason', 'keyCompromise', '--confirm', '1', '--yes')
  await Promise.all([ended, refused])
  stage.step('its session ended at once, and its next call is refused')
}
