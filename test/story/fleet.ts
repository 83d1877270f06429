// Clients of a story: agents that enrol and renew through the SDK over the real API and keep every certificate they ever received,
// and operators at the admin socket. Whoever gets no answer asks again with the same key and token until there is one.
import { setTimeout as delay } from 'node:timers/promises'
import { systemTiming, type Timing, untilAnswered } from '../../src/agent/backoff.ts'
import type { Credential } from '../../src/agent/credential.ts'
import { enrol } from '../../src/agent/enrol.ts'
import { AgentError } from '../../src/agent/errors.ts'
import { renew } from '../../src/agent/renew.ts'
import type { RequestDeps } from '../../src/agent/request-identity.ts'
import { createMemoryStore } from '../../src/agent/store.ts'
import { CliError, ServerRefusal } from '../../src/cli/errors.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import type { StoryHome } from './ca-process.ts'
import type { Acknowledged, Evidence } from './invariants.ts'

/** Longer than any outage of a story; a client that runs out of it has found a fault. */
const patienceSeconds = 120

/** Real clocks; waits are short, so that an outage of a second is met by many attempts. */
const impatient = (waitMs: number): Timing => ({
  ...systemTiming,
  wait: (_, signal) => delay(waitMs * (0.5 + Math.random()), undefined, { signal }),
})

export type Outcome = 'answered' | { readonly refused: string }

export interface Member {
  readonly agent: string
  current(): Credential | null
  /** Forgets its identity. */
  leave(): void
  /** What to enrol with next. */
  join(token: { readonly id: string; readonly token: string }): void
  /** Enrols, or renews what it has. @throws AgentError when patience ran out, or for what is neither an answer nor a refusal */
  act(): Promise<Outcome>
}

export interface FleetDeps {
  readonly home: StoryHome
  readonly evidence: Evidence
  readonly signal: AbortSignal
  /** About how long to wait between two attempts. */
  readonly retryMs: number
  /** Told of each attempt that will be repeated. */
  readonly onRetry?: (error: AgentError) => void
}

export const createMember = (deps: FleetDeps, agent: string): Member => {
  const { home, evidence, signal, onRetry = () => {} } = deps
  const url = home.report.urls.api
  const timing = impatient(deps.retryMs)
  let credential: Credential | null = null
  let evidenceToken: { readonly id: string; readonly token: string } | null = null
  let store = createMemoryStore()

  const requestDeps = (): RequestDeps => {
    const tokenId = credential === null ? (evidenceToken?.id ?? null) : null
    return {
      timing,
      signal,
      keyAlgorithm: 'P-256',
      store: {
        ...store,
        save: async answered => {
          evidence.received.push({ der: parseOnePem(answered.certificatePem, 'CERTIFICATE'), tokenId })
          await store.save(answered)
        },
      },
    }
  }
  const attempt = (): Promise<Credential> => {
    if (credential !== null) return renew({ ...requestDeps(), url, recoveryRoots: async roots => roots }, credential)
    if (evidenceToken === null) throw new Error(`${agent} has nothing to enrol with`)
    const { token } = evidenceToken
    return enrol(requestDeps(), { url, anchors: { caFile: home.rootFile }, token, service: null })
  }
  return {
    agent,
    current: () => credential,
    leave: () => {
      credential = null
      store = createMemoryStore()
    },
    join: token => {
      evidenceToken = token
    },
    act: async () => {
      try {
        credential = await untilAnswered(timing, { patienceSeconds, signal, onRetry }, attempt)
        return 'answered'
      } catch (error) {
        if (error instanceof AgentError && error.origin === 'ca' && error.status !== null && error.status < 500)
          return { refused: error.code }
        throw error
      }
    },
  }
}

/** Not there, broken off, or for now unable: an operator asks again. */
const isPassing = (error: unknown): boolean =>
  (error instanceof CliError && ['server_not_running', 'server_unreachable'].includes(error.code)) ||
  (error instanceof ServerRefusal && error.problem.status === 503)

/** Repeats what an operator does until it is answered. */
export const insist = async <T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
  const deadline = performance.now() + patienceSeconds * 1000
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isPassing(error) || performance.now() > deadline) throw error
      await delay(50, undefined, { signal })
    }
  }
}

export const createToken = async ({ home, evidence, signal }: FleetDeps, agent: string, uses = 1) => {
  const created = await insist(signal, () =>
    home.admin.call('tokensCreate', { body: { kind: 'agent', name: agent, ttlSeconds: 86_400, uses } }),
  )
  evidence.tokens.set(created.id, { uses })
  return created
}

export const registerAgent = ({ home, signal }: FleetDeps, name: string): Promise<unknown> =>
  insist(signal, () => home.admin.call('agentsCreate', { body: { name, owner: 'stories', instances: 100_000 } }))

/** Resolves with the answer, which is evidence from then on. */
export const revoke = async (
  { home, evidence, signal }: FleetDeps,
  { by, value }: Pick<Acknowledged, 'by' | 'value'>,
): Promise<Acknowledged> => {
  const answer = await insist(signal, () => home.admin.call('revoke', { body: { by, value, reason: 'keyCompromise' } }))
  if (answer.feed === null) throw new Error('a revocation without its place in the feed')
  const acknowledged = { by, value, serials: answer.radius.serials, feed: answer.feed }
  evidence.acknowledged.push(acknowledged)
  return acknowledged
}
