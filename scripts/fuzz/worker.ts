// Fuzzes its targets in a thread of its own, so that one that never comes back can be ended and named: each input is written to shared memory
// before it is tried.
import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { inputsOf, keepInput, readCorpus } from '../../test/fuzz/corpus.ts'
import { createRandom } from '../../test/story/crash-plan.ts'
import { createCoverage } from './coverage.ts'
import { installInstruments } from './instrument.ts'
import type { Report, WorkerTask } from './task.ts'

const maxKept = 40

const { names, secondsEach, seed, keep, shared } = workerData as WorkerTask
const counters = new Int32Array(shared, 0, 2)
const present = new Uint8Array(shared, 8)
const pulse = (input: Uint8Array): void => {
  present.set(input.subarray(0, present.length))
  Atomics.store(counters, 1, Math.min(input.length, present.length))
  Atomics.add(counters, 0, 1)
}

const nameOf = (prefix: string, bytes: Uint8Array): string =>
  `${prefix}-${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}`

// What they import of src is loaded with counters in it.
const coverage = createCoverage(installInstruments())
const { targets } = await import('../../test/fuzz/targets.ts')
const { fuzz, minimise, shrink } = await import('./engine.ts')
for (const [at, name] of names.entries()) {
  const target = targets.find(each => each.name === name)
  if (target === undefined) throw new Error(`no target ${name}`)
  parentPort?.postMessage({ begins: name })
  const fuzzed = await fuzz(target, {
    ...{ coverage, pulse },
    random: createRandom(seed + at),
    inputs: inputsOf(target),
    milliseconds: secondsEach * 1000,
  })
  const findings = []
  for (const finding of fuzzed.findings) {
    const shortest = await shrink(target, finding)
    findings.push({ problem: finding.problem, path: keepInput(target, nameOf('found', shortest), shortest) })
  }
  if (keep) {
    const seeds = [...target.seeds(), ...readCorpus(target)]
    const kept = await minimise(target, {
      corpus: fuzzed.corpus,
      seeds,
      coverage,
      most: Math.max(0, maxKept - readCorpus(target).length),
    })
    for (const input of kept) keepInput(target, nameOf('way', input), input)
  }
  const { runs, parts, corpus, accepted, workPerByte } = fuzzed
  parentPort?.postMessage({
    report: { target: name, runs, parts, corpus: corpus.length, workPerByte, accepted, findings } satisfies Report,
  })
}
