// An agent that renews a thousand times while its calls flow over the clients that the SDK gives, to a backend behind the verifier: none
// may fail. Its calls are held against the same calls by bare clients whose certificate stays, right behind each round.
import { execFile } from 'node:child_process'
import { cpSync, writeFileSync } from 'node:fs'
import { type Agent as HttpsAgent, Agent as PlainHttpsAgent, request } from 'node:https'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { type Dispatcher, Agent as UndiciAgent, fetch as undiciFetch } from 'undici'
import { systemTiming } from '../../src/agent/backoff.ts'
import { type AgentIdentity, agentIdentity } from '../../src/agent/identity.ts'
import { messageOf } from '../../src/base/errors.ts'
import { root } from '../demo/processes.ts'
import type { Bench } from './bench.ts'
import type { Run } from './figure.ts'
import { startProgram } from './programs.ts'
import type { VerifyJob, VerifyResult } from './verify-server.ts'
import { type CaHome, makeHome, serve } from './world.ts'

/** The shortest life that a profile may give. */
const fastProfile = 'kind: agent\nlifetime: 5m\n'
const peer = 'spiffe://agentca.local/service/bench-backend'
/** Calls that are under way at once, by each client. */
const concurrency = 4

const tokenFor = async (
  home: CaHome,
  kind: 'agent' | 'service',
  name: string,
  ...create: string[]
): Promise<string> => {
  const agentca = (...args: string[]) =>
    promisify(execFile)(join(root, 'bin/agentca'), args, { env: { ...process.env, ...home.env } })
  const file = join(home.paths.home, `${name}.token`)
  await agentca(kind, 'create', name, ...create)
  await agentca('token', 'create', `--${kind}`, name, '--file', file)
  return file
}

/** One call, its status. */
type Call = (url: string) => Promise<number>

const callsBy = (dispatcher: Dispatcher, agent: HttpsAgent): readonly Call[] => [
  async url => {
    const answer = await undiciFetch(url, { dispatcher })
    await answer.text()
    return answer.status
  },
  url =>
    new Promise((resolve, reject) => {
      request(url, { agent }, answer => {
        text(answer).then(() => resolve(answer.statusCode ?? 0), reject)
      })
        .on('error', reject)
        .end()
    }),
]

interface Flow {
  readonly answered: number
  readonly failures: readonly string[]
  readonly seconds: number
}

/** Calls by all clients, as long as the work goes on. */
const flowing = async (calls: readonly Call[], url: string, work: () => Promise<unknown>): Promise<Flow> => {
  const failures: string[] = []
  let [going, answered] = [true, 0]
  const caller = async (call: Call): Promise<void> => {
    while (going)
      try {
        const status = await call(url)
        if (status === 200) answered++
        else failures.push(`status ${status}`)
      } catch (error) {
        failures.push(messageOf(error instanceof Error ? (error.cause ?? error) : error))
      }
  }
  const begun = performance.now()
  const callers = calls.flatMap(call => Array.from({ length: concurrency }, () => caller(call)))
  try {
    await work()
  } finally {
    going = false
    await Promise.all(callers)
  }
  return { answered, failures, seconds: (performance.now() - begun) / 1000 }
}

const renewTimes = async (id: AgentIdentity, times: number): Promise<void> => {
  for (let i = 0; i < times; i++) await id.renew()
}

/** The same clients as anybody makes them, with the certificate of this moment. */
const bareCalls = (id: AgentIdentity) => {
  const { key, cert, ca } = id.tlsOptions({ peer })
  const tls = {
    key,
    cert,
    ca,
    minVersion: 'TLSv1.3',
    maxCachedSessions: 0,
    checkServerIdentity: () => undefined,
  } as const
  const dispatcher = new UndiciAgent({ allowH2: false, connect: tls })
  const agent = new PlainHttpsAgent({ keepAlive: true, ...tls })
  return {
    calls: callsBy(dispatcher, agent),
    [Symbol.asyncDispose]: async () => {
      agent.destroy()
      await dispatcher.destroy()
    },
  }
}

export const agentRenew: Bench = {
  name: 'agent-renew',
  metrics: ['failedRequests', 'requestsPerSecond', 'renewalsPerSecond'],
  run: async context => {
    const { rounds, perRound } = context.quick ? { rounds: 2, perRound: 25 } : { rounds: 5, perRound: 200 }
    const home = await makeHome(join(context.directory, 'agent-renew'))
    const profiles = join(context.directory, 'profiles')
    cpSync(join(root, 'ca-config/profiles'), profiles, { recursive: true })
    writeFileSync(join(profiles, 'agent-fast.yaml'), fastProfile)
    const env = { AGENTCA_PROFILES: profiles, AGENTCA_ISSUANCE_PERINSTANCE_PERMINUTE: '10000000' }
    await using ca = await serve(home, env)
    const roots = { url: `https://${ca.api.host}:${ca.api.port}`, caFile: join(ca.paths.issuers, 'root-1.pem') }
    await using backend = startProgram<VerifyJob, VerifyResult>('verify-server')
    const serviceToken = await tokenFor(home, 'service', 'bench-backend', '--dns', 'localhost')
    const { port } = await backend.run({ kind: 'verified', ...roots, tokenFile: serviceToken })
    const url = `https://127.0.0.1:${port}/`
    const tokenFile = await tokenFor(home, 'agent', 'renewing', '--owner', 'bench', '--profile', 'agent-fast')
    await using id = await agentIdentity({ ...roots, tokenFile }, { env: {}, timing: systemTiming })
    const calls = callsBy(id.dispatcher({ peer }), id.httpsAgent({ peer }))

    const [speed, failed, pace]: [Run[], Run[], Run[]] = [[], [], []]
    await flowing(calls, url, () => renewTimes(id, 5))
    for (let round = 0; round < rounds; round++) {
      const before = id.current().facts.generation
      const ours = await flowing(calls, url, () => renewTimes(id, perRound))
      const renewals = id.current().facts.generation - before
      await using bare = bareCalls(id)
      const still = await flowing(
        bare.calls,
        url,
        () => new Promise(resolve => setTimeout(resolve, ours.seconds * 1000)),
      )
      const begun = performance.now()
      await renewTimes(id, 20)
      const alone = 20 / ((performance.now() - begun) / 1000)
      speed.push({ value: ours.answered / ours.seconds, limitValue: still.answered / still.seconds })
      failed.push({ value: ours.failures.length, limitValue: ours.answered })
      pace.push({ value: renewals / ours.seconds, limitValue: alone })
      for (const reason of new Set(ours.failures)) context.say(`a call failed: ${reason}`)
    }
    context.say(
      `${rounds * perRound} renewals, ${failed.reduce((sum, { limitValue }) => sum + limitValue, 0)} calls meanwhile`,
    )
    context.found({ metric: 'failedRequests', unit: '', limit: 'calls of the round', runs: failed })
    context.found({
      metric: 'requestsPerSecond',
      unit: '/s',
      limit: 'bare clients whose certificate stays',
      runs: speed,
    })
    context.found({ metric: 'renewalsPerSecond', unit: '/s', limit: 'renewals without calls', runs: pace })
  },
}
