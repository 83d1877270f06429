// An agent with an identity of its own: enrols when it starts, renews by itself, and knows by its SPIFFE ID whom it talks to.
// Usage: agent.ts URL SPIFFE_ID_OF_THE_BACKEND
import { setTimeout as sleep } from 'node:timers/promises'
import { agentIdentity } from 'agentca/agent'

const [url, peer] = process.argv.slice(2) as [string, string]
await using identity = await agentIdentity()

const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`)
}

try {
  for (;;) {
    const answer = await identity.fetch(url, { peer })
    say('called', { status: answer.status, body: await answer.text() })
    await sleep(100)
  }
} catch (error) {
  // A revoked agent hears of it from the CA and stops here, even before a backend refuses it.
  say('refused', { reason: (error as Error).message })
}
