// The agent of the demonstration: enrols by the AGENTCA_* paths, then calls the backend every 100 ms and says what it got, in JSON lines on
// stdout. Usage: agent.ts BACKEND_URL BACKEND_SPIFFE_ID
import { setTimeout as sleep } from 'node:timers/promises'
import { agentIdentity } from '../../src/agent/index.ts'

const [url, peer] = process.argv.slice(2)
if (url === undefined || peer === undefined) throw new Error('usage: agent.ts BACKEND_URL BACKEND_SPIFFE_ID')

const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...facts })}\n`)
}

// It does not stop by itself when it is revoked: the backend is what is shown here.
const identity = await agentIdentity({ watch: 'none' })
const { spiffeId, facts } = identity.current()
say('enrolled', { spiffeId, serial: facts.serial, notAfter: facts.notAfter })
process.once('SIGTERM', () => process.exit(0))
for (;;) {
  try {
    const answer = await identity.fetch(url, { peer })
    await answer.text()
    say('called', { status: answer.status })
  } catch (error) {
    // A call under way when its caller was revoked ends with its connection.
    say('cut', { reason: (error as Error).message })
  }
  await sleep(100)
}
