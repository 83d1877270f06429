// An MCP client that calls tools with its agent's identity. Usage: agent.ts URL SPIFFE_ID_OF_THE_SERVER
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { agentIdentity } from 'agentca/agent'

const [url, peer] = process.argv.slice(2) as [string, string]
const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...facts })}\n`)
}

await using identity = await agentIdentity()
const client = new Client({ name: 'agent', version: '1.0.0' })
// The one line that matters: every request of the transport goes out with the agent's identity, to this server and no other.
const fetch = (to: string | URL, init?: RequestInit) => identity.fetch(to, { ...init, peer } as never) as Promise<never>
await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch }) as never)

const call = async (name: string, input: Record<string, unknown>): Promise<void> => {
  // An answer that was cut off never comes: whoever is revoked need not wait for it.
  const options = { signal: identity.signal, timeout: 10_000 }
  const answer = await client.callTool({ name, arguments: input }, undefined, options)
  const [first] = answer.content as readonly { readonly text: string }[]
  say('answered', { tool: name, isError: answer.isError === true, text: first?.text })
}

await call('write_note', { note: 'the agent was here' })
try {
  for (;;) {
    await call('read_notes', {})
    await sleep(100)
  }
} catch (error) {
  say('refused', { reason: (error as Error).message })
}
process.exit(0)
