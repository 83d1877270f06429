// The disk under the ledger fails while the CA serves: full, read-only, or losing what it was given. Whoever asks for something new is told
// to come back; what was promised before stands, what could not be recorded was never promised, lists and OCSP go on; and when the disk is
// right again everything works without a restart.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { AgentError } from '../../src/agent/errors.ts'
import { ServerRefusal } from '../../src/cli/errors.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { buildFailingDisk, type DiskFault, type FailingDisk } from './failing-disk.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import { until } from './until.ts'

let disk: FailingDisk
let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
const turnedAway: AgentError[] = []

beforeAll(async () => {
  disk = buildFailingDisk()
  home = await createStoryHome()
  party = createRelyingParty(home)
  deps = { home, evidence, signal: ending.signal, retryMs: 200, onRetry: error => turnedAway.push(error) }
  ca = await startCa(home, 'serve', disk.env)
})
beforeEach(() => {
  turnedAway.length = 0
})
afterEach(() => disk.heal())
afterAll(async () => {
  ending.abort()
  disk?.heal()
  await ca?.stop()
  await party?.close()
  home?.remove()
  disk?.[Symbol.dispose]()
})

const joined = async (name: string): Promise<Member> => {
  await registerAgent(deps, name)
  const member = createMember(deps, name)
  member.join(await createToken(deps, name))
  return member
}

const ops = async (path: string): Promise<{ readonly status: number; readonly text: string }> => {
  const answer = await fetch(`${ca.line.ops}${path}`)
  return { status: answer.status, text: await answer.text() }
}

const faults: readonly (readonly [string, Omit<DiskFault, 'under'>])[] = [
  ['is full', { call: 'write', errno: 'ENOSPC' }],
  ['is read-only', { call: 'write', errno: 'EROFS' }],
  ['fails to write', { call: 'write', errno: 'EIO' }],
  ['fails to keep what it was given', { call: 'sync', errno: 'EIO' }],
]

describe.each(faults)('a disk that %s', (what, fault) => {
  it('keeps from work what has to be recorded, and nothing is lost', { timeout: 180_000 }, async () => {
    const n = faults.findIndex(([each]) => each === what)
    const resident = await joined(`resident-${n}`)
    const rogue = await joined(`rogue-${n}`)
    const newcomer = await joined(`newcomer-${n}`)
    expect([await resident.act(), await rogue.act()]).toEqual(['answered', 'answered'])
    const before = rogue.current()!.facts.serial
    expect(await party.ocsp(before)).toBe('good')

    disk.fail({ ...fault, under: home.paths.database })
    // They ask again and again until there is an answer; it can only come after the disk is back.
    const asking = Promise.all([newcomer.act(), resident.act()])
    await until('both were turned away', () => turnedAway.length >= 6)
    // A commit whose fsync failed may be on the disk all the same: then the intent is found, until it is given up.
    const expected = fault.call === 'sync' ? ['store_failed', 'issuance_in_progress'] : ['store_failed']
    for (const error of turnedAway) expect(expected).toContain(error.code)
    const refused = await home.admin
      .call('revoke', { body: { by: 'agent', value: `rogue-${n}`, reason: 'keyCompromise' } })
      .catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ServerRefusal)
    expect((refused as ServerRefusal).problem).toMatchObject({ code: 'store_failed', status: 503 })
    // What was not recorded is not told to anybody.
    expect(await party.ocsp(before)).toBe('good')
    await party.crl()
    expect((await ops('/livez')).status).toBe(200)
    const ready = await ops('/readyz?verbose')
    expect([ready.status, ready.text]).toEqual([503, expect.stringContaining('[-] ledger failed')])

    disk.heal()
    expect(await asking).toEqual(['answered', 'answered'])
    await revoke(deps, { by: 'agent', value: `rogue-${n}` })
    await until('OCSP says so', async () => (await party.ocsp(before)) === 'revoked')
    await until('it is ready', async () => (await ops('/readyz')).status === 200)
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
  })
})

describe('a disk that is full everywhere', () => {
  it('ends nothing: the CA serves what it has, and goes on by itself', { timeout: 180_000 }, async () => {
    const resident = await joined('everywhere')
    expect(await resident.act()).toBe('answered')
    const serial = resident.current()!.facts.serial
    disk.fail({ call: 'write', errno: 'ENOSPC', under: home.paths.home })
    const asking = resident.act()
    await until('it was turned away', () => turnedAway.length >= 3)
    expect(await party.ocsp(serial)).toBe('good')
    await party.crl()
    expect(ca.child.exitCode).toBe(null)
    disk.heal()
    expect(await asking).toBe('answered')
    await until('it is ready', async () => (await ops('/readyz')).status === 200)
    expect(readFileSync(join(home.paths.status, 'crl/issuing-1.crl')).length).toBeGreaterThan(0)
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
  })
})
