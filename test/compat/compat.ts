// A check of a foreign program, as a vitest test whose result goes into docs/compatibility.md. Whoever lacks the program skips by its name.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'vitest'
import type { CheckResult } from './page.ts'
import { type FoundSubject, find, type Subject } from './subject.ts'

/** Where scripts/compat.mjs and page.test.ts want one file of results per test file. */
const folder = process.env.COMPAT_RESULTS
const results = new Map<string, CheckResult>()
const found = new Map<Subject, ReturnType<typeof find>>()

/** Thrown by a check: something that it needs cannot be had here, a registry that is out of reach for instance. */
export class Unavailable extends Error {}

const record = (result: CheckResult): void => {
  results.set(`${result.subject}\n${result.check}`, result)
  if (folder === undefined) return
  mkdirSync(folder, { recursive: true })
  // Each test file has a process of its own, and vitest may run several in one process one after the other: then it grows.
  writeFileSync(join(folder, `${process.pid}-${instance}.json`), JSON.stringify([...results.values()]))
}
const instance = crypto.randomUUID()

/** Looked for once per test file. */
const lookedFor = (subject: Subject): ReturnType<typeof find> => {
  const known = found.get(subject) ?? find(subject)
  found.set(subject, known)
  return known
}

/**
 * @param what the rule in a sentence, as the page shows it: `refuses a revoked agent by its list`
 * @param check throws, or the expectation holds
 */
export const compat = (
  subject: Subject,
  what: string,
  check: (found: FoundSubject) => Promise<void> | void,
  timeoutMs = 300_000,
): void => {
  const row = { subject: subject.name, check: what, from: subject.from }
  // While tests are collected too, so that a list of them without running any tells what the suite has.
  record({ ...row, version: '', result: 'not run' })
  it(`${subject.name}: ${what}`, { timeout: timeoutMs }, async context => {
    const program = lookedFor(subject)
    if ('missing' in program) {
      record({ ...row, version: '', result: 'skipped' })
      context.skip(program.missing)
      return
    }
    const { version } = program
    record({ ...row, version, result: 'failed' })
    try {
      await check(program)
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error
      record({ ...row, version, result: 'skipped' })
      context.skip(`${subject.name}: ${error.message}`)
      return
    }
    record({ ...row, version, result: 'passed' })
  })
}
