// A backend of the policy story, a process of its own: one route that looks a scope up, one that asks the policies about the very call.
// It prints its address, and ends with its standard input.
import type { AddressInfo } from 'node:net'
import { agentIdentity } from '../../src/agent/index.ts'
import { agentVerifier, type WithAgent } from '../../src/verifier/index.ts'

const [, , url, caFingerprint, tokenFile, stateDirectory] = process.argv as string[] as [
  string,
  string,
  string,
  string,
  string,
  string,
]
const identity = await agentIdentity({ url, caFingerprint, tokenFile, service: 'orders' })
const verifier = await agentVerifier({
  identity,
  onStale: 'refuse',
  maxStaleness: '5m',
  conditions: true,
  stateDirectory,
})
await verifier.ready()
const reads = verifier.require('orders:read')
const refunds = verifier.require('orders:refund', (request: { url: string }) => {
  const { searchParams } = new URL(request.url, 'https://orders')
  return {
    resource: { id: searchParams.get('order') ?? '', attributes: { region: searchParams.get('region') ?? 'eu' } },
    context: { amount: Number(searchParams.get('amount')) },
  }
})
const server = verifier.createServer((request, response) => {
  const handler = request.url?.startsWith('/refunds') ? refunds : reads
  handler(request, response, () => response.end((request as WithAgent).agent?.scopes.join(' ')))
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
})
process.stdin.resume().on('end', () => process.exit(0))
