// A verifier that evaluates conditions while the CA is out of its reach: that other policies are in force it hears by the published state,
// and remembers; it does not go on by the old ones.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AgentIdentity } from '../../src/agent/index.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { servedPolicies } from '../../src/policy/cedar-served.ts'
import { type AgentVerifier, agentVerifier } from '../../src/verifier/verifier.ts'
import type { PrincipalEntry } from '../../src/verify/feed-event.ts'
import { madeCredential } from '../agent/made-credential.ts'
import { createTiming, type TestTiming } from '../agent/timing.ts'
import { evaluatorOf } from '../policy/cedar-world.ts'
import { until } from '../story/until.ts'
import { caId, epoch, logKeyPem, type Mirror, publicationOf, snapshotEvent, startMirror } from './publication.ts'

const made = madeCredential(1)
const chain = parsePem(made.certificatePem, 'CERTIFICATE')
const caller: PrincipalEntry = {
  ...{ kind: 'agent', name: 'made', state: 'active', version: 1, roles: [], attributes: {}, scopes: [] },
  ...{ owner: null, profile: 'agent' },
}
const old = { version: 1, hash: 'one' }
const other = { version: 2, hash: 'two' }
const statements = { 1: 'permit(principal, action, resource);', 2: 'forbid(principal, action, resource);' }

let timing: TestTiming
let mirror: Mirror
let directory: string
let verifier: AgentVerifier
let answered: typeof old | null

const identity = {
  current: () => ({ ...made, facts: { ...made.facts, caId, logKey: logKeyPem } }),
  onChange: () => () => {},
  fetch: async (url: string, { signal }: { signal: AbortSignal }) => {
    if (url.endsWith('/v1/policies')) {
      if (answered === null) throw new Error('out of reach')
      const policies = evaluatorOf(statements[answered.version as 1 | 2]).policies
      return new Response(
        JSON.stringify(servedPolicies({ id: answered.version, hash: answered.hash }, policies, 'orders')),
      )
    }
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  },
} as unknown as AgentIdentity

const start = async (): Promise<void> => {
  const options = { identity, onStale: 'refuse', maxStaleness: '5m', report: 'nothing', conditions: true } as const
  verifier = await agentVerifier({ ...options, stateDirectory: directory, statusUrl: mirror.url }, { timing })
}
const outcome = (): string => {
  try {
    verifier.verifyChain(chain, { conditional: { action: 'orders:read' } })
    return 'allowed'
  } catch (error) {
    return (error as { code: string }).code
  }
}
const snapshot = (n: number, policies: typeof old) => ({
  ...snapshotEvent(n, 0, timing.clock.now()),
  principals: [caller],
  policies,
})
const known = (n: number) =>
  until('the published state', () => {
    timing.advance(1000)
    return verifier.status().position === `${epoch}.${n}` && verifier.status().freshness.rung === 'published'
  })

beforeEach(async () => {
  timing = createTiming()
  mirror = await startMirror()
  directory = mkdtempSync(join(tmpdir(), 'agentca-policy-news-'))
  answered = old
  await start()
  mirror.show(publicationOf({ at: timing.clock.now(), snapshot: snapshot(3, old) }).files)
  await known(3)
  await verifier.ready()
  expect(outcome()).toBe('allowed')
  answered = null
})
afterEach(async () => {
  await verifier[Symbol.asyncDispose]()
  await mirror[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const changed = (how: 'a change' | 'a snapshot'): void => {
  const at = timing.clock.now() + 1
  const event = { type: 'policy', position: { epoch, n: 4 }, at, ...other } as const
  const published =
    how === 'a change' ? { snapshot: snapshot(3, old), changes: [event] } : { snapshot: snapshot(4, other) }
  mirror.show(publicationOf({ at, ...published }).files)
}

describe('other policies in force', () => {
  it.each(['a change', 'a snapshot'] as const)('that %s of the published state tells end the old ones', async how => {
    changed(how)
    await known(4)
    timing.advance(1001)
    expect(outcome()).toBe('state_stale')
    answered = other
    await until('the new policies', () => {
      timing.advance(1000)
      return outcome() === 'condition_failed'
    })
  })

  it('that were known of are so after a restart too, whatever is kept of the old ones', async () => {
    changed('a change')
    await known(4)
    await verifier[Symbol.asyncDispose]()
    await start()
    expect(verifier.status().position).toBe(`${epoch}.4`)
    timing.advance(1001)
    expect(outcome()).toBe('state_stale')
  })
})
