// A CA that is started while its HSM is dead, as `agentca serve`: status from disk, an API under the certificate it has, and enrolments
// turned away before anything is recorded of them. When the HSM comes back, the same request succeeds.
import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { softHsmPaths } from '../../src/signer/softhsm-token.ts'
import type { Member } from './fleet.ts'
import { type FleetStory, serialOf, startFleetStory } from './fleet-story.ts'
import { readLedger } from './invariants.ts'
import { until } from './until.ts'

let story: FleetStory
let resident: Member
beforeAll(async () => {
  story = await startFleetStory()
  resident = await story.joined('resident')
})
beforeEach(() => {
  story.turnedAway.length = 0
})
afterAll(() => story?.[Symbol.asyncDispose]())

const events = (event: string): number =>
  readLedger(story.home.paths.database).leaves.filter(leaf => leaf.event === event).length

const ops = async (path: string): Promise<{ readonly status: number; readonly text: string }> => {
  const answer = await fetch(`${story.ca.line.ops}${path}`)
  return { status: answer.status, text: await answer.text() }
}

interface Death {
  readonly state: 'down' | 'locked'
  /** While the CA is down. @returns configuration for the next start */
  kill(): Readonly<Record<string, string>>
  revive(): Promise<void>
}

const away = (): string => join(story.home.paths.home, 'away')

const deaths: Readonly<Record<string, Death>> = {
  'whose token is gone': {
    state: 'down',
    kill: () => {
      renameSync(softHsmPaths(story.home.paths.tokens).tokenDirectory, away())
      return {}
    },
    revive: async () => renameSync(away(), softHsmPaths(story.home.paths.tokens).tokenDirectory),
  },
  'whose PIN is gone': {
    state: 'locked',
    kill: () => {
      renameSync(softHsmPaths(story.home.paths.tokens).pinFile, away())
      return {}
    },
    revive: async () => {
      renameSync(away(), softHsmPaths(story.home.paths.tokens).pinFile)
      expect((await story.home.admin.call('hsmUnlock', { body: {} })).state).toBe('ready')
    },
  },
  'whose module cannot be loaded': {
    state: 'down',
    kill: () => ({
      AGENTCA_HSM_URI: story.home.report.tokenUri.replace(/module-path=[^&]+/, 'module-path=/nonexistent/pkcs11.so'),
      AGENTCA_HSM_SOFTHSMCONF: story.home.report.confPath ?? '',
    }),
    // A module path is configuration: only a start with another one can put it right.
    revive: async () => {
      expect(await story.ca.stop()).toEqual({ code: 0, signal: null })
      await story.start()
    },
  },
}

describe.each(Object.entries(deaths))('an HSM %s', (what, { state, kill, revive }) => {
  it('keeps nothing but signing from work, and everything works again with it', { timeout: 180_000 }, async () => {
    const name = `newcomer-${Object.keys(deaths).indexOf(what)}`
    const newcomer = await story.newcomer(name)
    expect(await story.ca.stop()).toEqual({ code: 0, signal: null })
    // Read now: the last thing that a CA which ends may do is publish.
    const list = readFileSync(join(story.home.paths.status, 'crl/issuing-1.crl'))
    const starting = story.start(kill())
    // Before the server says that it is ready, which may take the time that the signer is waited for.
    await until('lists are served', () =>
      story.party.crl().then(
        () => true,
        () => false,
      ),
    )
    await starting
    expect(Buffer.from(await story.party.crl())).toEqual(list)
    expect(['good', 'unavailable']).toContain(await story.party.ocsp(serialOf(resident)))
    expect((await ops('/livez')).status).toBe(200)
    const ready = await ops('/readyz?verbose')
    expect([ready.status, ready.text]).toEqual([503, expect.stringContaining('[-] signer failed')])
    expect((await story.home.admin.call('status')).signer.state).toBe(state)

    // Both ask again and again until there is an answer; it can only come after the HSM is back.
    const recorded = events('intent_recorded')
    const asking = Promise.all([newcomer.act(), resident.act()])
    await until('both were turned away', () => story.turnedAway.length >= 6)
    for (const error of story.turnedAway) {
      expect([error.code, error.status]).toEqual(['signer_unavailable', 503])
      expect(error.retryAfterSeconds).toBeGreaterThan(0)
    }
    expect([events('intent_recorded'), events('certificate_void')]).toEqual([recorded, 0])

    await revive()
    expect(await asking).toEqual(['answered', 'answered'])
    await until('the signer is ready', async () => (await ops('/readyz')).status === 200)
    expect(await story.party.ocsp(serialOf(resident))).toBe('good')
    await story.checkLedger()
  })
})
