// How fast a revocation is applied by many readers at once, what each of them costs, and whether they leave the CA to those who enrol.
// Held against a bare TLS server that writes the same bytes to as many sockets and waits for their answers.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import { type Enrolment, prepareEnrolments, signedRequest } from './enrolments.ts'
import type { ClientCredential, Target } from './exchange.ts'
import type { BareFeedJob, BareFeedResult } from './feed-bare.ts'
import type { ReadersJob, ReadersResult } from './feed-readers.ts'
import type { Run } from './figure.ts'
import { concurrency, enrolAll } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, peakMemory, processCpu, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const service = 'bench-verifier'
const warmUp = 3

const p99 = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.99) - 1]!

export const serviceCredential = async ({ admin }: RunningCa): Promise<ClientCredential> => {
  await admin.call('servicesCreate', { body: { name: service, dns: ['localhost'] } })
  const { key, csr } = await signedRequest()
  const { certificate, chain } = await admin.call('certificatesIssue', {
    body: { kind: 'service', name: service, csr },
  })
  return { key: key.export({ type: 'pkcs8', format: 'pem' }) as string, cert: certificate + chain }
}

interface World {
  readonly ca: RunningCa
  readonly load: Program<LoadJob, LoadResult>
  readonly credential: ClientCredential
  readonly readers: Program<ReadersJob, ReadersResult>
  readonly bare: Program<BareFeedJob, BareFeedResult>
  readonly bareTarget: Target
  readonly bareReaders: Program<ReadersJob, ReadersResult>
}

/** Serials of certificates that nobody has revoked yet. */
const victims = async ({ ca, load }: World, count: number): Promise<readonly string[]> => {
  const requests = (await prepareEnrolments(ca, count)).map(({ request }) => request)
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  return bodies.map(body => (JSON.parse(body) as { readonly serial: string }).serial)
}

const revoke = ({ admin }: RunningCa, serial: string) =>
  admin.call('revoke', { body: { by: 'serial', value: serial, reason: 'superseded' } })

const openReaders = async (world: World, count: number): Promise<void> => {
  const { ca, credential, readers, bareReaders, bareTarget } = world
  const { feed } = await ca.admin.call('status')
  const since = `${feed.epoch}.${feed.n}`
  await readers.run({ kind: 'open', target: ca.api, credential, count, since })
  await bareReaders.run({ kind: 'open', target: bareTarget, credential, count, since: null })
}
const closeReaders = async ({ readers, bareReaders }: World): Promise<void> => {
  await readers.run({ kind: 'close' })
  await bareReaders.run({ kind: 'close' })
}

const frameOf = (id: string, serial: string): string =>
  `event: revoke\nid: ${id}\ndata: ${JSON.stringify({
    ...{ at: Date.now(), by: 'serial', value: serial, reason: 'superseded' },
    changes: [[serial, Date.now()]],
  })}\n\n`

interface Readers {
  readonly count: number
  readonly acknowledge: boolean
}

interface Round {
  /** p99 in milliseconds. */
  readonly applied: Run
  /** CPU of the server per reader, in microseconds. */
  readonly cpu: Run
}

const round = async (world: World, serial: string, { count, acknowledge }: Readers): Promise<Round> => {
  const { ca, readers, bare, bareReaders } = world
  const { feed } = await ca.admin.call('status')
  const id = `${feed.epoch}.${feed.n + 1}`
  const [coreBefore, bareBefore] = [processCpu(ca.corePid), processCpu(bare.pid)]
  await readers.run({ kind: 'expect', text: id, acknowledge })
  const begun = performance.timeOrigin + performance.now()
  await revoke(ca, serial)
  const { doneAt } = await readers.run({ kind: 'await' })
  const core = processCpu(ca.corePid) - coreBefore
  await bareReaders.run({ kind: 'expect', text: id, acknowledge: true })
  const { answered } = await bare.run({ kind: 'send', frame: frameOf(id, serial), count })
  return {
    applied: { value: p99(doneAt.map(at => at - begun)), limitValue: p99(answered) },
    cpu: { value: core / count, limitValue: (processCpu(bare.pid) - bareBefore) / count },
  }
}

