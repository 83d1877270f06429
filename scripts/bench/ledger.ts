// What a ledger of many certificates costs those who come next: issuance, OCSP and look-ups beside a CA whose ledger began empty, the bytes
// that each certificate leaves on disk, held against the certificate itself, and how long pruning keeps others waiting.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { parseOnePem } from '../../src/pki/pem.ts'
import type { Bench, BenchContext } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import type { Run } from './figure.ts'
import { fillMany } from './fill-many.ts'
import { concurrency, enrolAll } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { getOf, prepareQuestions } from './ocsp.ts'
import { type Program, startProgram } from './programs.ts'
import { measurePruneStall } from './prune-stall.ts'
import { serveFor } from './served.ts'
import { type CaHome, makeHome, type RunningCa, serve } from './world.ts'

type Load = Program<LoadJob, LoadResult>

const day = 86_400_000
/** As long as they are kept by default. */
const keptMs = 90 * day

const issueCpu = async (ca: RunningCa, load: Load, count: number): Promise<number> => {
  const { coreCpu, signerCpu } = await enrolAll(ca, load, await prepareEnrolments(ca, count))
  return coreCpu + signerCpu
}

/** Milliseconds of each look-up as an operator makes them: the newest of an agent, one by its serial, and what is live of one agent. */
const lookUpMs = async ({ admin }: RunningCa, times: number): Promise<number> => {
  const { items } = await admin.call('certificatesList', { query: { limit: 1 } })
  const [{ serial, kind, agent }] = items as [(typeof items)[number]]
  const begun = performance.now()
  for (let i = 0; i < times; i++) {
    await admin.call('certificatesList', { query: { kind, name: agent, limit: 20 } })
    await admin.call('certificatesShow', { params: { serial } })
    await admin.call('instancesList', { query: { kind, name: agent, limit: 20 } })
  }
  return (performance.now() - begun) / (3 * times)
}

const slowdown = async (
  context: BenchContext,
  homes: { readonly full: CaHome; readonly empty: CaHome },
  at: string,
): Promise<void> => {
  const { rounds, perRound, warmUp, seconds, lookUps } = context.quick
    ? { rounds: 3, perRound: 300, warmUp: 300, seconds: 0.5, lookUps: 20 }
    : { rounds: 7, perRound: 1_000, warmUp: 6_000, seconds: 2, lookUps: 100 }
  await using full = await serve(homes.full)
  await using empty = await serve(homes.empty)
  await using load = startProgram<LoadJob, LoadResult>('load')
  const questionsOf = async (ca: RunningCa) => (await prepareQuestions(ca, load, 200)).map(getOf)
  const questions = { full: await questionsOf(full), empty: await questionsOf(empty) }
  for (const ca of [full, empty]) await issueCpu(ca, load, warmUp)
  const [issued, answered, looked]: [Run[], Run[], Run[]] = [[], [], []]
  for (let round = 0; round < rounds; round++) {
    issued.push({ value: await issueCpu(full, load, perRound), limitValue: await issueCpu(empty, load, perRound) })
    const ocspCpu = async (ca: RunningCa, requests: readonly Uint8Array[]): Promise<number> =>
      (await serveFor(load, { target: ca.status, pid: ca.corePid }, { requests, seconds })).cpuPerRequest
    answered.push({ value: await ocspCpu(full, questions.full), limitValue: await ocspCpu(empty, questions.empty) })
    looked.push({ value: await lookUpMs(full, lookUps), limitValue: await lookUpMs(empty, lookUps) })
  }
  const limit = 'an empty database'
  const found = (metric: string, unit: string, what: string, runs: readonly Run[]): void =>
    context.found({ metric: `${metric}${at}`, unit, limit: `${what} with ${limit}`, runs })
  found('slowdown', 'µs', 'the CPU of issuance', issued)
  found('ocspSlowdown', 'µs', 'the CPU of an OCSP answer', answered)
  found('lookUpSlowdown', 'ms', 'a look-up', looked)
}

