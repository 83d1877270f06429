// Coverage-guided fuzzing of every parser, and then the differential: what we accepted, OpenSSL and Go must accept too. Ends with 1 where
// anything was found; the input lies in the corpus then, and `vitest run test/fuzz` fails on it from there on.
import { randomInt } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { keepInput } from '../../test/fuzz/corpus.ts'
import { targets } from '../../test/fuzz/targets.ts'
import { disagreements } from './differential.ts'
import { parseFuzzOptions, usage } from './options.ts'
import { type Report, sharedBytes, type WorkerTask } from './task.ts'

const say = (line: string): void => void process.stdout.write(`${line}\n`)

const known = targets.map(({ name }) => name)
const options = parseFuzzOptions(process.argv.slice(2), { known, newSeed: randomInt(2 ** 32) })
if (typeof options === 'string') {
  process.stderr.write(`${options}\n${usage}\n`)
  process.exit(2)
}
if (options.list) {
  for (const name of known) say(name)
  process.exit(0)
}

/** One input takes microseconds; a machine that is busy with thirty others makes it a second. */
const hangMs = 60_000

interface Ended {
  readonly reports: readonly Report[]
  /** Targets that hung or ended the thread: what was tried last, and why. */
  readonly lost: { readonly target: string; readonly problem: string; readonly input: Uint8Array } | null
}

const runWorker = (task: Omit<WorkerTask, 'shared'>): Promise<Ended> =>
  new Promise(resolve => {
    const shared = new SharedArrayBuffer(sharedBytes)
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: { ...task, shared },
      resourceLimits: { maxOldGenerationSizeMb: 2048 },
    })
    const counters = new Int32Array(shared, 0, 2)
    const reports: Report[] = []
    let target = task.names[0] as string
    let last = { count: -1, at: performance.now() }
    const input = () => new Uint8Array(Buffer.from(new Uint8Array(shared, 8, Atomics.load(counters, 1))))
    const lose = (problem: string): void => {
      clearInterval(watch)
      void worker.terminate()
      resolve({ reports, lost: { target, problem, input: input() } })
    }
    const watch = setInterval(() => {
      const count = Atomics.load(counters, 0)
      if (count !== last.count) last = { count, at: performance.now() }
      else if (performance.now() - last.at > hangMs) lose(`no end after ${hangMs / 1000} s`)
    }, 1000)
    worker.on('message', (message: { readonly begins: string } | { readonly report: Report }) => {
      if ('begins' in message) target = message.begins
      else {
        reports.push(message.report)
        tell(message.report)
      }
      last = { count: -1, at: performance.now() }
    })
    worker.once('error', (error: Error) => lose(`the thread ended: ${error.stack ?? error.message}`))
    worker.once('exit', () => {
      clearInterval(watch)
      resolve({ reports, lost: null })
    })
  })

const tell = ({ target, runs, parts, corpus, workPerByte, accepted, findings }: Report): void => {
  say(
    `${target}: ${runs} inputs, ${parts} parts, ${corpus} in the corpus, ${accepted.length} accepted kept, ${workPerByte.toFixed(0)} work a byte`,
  )
  for (const { problem, path } of findings) say(`  FOUND ${problem}\n        ${path}`)
}

say(`fuzz: seed ${options.seed}`)
const reports: Report[] = []
const problems: string[] = []
let left = options.names.length === 0 ? known : [...options.names]
while (left.length > 0) {
  const { secondsEach, seed, keep } = options
  const ended = await runWorker({ names: left, secondsEach, seed, keep })
  reports.push(...ended.reports)
  if (ended.lost === null) break
  const { target, problem, input } = ended.lost
  const path = keepInput({ name: target }, `found-last-${input.length}`, input)
  say(`${target}:\n  FOUND ${problem}\n        ${path}`)
  problems.push(target)
  left = left.slice(left.indexOf(target) + 1)
}
problems.push(...reports.flatMap(({ target, findings }) => findings.map(() => target)))
for (const { foreign, name } of targets) {
  const accepted = reports.find(({ target }) => target === name)?.accepted ?? []
  if (foreign === undefined || accepted.length === 0) continue
  const { tried, found } = disagreements(foreign, accepted)
  say(`${name}: ${tried}`)
  for (const { by, problem, input } of found) {
    say(`  REFUSED by ${by}: ${problem}\n        ${Buffer.from(input).toString('base64')}`)
    problems.push(name)
  }
}
const runs = reports.reduce((sum, each) => sum + each.runs, 0)
say(`fuzz: seed ${options.seed}, ${reports.length} targets, ${runs} inputs, ${problems.length} findings`)
process.exit(problems.length === 0 ? 0 : 1)
