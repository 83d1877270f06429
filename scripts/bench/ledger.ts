// What a ledger of many certificates costs those who come next: issuance and OCSP beside a CA whose ledger began empty, and the bytes
// that each certificate leaves on disk for ever, held against the certificate itself.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { parseOnePem } from '../../src/pki/pem.ts'
import type { Bench, BenchContext } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import type { Run } from './figure.ts'
import { fillLedger } from './fill.ts'
import { concurrency, enrolAll } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { getOf, prepareQuestions } from './ocsp.ts'
import { type Program, startProgram } from './programs.ts'
import { serveFor } from './served.ts'
import { type CaHome, makeHome, type RunningCa, serve } from './world.ts'

type Load = Program<LoadJob, LoadResult>

const issueCpu = async (ca: RunningCa, load: Load, count: number): Promise<number> => {
  const { coreCpu, signerCpu } = await enrolAll(ca, load, await prepareEnrolments(ca, count))
  return coreCpu + signerCpu
}

const slowdown = async (context: BenchContext, homes: { readonly full: CaHome; readonly empty: CaHome }) => {
  const { rounds, perRound, warmUp, seconds } = context.quick
    ? { rounds: 3, perRound: 300, warmUp: 300, seconds: 0.5 }
    : { rounds: 7, perRound: 1_000, warmUp: 6_000, seconds: 2 }
  await using full = await serve(homes.full)
  await using empty = await serve(homes.empty)
  await using load = startProgram<LoadJob, LoadResult>('load')
  const questionsOf = async (ca: RunningCa) => (await prepareQuestions(ca, load, 200)).map(getOf)
  const questions = { full: await questionsOf(full), empty: await questionsOf(empty) }
  for (const ca of [full, empty]) await issueCpu(ca, load, warmUp)
  const issued: Run[] = []
  const answered: Run[] = []
  for (let round = 0; round < rounds; round++) {
    issued.push({ value: await issueCpu(full, load, perRound), limitValue: await issueCpu(empty, load, perRound) })
    const ocspCpu = async (ca: RunningCa, requests: readonly Uint8Array[]): Promise<number> =>
      (await serveFor(load, { target: ca.status, pid: ca.corePid }, { requests, seconds })).cpuPerRequest
    answered.push({ value: await ocspCpu(full, questions.full), limitValue: await ocspCpu(empty, questions.empty) })
  }
  const limit = 'an empty database'
  context.found({ metric: 'slowdown', unit: 'µs', limit: `the CPU of issuance with ${limit}`, runs: issued })
  context.found({
    metric: 'ocspSlowdown',
    unit: 'µs',
    limit: `the CPU of an OCSP answer with ${limit}`,
    runs: answered,
  })
}

/** Of the database alone: when the server has ended, its write-ahead log is in it. */
const databaseBytes = ({ paths }: CaHome): number => statSync(paths.database).size

const bytesPerCertificate = async (context: BenchContext, home: CaHome): Promise<void> => {
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
    metric: 'bytesPerCertificate',
    unit: 'bytes',
    limit: 'the certificate itself',
    runs: [{ value: (databaseBytes(home) - before) / count, limitValue: certificateBytes }],
  })
}

export const ledger: Bench = {
  name: 'ledger',
  metrics: ['slowdown', 'ocspSlowdown', 'bytesPerCertificate'],
  run: async context => {
    const empty = await makeHome(join(context.directory, 'ledger-empty'))
    const full = await makeHome(join(context.directory, 'ledger-full'))
    await fillLedger(full, context.quick ? 5_000 : 100_000, 'none')
    await bytesPerCertificate(context, full)
    await slowdown(context, { full, empty })
  },
}