/** Of the database alone: when the server has ended, its write-ahead log is in it. */
const databaseBytes = ({ paths }: CaHome): number => statSync(paths.database).size

const bytesPerCertificate = async (context: BenchContext, home: CaHome, at: string): Promise<void> => {
  const count = context.quick ? 500 : 10_000
  const before = databaseBytes(home)
  let certificateBytes = 0
  {
    await using ca = await serve(home)
    await using load = startProgram<LoadJob, LoadResult>('load')
    const requests = (await prepareEnrolments(ca, count)).map(({ request }) => request)
    const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids: [], keep: true } as const
    const { bodies } = await load.run(job)
    const { certificate } = JSON.parse(bodies[0]!) as { readonly certificate: string }
    certificateBytes = parseOnePem(certificate, 'CERTIFICATE').length
  }
  context.found({
    metric: `bytesPerCertificate${at}`,
    unit: 'bytes',
    limit: 'the certificate itself',
    runs: [{ value: (databaseBytes(home) - before) / count, limitValue: certificateBytes }],
  })
}

/** The oldest tenth, which a server with the default configuration would prune. */
const pruneStall = async (context: BenchContext, home: CaHome, at: string): Promise<void> => {
  const seconds = context.quick ? 3 : 60
  const { alone, pruning } = await measurePruneStall(home, { seconds, before: Date.now() - keptMs })
  const speed = ({ certificates, seconds: took }: typeof alone): string => (certificates / took).toFixed(0)
  context.say(
    `ledger: ${pruning.pruned} pruned in ${pruning.seconds.toFixed(0)} s, beside ${speed(pruning)} certificates/s one after the other (${speed(alone)} without), the longest took ${pruning.longestMs.toFixed(1)} ms (${alone.longestMs.toFixed(1)} without)`,
  )
  context.found({
    metric: `pruneStall${at}`,
    unit: 'ms',
    limit: 'the longest stall without pruning',
    runs: [{ value: pruning.blockedMs, limitValue: alone.blockedMs }],
  })
}

/** Enrolments of its own first: everything else is made like them. */
export const makeFullHome = async (context: BenchContext, name: string, count: number): Promise<CaHome> => {
  const home = await makeHome(join(context.directory, name))
  {
    await using ca = await serve(home)
    await using load = startProgram<LoadJob, LoadResult>('load')
    await issueCpu(ca, load, 64)
  }
  const begun = performance.now()
  const to = Date.now()
  fillMany(home, { count, from: to - keptMs * 1.1, to, lifetimeMs: day / 24 })
  const seconds = ((performance.now() - begun) / 1000).toFixed(0)
  context.say(`${count} certificates: ${(databaseBytes(home) / 1e9).toFixed(2)} GB, filled in ${seconds} s`)
  return home
}

const measured = ['slowdown', 'ocspSlowdown', 'lookUpSlowdown', 'bytesPerCertificate', 'pruneStall']

export const ledger: Bench = {
  name: 'ledger',
  metrics: [...measured, ...measured.map(metric => `${metric}At10M`), 'bytesAltogetherAt10M'],
  run: async context => {
    const empty = await makeHome(join(context.directory, 'ledger-empty'))
    const full = await makeFullHome(context, 'ledger-full', context.quick ? 20_000 : 1_000_000)
    await bytesPerCertificate(context, full, '')
    await slowdown(context, { full, empty }, '')
    await pruneStall(context, full, '')
    if (!context.full) return context.say('ledger: 10 million with --full; it takes 12 GB of disk and ten minutes more')
    const fuller = await makeFullHome(context, 'ledger-fuller', context.quick ? 40_000 : 10_000_000)
    context.found({
      metric: 'bytesAltogetherAt10M',
      unit: 'bytes',
      limit: 'the limit of 1,200',
      runs: [{ value: databaseBytes(fuller) / (context.quick ? 40_000 : 10_000_000), limitValue: 1_200 }],
    })
    await bytesPerCertificate(context, fuller, 'At10M')
    await slowdown(context, { full: fuller, empty }, 'At10M')
    await pruneStall(context, fuller, 'At10M')
  },
}
