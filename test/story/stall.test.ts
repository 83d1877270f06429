// The process stands still (SIGSTOP: a swapped-out or starved machine, a debugger, a paused virtual machine) while requests come in and while its
// signer lives on: who asked meanwhile is answered afterwards, nothing is ended by the time that was lost, and nobody is locked.
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, registerAgent } from './fleet.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'

/** Longer than the signer's own deadline, and than anybody waits between two attempts. */
const stallMs = 4_000

let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '1s' })
  ca = await startCa(home, 'serve')
  party = createRelyingParty(home)
  deps = { home, evidence, signal: ending.signal, retryMs: 200 }
  await registerAgent(deps, 'agent')
})
afterAll(async () => {
  ending.abort()
  ca?.child.kill('SIGCONT')
  await ca?.stop()
  await party?.close()
  home?.remove()
})

it('a CA that stood still answers whoever asked meanwhile, and goes on', { timeout: 300_000 }, async () => {
  const members = Array.from({ length: 5 }, () => createMember(deps, 'agent'))
  for (const member of members) member.join(await createToken(deps, 'agent'))
  const [first, ...others] = members
  expect(await first?.act()).toBe('answered')
  ca.child.kill('SIGSTOP')
  const asking = others.map(member => member.act())
  const status = party.crl()
  // The stall itself: how long it lasts is what is tried, not what is waited for.
  await new Promise(resolve => setTimeout(resolve, stallMs))
  ca.child.kill('SIGCONT')
  expect(await Promise.all(asking)).toEqual(others.map(() => 'answered'))
  await status
  expect(await first?.act()).toBe('answered')
  expect(await party.ocsp(first?.current()?.facts.serial ?? '')).toBe('good')
  expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
})