const rounds = async (world: World, readers: Readers, howMany: number): Promise<readonly Round[]> => {
  const serials = await victims(world, howMany + warmUp)
  const done: Round[] = []
  for (const serial of serials) done.push(await round(world, serial, readers))
  return done.slice(warmUp)
}

const limit = 'as many TLS sockets of a bare server, written to and answered'

/** One number over many rounds whose CPU is too little to be seen in each. */
const together = (runs: readonly Run[]): Run => {
  const mean = (of: (run: Run) => number): number => runs.reduce((sum, run) => sum + of(run), 0) / runs.length
  return { value: mean(run => run.value), limitValue: mean(run => run.limitValue) }
}

const measureIssuance = async (world: World, enrolments: readonly Enrolment[]): Promise<number> =>
  (await enrolAll(world.ca, world.load, enrolments)).perSecond

export const feed: Bench = {
  name: 'feed',
  metrics: ['appliedMsP99', 'appliedMsP99Of5000', 'fanOutMicroseconds', 'issuanceBeside5000'],
  run: async context => {
    const { few, many, howMany, perRound } = context.quick
      ? { few: 100, many: 500, howMany: 10, perRound: 400 }
      : { few: 100, many: 5000, howMany: 20, perRound: 2000 }
    await using ca = await serve(await makeHome(join(context.directory, 'feed')))
    await using load = startProgram<LoadJob, LoadResult>('load')
    await using readers = startProgram<ReadersJob, ReadersResult>('feed-readers')
    await using bareReaders = startProgram<ReadersJob, ReadersResult>('feed-readers')
    await using bare = startProgram<BareFeedJob, BareFeedResult>('feed-bare')
    const credential = await serviceCredential(ca)
    const { port } = await bare.run({ kind: 'listen', ...credential, ca: ca.bundlePem })
    const bareTarget = { host: 'localhost', port, ca: ca.bundlePem }
    const world: World = { ca, load, credential, readers, bareReaders, bare, bareTarget }
    await measureIssuance(world, await prepareEnrolments(ca, perRound))

    await openReaders(world, few)
    const applied = await rounds(world, { count: few, acknowledge: true }, howMany)
    context.found({ metric: 'appliedMsP99', unit: 'ms', limit, runs: applied.map(each => each.applied) })
    await closeReaders(world)

    const issuance = [await measureIssuance(world, await prepareEnrolments(ca, perRound))]
    const before = peakMemory(ca.corePid)
    await openReaders(world, many)
    const memory = (peakMemory(ca.corePid) - before) / many / 1024
    context.say(`feed: ${memory.toFixed(0)} KiB of the core's memory for each of ${many} readers`)
    const ofMany = await rounds(world, { count: many, acknowledge: true }, Math.ceil(howMany / 2))
    context.found({ metric: 'appliedMsP99Of5000', unit: 'ms', limit, runs: ofMany.map(each => each.applied) })
    const silent = await rounds(world, { count: many, acknowledge: false }, howMany)
    context.found({ metric: 'fanOutMicroseconds', unit: 'µs', limit, runs: [together(silent.map(each => each.cpu))] })
    // With heartbeats, and nothing to tell.
    const beside: number[] = []
    for (let i = 0; i < 2; i++) beside.push(await measureIssuance(world, await prepareEnrolments(ca, perRound)))
    await closeReaders(world)
    issuance.push(await measureIssuance(world, await prepareEnrolments(ca, perRound)))
    context.found({
      metric: 'issuanceBeside5000',
      unit: '/s',
      limit: 'certificates per second without readers, before and after',
      runs: beside.map((value, i) => ({ value, limitValue: issuance[i]! })),
    })
  },
}
