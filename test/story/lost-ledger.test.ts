// A ledger that lost its end without anybody restoring it: an older file put back by hand, a write-ahead log that was cut off. The next
// start sees by what it published that there was more: no revocation is forgotten, and nothing is issued before an operator has looked.
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import { until } from './until.ts'

let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const ending = new AbortController()
const turnedAway: string[] = []

beforeAll(async () => {
  home = await createStoryHome()
  party = createRelyingParty(home)
  deps = {
    home,
    evidence: noEvidence(),
    signal: ending.signal,
    retryMs: 200,
    onRetry: error => turnedAway.push(error.code),
  }
  ca = await startCa(home, 'serve')
})
beforeEach(() => {
  turnedAway.length = 0
})
afterAll(async () => {
  ending.abort()
  await ca?.stop()
  await party?.close()
  home?.remove()
})

const joined = async (name: string): Promise<Member> => {
  await registerAgent(deps, name)
  const member = createMember(deps, name)
  member.join(await createToken(deps, name))
  expect(await member.act()).toBe('answered')
  return member
}
const serialOf = (member: Member): string => member.current()!.facts.serial
const files = (): readonly string[] => ['', '-wal', '-shm'].map(end => `${home.paths.database}${end}`)

/** @param lose between two lives of the CA; before it the first agent is in the ledger, after it both are revoked and published */
const losses: Readonly<Record<string, { readonly prepare: () => Promise<void>; readonly lose: () => void }>> = {
  'whose older file was put back': {
    prepare: async () => {
      await ca.stop()
      copyFileSync(home.paths.database, `${home.paths.database}.old`)
      ca = await startCa(home, 'serve')
    },
    lose: () => {
      for (const file of files()) rmSync(file, { force: true })
      copyFileSync(`${home.paths.database}.old`, home.paths.database)
    },
  },
  'whose write-ahead log was cut off': {
    // Everything that is in it from now on came after.
    prepare: async () => {
      await ca.stop()
      ca = await startCa(home, 'serve')
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
    const known = await joined(`known-${n}`)
    await prepare()
    const resident = await joined(`resident-${n}`)
    const lost = await joined(`lost-${n}`)
    for (const name of ['known', 'lost']) await revoke(deps, { by: 'agent', value: `${name}-${n}` })
    const list = join(home.paths.status, 'crl/issuing-1.crl')
    for (const member of [known, lost])
      await until('it is on the list on disk', () => readFileSync(list).includes(Buffer.from(serialOf(member), 'hex')))
    // No good order: what is in the write-ahead log stays there.
    ca.child.kill('SIGKILL')
    await ca.ended
    lose()
    ca = await startCa(home, 'serve')

    for (const member of [known, lost]) {
      expect(await party.ocsp(serialOf(member))).toBe('revoked')
      expect(Buffer.from(await party.crl()).includes(Buffer.from(serialOf(member), 'hex'))).toBe(true)
    }
    expect(await home.admin.call('maintenanceShow')).toMatchObject({ state: 'waiting', revoked: 1, unknown: 1 })
    await registerAgent(deps, `fresh-${n}`)
    const fresh = createMember(deps, `fresh-${n}`)
    fresh.join(await createToken(deps, `fresh-${n}`))
    const asking = fresh.act()
    await until('it was told to wait', () => turnedAway.includes('maintenance'))
    await home.admin.call('maintenanceEnd', { body: { why: 'looked' } })
    expect(await asking).toBe('answered')
    // Its certificate is in no row any more: it needs evidence again.
    expect(await resident.act()).toEqual({ refused: 'certificate_unknown' })
  })
})
