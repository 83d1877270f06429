// The crash story of test/story, played for a given time or number of kills instead of thirty. A world (a CA, its clients, its ledger) is
// closed with the last checks and a new one made after so many kills, so that judging it does not take ever longer. The seed decides which
// process is killed at which step in which order and who is revoked; what the machine makes of the time in between is its own.
import { randomInt } from 'node:crypto'
import { messageOf } from '../../src/base/errors.ts'
import { lastChecks } from '../../test/story/crash-end.ts'
import { createRandom, killText, type PlannedKill, planKills } from '../../test/story/crash-plan.ts'
import { createCrashStory } from '../../test/story/crash-story.ts'
import { rules } from '../../test/story/invariants.ts'
import { parseTortureOptions, usage } from './options.ts'
import { countKill, countWorld, createTally, summary } from './tally.ts'

/** A world's certificates live for an hour, and OCSP is asked about each of them at its end. */
const killsPerWorld = 60
const worldMs = 30 * 60_000

const say = (line: string): void => void process.stdout.write(`${line}\n`)

const options = parseTortureOptions(process.argv.slice(2), randomInt(2 ** 32))
if (typeof options === 'string') {
  process.stderr.write(`${options}\n${usage}\n`)
  process.exit(2)
}
const { seed, kills, minutes } = options
const began = performance.now()
const minutesSince = (): number => (performance.now() - began) / 60_000
const tally = createTally()
let stopping = false
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    stopping = true
    say('ends after this kill')
  })
const isOver = (): boolean => stopping || tally.rounds >= kills || minutesSince() >= minutes

/** @throws Error that names the kill, or the check, after which something was wrong */
const named = async (what: string, work: () => Promise<void>): Promise<void> => {
  try {
    await work()
  } catch (cause) {
    throw new Error(`${what}: ${messageOf(cause)}`, { cause })
  }
}

const playWorld = async (plan: Iterator<PlannedKill>, random: () => number): Promise<void> => {
  const worldBegan = performance.now()
  const story = await createCrashStory(random)
  const isFull = (played: number) => played >= killsPerWorld || performance.now() - worldBegan > worldMs
  try {
    for (let played = 0; !isOver() && !isFull(played); played++) {
      const kill = plan.next().value as PlannedKill
      const text = `kill ${tally.rounds + 1}: ${killText(kill)}`
      await named(text, () => story.playRound(kill))
      countKill(tally, kill)
      say(`${minutesSince().toFixed(1).padStart(6)} min  ${text}`)
    }
    for (const [name, check] of Object.entries(lastChecks)) await named(name, () => check(story))
  } catch (error) {
    await story.end().catch(() => {})
    say(`what is left of it: ${story.home.paths.home}, log: ${story.home.logFile}`)
    throw error
  } finally {
    countWorld(tally, story.evidence)
  }
  await story.end()
  story.home.remove()
}

say(`torture: seed ${seed}`)
let broken: string | null = null
try {
  const random = createRandom(seed)
  const plan = planKills(random)
  while (!isOver()) await playWorld(plan, random)
} catch (error) {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  broken = messageOf(error)
}
for (const line of summary(tally, {
  ...{ seed, broken },
  minutes: minutesSince(),
  invariants: Object.keys(rules).length,
}))
  say(line)
process.exit(broken === null ? 0 : 1)
