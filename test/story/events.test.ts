// Events of a CA that is killed: whatever is in the audit log arrives in the file, at least once, although nobody was there to say goodbye.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { readLedger } from './invariants.ts'
import { until } from './until.ts'

let home: StoryHome
let file: string
beforeAll(async () => {
  home = await createStoryHome()
  file = join(dirname(home.logFile), 'events', 'events.jsonl')
})
afterAll(() => home?.remove())

interface Told {
  readonly sequence: number
  readonly kind: string
}

/** A line that the kill tore is followed by whole ones. */
const told = (): readonly Told[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .flatMap(line => {
      try {
        return [JSON.parse(line) as Told]
      } catch {
        return []
      }
    })

test('a CA that is killed while it works, and started again, leaves no event out', async () => {
  const environment = { AGENTCA_EVENTS_JSONL_FILE: file, AGENTCA_EVENTS_EXCEPT: 'nothing' }
  let made = 0
  for (const round of [1, 2]) {
    const ca = await startCa(home, 'serve', environment)
    const create = () =>
      home.admin.call('agentsCreate', { body: { name: `agent-${made++}`, owner: `owner-${round}` } }).catch(() => null)
    for (let i = 0; i < 20; i++) await create()
    // Some are on their way when it ends.
    const underWay = Array.from({ length: 20 }, create)
    ca.child.kill('SIGKILL')
    expect(await ca.ended).toMatchObject({ signal: 'SIGKILL' })
    await Promise.all(underWay)
  }
  const last = await startCa(home, 'serve', environment)
  const { items } = await home.admin.call('auditTail', { query: { limit: 1 } })
  const size = items[0]!.index + 1
  await until('everything is told', async () => ((await home.admin.call('eventsStatus')).items[0]?.next ?? 0) >= size)
  expect(await last.stop()).toMatchObject({ code: 0 })
  const sequences = told().map(({ sequence }) => sequence)
  const first = sequences[0] as number
  const { leaves } = readLedger(home.paths.database)
  // A new sink begins with the present: with what its first server did.
  expect(leaves.findIndex(({ subject }) => subject === 'agent:agent-0')).toBeGreaterThanOrEqual(first)
  const missing = Array.from({ length: size - first }, (_, at) => first + at).filter(
    index => !sequences.includes(index),
  )
  expect(missing).toEqual([])
  for (const { sequence, kind } of told()) expect(kind).toBe(leaves[sequence]?.event)
}, 180_000)
