// The crash story with thirty kills; AGENTCA_STORY_KILLS and AGENTCA_STORY_SEED play others, `npm run torture` plays on for as long as it is told.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lastChecks } from './crash-end.ts'
import { createRandom, killText, planKills } from './crash-plan.ts'
import { type CrashStory, createCrashStory } from './crash-story.ts'
import { readLedger } from './invariants.ts'

const kills = Number(process.env.AGENTCA_STORY_KILLS ?? 30)
const seed = Number(process.env.AGENTCA_STORY_SEED ?? 1)
const random = createRandom(seed)
const planned = [...planKills(random).take(kills)]

let story: CrashStory
let broken = false

beforeAll(async () => {
  story = await createCrashStory(random)
})
afterAll(async () => {
  await story?.end()
  story?.home.remove()
})

describe(`${kills} kills by seed ${seed}`, () => {
  it.for(planned.map((kill, i) => ({ kill, round: i + 1, what: killText(kill) })))(
    'round $round: $what',
    { timeout: 300_000 },
    async ({ kill }, { skip }) => {
      // What comes after a failed round would tell of that round only.
      skip(broken, 'an earlier round failed')
      broken = true
      await story.playRound(kill)
      broken = false
    },
  )
})

describe('after all of them', () => {
  it('the kills met something', () => {
    const { certificates, acme } = readLedger(story.home.paths.database)
    expect(certificates.length).toBeGreaterThan(kills * 40)
    expect(certificates.some(row => row.state === 'orphaned')).toBe(true)
    expect(acme.orders.size).toBeGreaterThan(kills)
    // Each round had a list of its own.
    expect(story.evidence.crls.length).toBeGreaterThanOrEqual(kills)
  })

  it.for(Object.entries(lastChecks))('%s', { timeout: 300_000 }, ([, check]) => check(story))
})
