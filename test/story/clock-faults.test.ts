// The machine's clock is wrong by a day and by a year, back and ahead, while a CA is served: it signs and ends nothing, status goes on, and
// once the clock is right again it issues as before. The first seconds and minutes are clock-guard.test.ts's.
import { dirname } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { noSteps } from '../../src/base/steps.ts'
import { loadConfig } from '../../src/cli/config-file.ts'
import { type RunningServer, startServer } from '../../src/server/serve.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, registerAgent } from './fleet.ts'
import { createCandidate, outcomeOf } from './holder.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'

const day = 86_400_000

let home: StoryHome
let server: RunningServer
let party: RelyingParty
let deps: FleetDeps
/** What the wall clock is wrong by; the monotonic one goes on. */
let wrongByMs = 0
const evidence = noEvidence()
const ending = new AbortController()

beforeAll(async () => {
  home = await createStoryHome()
  const { config, profiles } = loadConfig({ env: home.env, cwd: dirname(home.paths.home) }, undefined)
  server = await startServer({
    ...{ config, paths: home.paths, profilesDirectory: profiles, version: 'story', reached: noSteps },
    clock: { now: () => Date.now() + wrongByMs, monotonic: systemClock.monotonic },
    log: createLog({ level: 'error', destination: 2 }),
    metrics: createMetrics(),
  })
  party = createRelyingParty(home)
  deps = { home, evidence, signal: ending.signal, retryMs: 200 }
  await registerAgent(deps, 'agent')
}, 180_000)
afterAll(async () => {
  ending.abort()
  wrongByMs = 0
  await server?.close(0)
  await party?.close()
  home?.remove()
})

it.each([
  ['back by a day', -day],
  ['ahead by a day', day],
  ['back by a year', -365 * day],
  ['ahead by a year', 365 * day],
])('%s: nothing is issued, what is valid stays valid, and it heals once the clock is right', async (_, ms) => {
  const member = createMember(deps, 'agent')
  member.join(await createToken(deps, 'agent'))
  expect(await member.act()).toBe('answered')
  const { serial } = member.current()!.facts
  const next = await createToken(deps, 'agent')
  expect(await party.ocsp(serial)).toBe('good')
  const list = await party.crl()
  wrongByMs = ms
  const { token } = next
  const candidate = createCandidate({ url: home.report.urls.api, rootFile: home.rootFile, token })
  expect(await outcomeOf(candidate.enrol())).toBe('clock_refused')
  // A year ahead the CA's own certificate is over, and the responder says so.
  const word = await party.ocsp(serial).catch((error: Error) => error.message)
  expect(['good', 'unavailable', 'the responder said unauthorized']).toContain(word)
  expect(Buffer.from(await party.crl()).equals(Buffer.from(list))).toBe(true)
  wrongByMs = 0
  expect(await outcomeOf(candidate.enrol())).toBe('ok')
  expect(await member.act()).toBe('answered')
  expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
})
