// The backend of the demonstration: an mTLS server under an identity of its own whose every call is judged by `agentca/verifier`, which hears
// of revocations by the CA's feed. Says what happens in JSON lines on stdout. Its AGENTCA_* paths say who it is.
import type { AddressInfo } from 'node:net'
import { agentIdentity } from '../../src/agent/index.ts'
import { agentVerifier, type WithAgent } from '../../src/verifier/index.ts'

const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...facts })}\n`)
}

const identity = await agentIdentity({ service: 'demo-backend' })
const verifier = await agentVerifier({
  identity,
  onStale: 'refuse',
  maxStaleness: '5m',
  onRefused: ({ rule, peer }) => say('refused', { rule, peer }),
})
await verifier.ready()
const judge = verifier.express()
const server = verifier.createServer((request: WithAgent, response) => {
  judge(request, response, () => response.end(`hello ${request.agent?.agent}\n`))
})
server.listen(0, '127.0.0.1', () => say('listening', { port: (server.address() as AddressInfo).port }))
process.once('SIGTERM', () => process.exit(0))
