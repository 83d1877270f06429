// A ledger that lost its end without anybody restoring it: an older file put back by hand, a write-ahead log that was cut off. The next
// start sees by what it published that there was more: no revocation is forgotten, and nothing is issued before an operator has looked.
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { revoke } from './fleet.ts'
import { type FleetStory, serialOf, startFleetStory } from './fleet-story.ts'
import { until } from './until.ts'

let story: FleetStory
beforeAll(async () => {
  story = await startFleetStory()
})
beforeEach(() => {
  story.turnedAway.length = 0
})
afterAll(() => story?.[Symbol.asyncDispose]())

const files = (): readonly string[] => ['', '-wal', '-shm'].map(end => `${story.home.paths.database}${end}`)

/** @param lose between two lives of the CA; before it the first agent is in the ledger, after it both are revoked and published */
const losses: Readonly<Record<string, { readonly prepare: () => Promise<void>; readonly lose: () => void }>> = {
  'whose older file was put back': {
    prepare: async () => {
      await story.ca.stop()
      copyFileSync(story.home.paths.database, `${story.home.paths.database}.old`)
      await story.start()
    },
    lose: () => {
      for (const file of files()) rmSync(file, { force: true })
      copyFileSync(`${story.home.paths.database}.old`, story.home.paths.database)
    },
  },
  'whose write-ahead log was cut off': {
    // Everything that is in it from now on came after.
    prepare: async () => {
      await story.ca.stop()
      await story.start()
    },
    lose: () => {
      const [, log] = files()
      expect(statSync(log!).size).toBeGreaterThan(4096)
      truncateSync(log!, 4096)
    },
  },
}

describe.each(Object.entries(losses))('a ledger %s', (what, { prepare, lose }) => {
  it('forgets no revocation, and issues when an operator says so', { timeout: 180_000 }, async () => {
    const n = Object.keys(losses).indexOf(what)
    const known = await story.joined(`known-${n}`)
    await prepare()
    const resident = await story.joined(`resident-${n}`)
    const lost = await story.joined(`lost-${n}`)
    for (const name of ['known', 'lost']) await revoke(story.deps, { by: 'agent', value: `${name}-${n}` })
    const list = join(story.home.paths.status, 'crl/issuing-1.crl')
    for (const member of [known, lost])
      await until('it is on the list on disk', () => readFileSync(list).includes(Buffer.from(serialOf(member), 'hex')))
    // No good order: what is in the write-ahead log stays there.
    story.ca.child.kill('SIGKILL')
    await story.ca.ended
    lose()
    await story.start()

    for (const member of [known, lost]) {
      expect(await story.party.ocsp(serialOf(member))).toBe('revoked')
      expect(Buffer.from(await story.party.crl()).includes(Buffer.from(serialOf(member), 'hex'))).toBe(true)
    }
    expect(await story.home.admin.call('maintenanceShow')).toMatchObject({ state: 'waiting', revoked: 1, unknown: 1 })
    const fresh = await story.newcomer(`fresh-${n}`)
    const asking = fresh.act()
    await until('it was told to wait', () => story.turnedAway.some(({ code }) => code === 'maintenance'))
    await story.home.admin.call('maintenanceEnd', { body: { why: 'looked' } })
    expect(await asking).toBe('answered')
    // Its certificate is in no row any more: it needs evidence again.
    expect(await resident.act()).toEqual({ refused: 'certificate_unknown' })
  })
})
