// Requests over and over against one of our listeners, and against a bare server that sends the same bytes, in turns.
import type { BenchContext } from './bench.ts'
import type { ClientCredential, Target } from './exchange.ts'
import type { Run } from './figure.ts'
import { concurrency } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import type { Program } from './programs.ts'

export interface Served {
  readonly perSecond: number
  /** Microseconds. */
  readonly cpuPerRequest: number
}

export interface Server {
  readonly target: Target
  readonly pid: number
  /** What callers show. */
  readonly credential?: ClientCredential
}

export const serveFor = async (
  load: Program<LoadJob, LoadResult>,
  { target, pid, credential }: Server,
  job: { readonly requests: readonly Uint8Array[]; readonly seconds: number },
): Promise<Served> => {
  const common = { kind: 'repeat', target, concurrency, status: 200, pids: [pid] } as const
  const shown = credential === undefined ? {} : { credential }
  const { answered, seconds, cpu } = await load.run({ ...common, ...job, ...shown })
  return { perSecond: answered / seconds, cpuPerRequest: cpu[0]! }
}

export interface Compared {
  readonly speed: readonly Run[]
  readonly cpu: readonly Run[]
}

export const limitName = 'bare node:http with the same bytes'

export const besideBare = async (
  context: BenchContext,
  load: Program<LoadJob, LoadResult>,
  compared: { readonly ours: Server; readonly bare: Server; readonly requests: readonly Uint8Array[] },
): Promise<Compared> => {
  const { ours, bare, requests } = compared
  const { rounds, job, warmUp } = context.quick
    ? { rounds: 3, job: { requests, seconds: 0.5 }, warmUp: 1 }
    : { rounds: 7, job: { requests, seconds: 2 }, warmUp: 3 }
  for (const server of [ours, bare]) await serveFor(load, server, { requests, seconds: warmUp })
  const speed: Run[] = []
  const cpu: Run[] = []
  for (let round = 0; round < rounds; round++) {
    const value = await serveFor(load, ours, job)
    const limitValue = await serveFor(load, bare, job)
    speed.push({ value: value.perSecond, limitValue: limitValue.perSecond })
    cpu.push({ value: value.cpuPerRequest, limitValue: limitValue.cpuPerRequest })
  }
  return { speed, cpu }
}
