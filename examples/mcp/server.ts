// An MCP server (streamable HTTP over mTLS) whose tools are authorized for each agent and each call: a session belongs to the agent instance
// that opened it, a tool asks for a scope when it is called, and a revoked agent's session ends at once.
// Its identity comes by AGENTCA_URL, AGENTCA_CA_FILE and AGENTCA_TOKEN_FILE (paths, no secrets).
import { randomUUID } from 'node:crypto'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { agentIdentity } from 'agentca/agent'
import { agentVerifier, type RequestAgent } from 'agentca/verifier'
import express, { type Request, type Response } from 'express'
import * as z from 'zod'

const identity = await agentIdentity({ service: 'notes' })
const verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
await verifier.ready()

const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...facts })}\n`)
}
const text = (said: string): CallToolResult => ({ content: [{ type: 'text', text: said }] })

const notes: string[] = ['the kettle is on']

/** The tools as one agent sees them; `agent` is who calls now, with the scopes of this very request. */
const toolsFor = (): McpServer => {
  const server = new McpServer({ name: 'notes', version: '1.0.0' })
  const tool = <A extends z.ZodRawShape>(
    name: string,
    scope: string,
    inputSchema: A,
    run: (input: z.infer<z.ZodObject<A>>) => CallToolResult,
  ): void => {
    server.registerTool(name, { inputSchema }, ((
      input: z.infer<z.ZodObject<A>>,
      extra: { authInfo?: { scopes: string[] } },
    ) => {
      if (!extra.authInfo?.scopes.includes(scope))
        return { ...text(`not allowed: ${name} needs ${scope}`), isError: true }
      return run(input)
    }) as never)
  }
  tool('read_notes', 'notes:read', {}, () => text(notes.join('\n')))
  tool('write_note', 'notes:write', { note: z.string().max(1000) }, ({ note }) => {
    notes.push(note)
    return text('written')
  })
  return server
}

interface Session {
  readonly owner: string
  readonly transport: StreamableHTTPServerTransport
  readonly end: () => void
}
const sessions = new Map<string, Session>()

const open = async (agent: RequestAgent): Promise<Session> => {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: id => {
      sessions.set(id, session)
      say('session opened', { session: id, agent: agent.spiffeId })
    },
  })
  const session: Session = { owner: agent.spiffeId, transport, end: () => void transport.close() }
  transport.onclose = () => {
    agent.signal.removeEventListener('abort', session.end)
    const id = transport.sessionId
    if (id !== undefined && sessions.delete(id)) say('session ended', { session: id, agent: agent.spiffeId })
  }
  await toolsFor().connect(transport as never)
  return session
}

const handle = async (request: Request, response: Response): Promise<void> => {
  const agent = request.agent!
  const id = request.headers['mcp-session-id']
  const known = typeof id === 'string' ? sessions.get(id) : undefined
  if (id !== undefined && known?.owner !== agent.spiffeId) {
    // Another agent's session looks like none.
    response.status(404).json({ jsonrpc: '2.0', error: { code: -32001, message: 'session not found' }, id: null })
    return
  }
  const { transport, end } = known ?? (await open(agent))
  // The same signal for every call of this agent: the listener is there once, and the session ends whatever connection is open then.
  agent.signal.addEventListener('abort', end, { once: true })
  const auth = { token: '', clientId: agent.spiffeId, scopes: [...agent.scopes], extra: { agent } }
  await transport.handleRequest(Object.assign(request, { auth }), response, request.body)
}

const app = express()
app.use(verifier.express())
app.use(express.json({ limit: '64kb' }))
app.all('/mcp', handle)

const server = verifier.createServer(app)
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  say('listening', { port: (server.address() as { port: number }).port })
})
