// From an operator's revocation to the end of every connection that the agent has: ten backends in processes of their own, each with a
// connection of each kind to it, beside a thousand other readers of the feed.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench, BenchContext } from './bench.ts'
import type { BackendJob, BackendPorts } from './cut-backend.ts'
import { type Kind, kinds, now, openConnections } from './cut-connections.ts'
import { prepareEnrolments } from './enrolments.ts'
import type { ClientCredential } from './exchange.ts'
import { serviceCredential } from './feed.ts'
import type { ReadersJob, ReadersResult } from './feed-readers.ts'
import { quantile } from './figure.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

/** What agents and operators are promised. */
const allowedMs = 100

interface Agent {
  readonly credential: ClientCredential
  readonly serial: string
}

const enrolAgents = async (ca: RunningCa, count: number): Promise<readonly Agent[]> => {
  await using load = startProgram<LoadJob, LoadResult>('load')
  const enrolments = await prepareEnrolments(ca, count)
  const requests = enrolments.map(({ request }) => request)
  // One at a time: answers come in the order of their keys.
  const job = { kind: 'each', target: ca.api, concurrency: 1, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  return bodies.map((body, at) => {
    const { serial, certificate, chain } = JSON.parse(body) as Record<'serial' | 'certificate' | 'chain', string>
    const key = enrolments[at]!.key.export({ type: 'pkcs8', format: 'pem' }) as string
    return { serial, credential: { key, cert: certificate + chain } }
  })
}

const startBackend = async (
  ca: RunningCa,
  program: Program<BackendJob, BackendPorts>,
  { directory, name }: { readonly directory: string; readonly name: string },
): Promise<BackendPorts> => {
  await ca.admin.call('servicesCreate', { body: { name, dns: ['localhost'] } })
  const { token } = await ca.admin.call('tokensCreate', { body: { kind: 'service', name } })
  const tokenFile = join(directory, `${name}.token`)
  writeFileSync(tokenFile, token, { mode: 0o600 })
  const { host, port } = ca.api
  return program.run({ url: `https://${host}:${port}`, caFile: join(ca.paths.issuers, 'root-1.pem'), tokenFile })
}

/** @returns milliseconds from the revocation to the last cut, by kind */
const revokeOne = async (
  ca: RunningCa,
  backends: readonly BackendPorts[],
  agent: Agent,
): Promise<ReadonlyMap<Kind, number>> => {
  const ends = { credential: agent.credential, ca: ca.bundlePem }
  const opened = (await Promise.all(backends.map(ports => openConnections({ ...ends, ports })))).flat()
  const begun = now()
  await ca.admin.call('revoke', { body: { by: 'serial', value: agent.serial, reason: 'keyCompromise' } })
  const last = new Map<Kind, number>()
  for (const { kind, cutAt } of opened) last.set(kind, Math.max(last.get(kind) ?? 0, (await cutAt) - begun))
  return last
}

const report = (context: BenchContext, done: readonly ReadonlyMap<Kind, number>[]): void => {
  for (const kind of kinds) {
    const times = done.map(each => each.get(kind) as number)
    const [median, p99] = [quantile(times, 0.5), quantile(times, 0.99)]
    context.say(`cut: ${kind}: all backends within ${median.toFixed(1)} ms (median), ${p99.toFixed(1)} ms (p99)`)
  }
  const everything = done.map(each => Math.max(...each.values()))
  context.found({
    metric: 'everywhereMsP99',
    unit: 'ms',
    limit: `the ${allowedMs} ms that are allowed, ${done.length} revocations`,
    runs: [{ value: quantile(everything, 0.99), limitValue: allowedMs }],
  })
}

export const cut: Bench = {
  name: 'cut',
  metrics: ['everywhereMsP99'],
  run: async context => {
    const { backends, readers, revocations } = context.quick
      ? { backends: 3, readers: 50, revocations: 10 }
      : { backends: 10, readers: 1000, revocations: 200 }
    const directory = join(context.directory, 'cut-tokens')
    mkdirSync(directory, { mode: 0o700 })
    await using ca = await serve(await makeHome(join(context.directory, 'cut')))
    await using idle = startProgram<ReadersJob, ReadersResult>('feed-readers')
    await using programs = new AsyncDisposableStack()
    const ports: BackendPorts[] = []
    for (let i = 0; i < backends; i++) {
      const program = programs.use(startProgram<BackendJob, BackendPorts>('cut-backend'))
      ports.push(await startBackend(ca, program, { directory, name: `orders-${i}` }))
    }
    const agents = await enrolAgents(ca, revocations)
    const { feed } = await ca.admin.call('status')
    const credential = await serviceCredential(ca)
    await idle.run({ kind: 'open', target: ca.api, credential, count: readers, since: `${feed.epoch}.${feed.n}` })
    const done: ReadonlyMap<Kind, number>[] = []
    for (const agent of agents) done.push(await revokeOne(ca, ports, agent))
    report(context, done)
  },
}
