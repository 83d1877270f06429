// A backend of the fleet story, a process of its own: what `agentca/verifier` gives, and routes of which some need what nobody has.
// Arguments: URL of the CA, file of its roots, file of a join token, name of the service, name of this replica.
import type { AddressInfo } from 'node:net'
import { agentIdentity } from '../../src/agent/index.ts'
import { agentVerifier, type WithAgent } from '../../src/verifier/index.ts'

const [url, caFile, tokenFile, service, subscriber] = process.argv.slice(2) as [string, string, string, string, string]
const identity = await agentIdentity({ url, caFile, tokenFile, service })
const verifier = await agentVerifier({ identity, subscriber, onStale: 'refuse', maxStaleness: '5m' })
await verifier.ready()

const anyAgent = verifier.express()
const server = verifier.createServer((request, response) => {
  const [, first = '', second = ''] = (request.url ?? '').split('/')
  const handler = first === 'scoped' ? verifier.require(`${second}:write`) : anyAgent
  handler(request, response, () => {
    if (first !== 'events') return void response.end((request as WithAgent).agent?.agent)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': open\n\n')
  })
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))

process.once('SIGTERM', () => {
  server.closeAllConnections()
  server.close()
  void verifier[Symbol.asyncDispose]()
    .then(() => identity[Symbol.asyncDispose]())
    .then(() => process.exit(0))
})
