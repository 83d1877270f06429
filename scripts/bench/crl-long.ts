// Lists of a million entries: how long they take beside the bare reading of their rows, and what the core feels of it meanwhile: the delay
// of its event loop and its memory. Shards of ten thousand, and a revocation while a list is made.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import type { CrlAnswer } from '../../src/schema/admin-answers.ts'
import type { BenchContext } from './bench.ts'
import type { Run } from './figure.ts'
import { fillRevoked } from './fill-revoked.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const secondsSince = (from: number): number => (performance.now() - from) / 1000

/** What any CRL has to read: serial, time and reason of every row, in order. */
export const readRows = (path: string, entries: number): number => {
  const db = new Database(path, { readonly: true })
  try {
    const begun = performance.now()
    const rows = db.prepare('SELECT serial, revoked_at, reason FROM revocation ORDER BY issuer_id, serial').all()
    const seconds = secondsSince(begun)
    if (rows.length !== entries) throw new Error(`expected ${entries} rows, got ${rows.length}`)
    return seconds
  } finally {
    db.close()
  }
}

/** What the core says of itself since it was asked the last time. */
const loopDelay = async ({ ops }: RunningCa): Promise<{ readonly maxMs: number; readonly meanMs: number }> => {
  const text = await (await fetch(`http://${ops.host}:${ops.port}/metrics`)).text()
  const of = (name: string): number =>
    Number(new RegExp(`^nodejs_eventloop_lag_${name}_seconds (\\S+)$`, 'm').exec(text)?.[1])
  return { maxMs: of('max') * 1000, meanMs: of('mean') * 1000 }
}

const memoryOf = (pid: number, which: 'VmHWM' | 'VmRSS'): number =>
  Number(new RegExp(`^${which}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024

const until = async <T>(what: string, find: () => Promise<T | undefined>): Promise<T> => {
  for (let i = 0; i < 6000; i++) {
    const found = await find()
    if (found !== undefined) return found
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error(`never: ${what}`)
}

/** The timer that measures has a period of its own, which an idle loop shows as its mean. */
const delayDuring = async (ca: RunningCa, work: () => Promise<void>): Promise<number> => {
  await loopDelay(ca)
  await new Promise(resolve => setTimeout(resolve, 500))
  const { meanMs } = await loopDelay(ca)
  await work()
  const { maxMs } = await loopDelay(ca)
  return maxMs - meanMs
}

const publish = async ({ admin }: RunningCa, entries: number): Promise<readonly CrlAnswer[]> => {
  const { items } = await admin.call('crlPublish', { body: {} })
  if (!items.some(list => list.shard === null && list.entries === entries))
    throw new Error(`expected a list of ${entries} entries`)
  return items
}

const allowedDelayMs = 20
const allowedMemory = 200

export const measureLong = async (context: BenchContext, entries: number): Promise<void> => {
  const home = await makeHome(join(context.directory, 'crl-long'))
  const idle = await serve(home)
  const before = memoryOf(idle.corePid, 'VmHWM')
  await idle[Symbol.asyncDispose]()
  fillRevoked(home, { count: entries })
  await using ca = await serve(home)
  const begun = performance.now()
  const first = await until('a first list of them', async () => {
    const { items } = await ca.admin.call('crlStatus')
    return items.find(list => list.entries === entries)
  })
  context.say(
    `crl: the list of ${first.entries} was there ${secondsSince(begun).toFixed(1)} s after the start, which took ${ca.readySeconds.toFixed(1)} s`,
  )
  const { maxMs } = await loopDelay(ca)
  context.say(`crl: longest delay of the event loop in that time ${maxMs.toFixed(0)} ms`)
  const builds: Run[] = []
  const delays: Run[] = []
  for (let run = 0; run < (context.quick ? 2 : 5); run++) {
    const delay = await delayDuring(ca, async () => {
      const from = performance.now()
      await publish(ca, entries)
      builds.push({ value: secondsSince(from), limitValue: 0 })
    })
    builds.push({ ...builds.pop()!, limitValue: readRows(ca.paths.database, entries) })
    delays.push({ value: delay, limitValue: allowedDelayMs })
  }
  const memory = memoryOf(ca.corePid, 'VmHWM') - before
  const limit = `the bare reading of its ${entries} rows`
  context.found({ metric: 'buildSecondsOfAMillion', unit: 's', limit, runs: builds })
  context.found({ metric: 'eventLoopDelayMs', unit: 'ms', limit: 'what it may be', runs: delays })
  context.found({
    metric: 'memoryMegabytes',
    unit: 'MB',
    limit: 'what it may be, above a core without any',
    runs: [{ value: memory, limitValue: allowedMemory }],
  })
}
