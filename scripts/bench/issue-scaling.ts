// What a second core is worth: enrolments with everything, callers too, on one core and without fronts, against two cores with them, in
// turns. And what a certificate costs in all processes together once a front is among them.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { BenchContext } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import type { Run } from './figure.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { childrenOf, type Program, peakMemory } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

interface Measured {
  readonly perSecond: number
  /** Of all processes of the CA, microseconds a certificate: the core, its signer, then its fronts. */
  readonly cpu: readonly number[]
}

/** So many connections, each with a request in flight, as bench issue has them. */
const concurrency = 64
const oneCore = '0'
const twoCores = '0,1'
/** `workers: auto` on two cores. */
const workers = '1'

const hasTaskset = (): boolean => {
  try {
    execFileSync('taskset', ['-c', twoCores, 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Every thread of each. */
const pin = (pids: readonly number[], cores: string): void => {
  for (const pid of pids) execFileSync('taskset', ['-a', '-c', '-p', cores, String(pid)], { stdio: 'ignore' })
}

const processesOf = ({ corePid }: RunningCa): readonly number[] => [corePid, ...childrenOf(corePid)]

const measure = async (
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  count: number,
  cores: string,
): Promise<Measured> => {
  const enrolments = await prepareEnrolments(ca, count)
  pin([load.pid], cores)
  const requests = enrolments.map(({ request }) => request)
  const pids = processesOf(ca)
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids, keep: false } as const
  const { seconds, answered, cpu } = await load.run(job)
  return { perSecond: answered / seconds, cpu }
}

export interface ScalingDeps {
  readonly load: Program<LoadJob, LoadResult>
  /** Microseconds of cryptography that a certificate cannot do without, measured now. */
  readonly cryptography: () => number
}

export const measureScaling = async (context: BenchContext, { load, cryptography }: ScalingDeps): Promise<void> => {
  if (!hasTaskset()) return context.say('issue/scaling: skipped, it needs taskset and two cores')
  const { rounds, perRound, warmUp } = context.quick
    ? { rounds: 3, perRound: 400, warmUp: 400 }
    : { rounds: 9, perRound: 2_000, warmUp: 4_000 }
  await using alone = await serve(await makeHome(join(context.directory, 'issue-one-core')))
  await using fronted = await serve(await makeHome(join(context.directory, 'issue-fronts')), {
    AGENTCA_WORKERS: workers,
  })
  pin(processesOf(alone), oneCore)
  pin(processesOf(fronted), twoCores)
  await measure(alone, load, warmUp, twoCores)
  await measure(fronted, load, warmUp, twoCores)

  const scaling: Run[] = []
  const cost: Run[] = []
  const shares: number[][] = []
  for (let round = 0; round < rounds; round++) {
    const one = await measure(alone, load, perRound, oneCore)
    const before = cryptography()
    const two = await measure(fronted, load, perRound, twoCores)
    scaling.push({ value: two.perSecond, limitValue: one.perSecond })
    cost.push({ value: two.cpu.reduce((sum, each) => sum + each, 0), limitValue: (before + cryptography()) / 2 })
    shares.push([...two.cpu])
  }
  pin([load.pid], twoCores)
  const mean = (at: number): string => (shares.reduce((sum, each) => sum + each[at]!, 0) / shares.length).toFixed(0)
  context.say(
    `issue: with a front ${mean(0)} µs in the core, ${mean(1)} µs in the signer and ${mean(2)} µs in the front`,
  )
  const [, , front] = processesOf(fronted)
  if (front !== undefined) context.say(`issue: at most ${(peakMemory(front) / 1e6).toFixed(0)} MB in a front`)
  context.found({ metric: 'scaling', unit: '/s', limit: 'everything on one core, without fronts', runs: scaling })
  context.found({
    metric: 'cpuPerCertificateWithWorkers',
    unit: 'µs',
    limit: 'one HSM signature and two P-256 verifications',
    runs: cost,
  })
}
