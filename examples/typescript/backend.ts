// A backend that knows who calls. Who may not call is answered before a handler runs, and a caller that is revoked loses its open
// connections too. Where its identity comes from stands in AGENTCA_URL, AGENTCA_CA_FILE and AGENTCA_TOKEN_FILE (paths, no secrets).
import { agentIdentity } from 'agentca/agent'
import { agentVerifier } from 'agentca/verifier'
import express from 'express'

const identity = await agentIdentity({ service: 'orders' })
const verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
await verifier.ready()

const app = express()
app.use(verifier.express())
app.get('/whoami', (request, response) => {
  response.json({ spiffeId: request.agent?.spiffeId })
})
app.get('/orders', verifier.require('orders:read'), (_request, response) => {
  response.json([{ order: 1, item: 'tea' }])
})

const server = verifier.createServer(app)
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ event: 'listening', port: (server.address() as { port: number }).port })}\n`)
})
