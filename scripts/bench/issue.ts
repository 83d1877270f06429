// What a durable, audited certificate costs over kept-alive HTTPS, held against the cryptography that it cannot do without: one HSM
// signature, and two P-256 verifications (the request's signature and the CA's own, before it is released).
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench, BenchContext } from './bench.ts'
import { type Enrolment, prepareEnrolments } from './enrolments.ts'
import type { Run } from './figure.ts'
import { measureScaling } from './issue-scaling.ts'
import { createHsmLimit, createVerificationLimit } from './limits.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, peakMemory, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

/** Connections, each with a request in flight: as a fleet keeps them. */
export const concurrency = 64

export interface IssueRound {
  readonly perSecond: number
  /** Microseconds. */
  readonly coreCpu: number
  readonly signerCpu: number
}

/** Every enrolment once; CPU per certificate of the two processes that serve it. */
export const enrolAll = async (
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  enrolments: readonly Enrolment[],
): Promise<IssueRound> => {
  const requests = enrolments.map(({ request }) => request)
  const pids = [ca.corePid, ca.signerPid]
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids, keep: false } as const
  const { seconds, answered, cpu } = await load.run(job)
  return { perSecond: answered / seconds, coreCpu: cpu[0]!, signerCpu: cpu[1]! }
}

export const issue: Bench = {
  name: 'issue',
  metrics: [
    ...['cpuPerCertificate', 'certificatesPerSecond', 'fsyncsPerThousand'],
    ...['scaling', 'cpuPerCertificateWithWorkers'],
  ],
  run: async context => {
    const { rounds, perRound, warmUp } = context.quick
      ? { rounds: 3, perRound: 400, warmUp: 400 }
      : { rounds: 9, perRound: 2_000, warmUp: 8_000 }
    await using ca = await serve(await makeHome(join(context.directory, 'issue')))
    await using load = startProgram<LoadJob, LoadResult>('load')
    using hsm = await createHsmLimit(join(context.directory, 'issue-limit'))
    const verification = createVerificationLimit()
    await enrolAll(ca, load, await prepareEnrolments(ca, warmUp))

    const cpu: Run[] = []
    const speed: Run[] = []
    let [coreCpu, signerCpu] = [0, 0]
    for (let round = 0; round < rounds; round++) {
      const enrolments = await prepareEnrolments(ca, perRound)
      const before = { hsm: hsm.measure(), verification: verification() }
      const made = await enrolAll(ca, load, enrolments)
      const after = { hsm: hsm.measure(), verification: verification() }
      const signature = (before.hsm + after.hsm) / 2
      cpu.push({
        value: made.coreCpu + made.signerCpu,
        limitValue: signature + before.verification + after.verification,
      })
      speed.push({ value: made.perSecond, limitValue: 1e6 / signature })
      coreCpu += made.coreCpu / rounds
      signerCpu += made.signerCpu / rounds
    }
    context.say(`issue: ${coreCpu.toFixed(0)} µs in the core and ${signerCpu.toFixed(0)} µs in the signer, on average`)
    const megabytes = (pid: number): string => (peakMemory(pid) / 1e6).toFixed(0)
    context.say(
      `issue: at most ${megabytes(ca.corePid)} MB in the core and ${megabytes(ca.signerPid)} MB in the signer`,
    )
    context.found({
      metric: 'cpuPerCertificate',
      unit: 'µs',
      limit: 'one HSM signature and two P-256 verifications',
      runs: cpu,
    })
    context.found({
      metric: 'certificatesPerSecond',
      unit: '/s',
      limit: 'raw HSM signatures of one process',
      runs: speed,
    })
    await countFsyncs(context, ca, load, perRound)
    const cryptography = (): number => hsm.measure() + verification() + verification()
    await measureScaling(context, { load, cryptography })
  },
}

const strace = '/usr/bin/strace'

/** Calls of fsync and fdatasync while so many certificates are issued, in core and signer. */
const countFsyncs = async (
  context: BenchContext,
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  count: number,
): Promise<void> => {
  if (!existsSync(strace)) return context.say('issue/fsyncsPerThousand: skipped, strace is not installed')
  const enrolments = await prepareEnrolments(ca, count)
  const summary = join(context.directory, 'fsyncs')
  const tracer = spawn(
    strace,
    ['-f', '-c', '-e', 'trace=fsync,fdatasync', '-o', summary, '-p', `${ca.corePid},${ca.signerPid}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const ended = new Promise(resolve => tracer.once('close', resolve))
  const attached = await new Promise<boolean>(resolve => {
    tracer.stderr.on('data', (text: Buffer) => {
      if (text.includes('attached')) resolve(true)
    })
    void ended.then(() => resolve(false))
  })
  if (!attached) return context.say('issue/fsyncsPerThousand: skipped, strace may not attach to processes here')
  await enrolAll(ca, load, enrolments)
  tracer.kill('SIGINT')
  await ended
  const calls = [...readFileSync(summary, 'utf8').matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s.*f(?:data)?sync$/gm)]
  const total = calls.reduce((sum, [, n]) => sum + Number(n), 0)
  context.found({
    metric: 'fsyncsPerThousand',
    unit: 'calls',
    limit: 'two commits for each certificate',
    runs: [{ value: (total / count) * 1000, limitValue: 2000 }],
  })
}
