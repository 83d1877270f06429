// CRLs: how long a new list of many entries takes, held against the bare reading of its rows, and how fast it is served, held against a
// bare node:http server that sends the same bytes.
import { join } from 'node:path'
import { bareAnswer } from './bare-answer.ts'
import type { BareServerJob, BareServerResult } from './bare-server.ts'
import type { Bench, BenchContext } from './bench.ts'
import { measureLong, readRows } from './crl-long.ts'
import { requestBytes } from './exchange.ts'
import type { Run } from './figure.ts'
import { fillLedger } from './fill.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { startProgram } from './programs.ts'
import { besideBare, limitName } from './served.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const secondsSince = (from: number): number => (performance.now() - from) / 1000

const buildOnce = async ({ admin, paths }: RunningCa, entries: number): Promise<Run> => {
  const begun = performance.now()
  const { items } = await admin.call('crlPublish', { body: {} })
  const value = secondsSince(begun)
  if (!items.some(list => list.entries === entries)) throw new Error(`expected a list of ${entries} entries`)
  return { value, limitValue: readRows(paths.database, entries) }
}

const build = async (context: BenchContext, metric: string, entries: number): Promise<void> => {
  const home = await makeHome(join(context.directory, `crl-${entries}`))
  await fillLedger(home, entries, 'all')
  await using ca = await serve(home)
  const runs: Run[] = []
  for (let run = 0; run < (context.quick ? 2 : 5); run++) runs.push(await buildOnce(ca, entries))
  context.found({ metric, unit: 's', limit: `the bare reading of its ${entries} rows`, runs })
}

const serveList = async (context: BenchContext): Promise<void> => {
  const home = await makeHome(join(context.directory, 'crl'))
  await fillLedger(home, 1_000, 'all')
  await using ca = await serve(home)
  await using load = startProgram<LoadJob, LoadResult>('load')
  await using bare = startProgram<BareServerJob, BareServerResult>('bare-server')
  const list = (await ca.admin.call('crlStatus')).items.find(({ entries }) => entries === 1_000)
  if (list?.url == null) throw new Error('expected a list of 1,000 entries')
  const path = new URL(list.url).pathname
  const { port } = await bare.run(await bareAnswer(ca.status, path))
  const ours = { target: ca.status, pid: ca.corePid }
  const limit = { target: { host: '127.0.0.1', port, ca: null }, pid: bare.pid }
  const compared = { ours, bare: limit, requests: [requestBytes('GET', path, null)] }
  const { speed, cpu } = await besideBare(context, load, compared)
  context.found({ metric: 'requestsPerSecond', unit: '/s', limit: limitName, runs: speed })
  context.found({ metric: 'cpuPerRequest', unit: 'µs', limit: limitName, runs: cpu })
}

export const crl: Bench = {
  name: 'crl',
  metrics: [
    'requestsPerSecond',
    'cpuPerRequest',
    'buildSeconds',
    'buildSecondsOfAMillion',
    'eventLoopDelayMs',
    'memoryMegabytes',
  ],
  run: async context => {
    await serveList(context)
    await build(context, 'buildSeconds', context.quick ? 5_000 : 100_000)
    await measureLong(context, context.quick ? 100_000 : 1_000_000)
  },
}
