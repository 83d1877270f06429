// Files of a home that somebody spoils: the published lists are removed, another program keeps the ledger's lock, pages of the ledger are
// damaged. What is served from memory goes on; what cannot be right is not served.
import { closeSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type CaProcess, createStoryHome, type StoryHome, spawnCa, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import { until } from './until.ts'

let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
const turnedAway: string[] = []

beforeAll(async () => {
  home = await createStoryHome()
  party = createRelyingParty(home)
  deps = { home, evidence, signal: ending.signal, retryMs: 200, onRetry: error => turnedAway.push(error.code) }
  ca = await startCa(home, 'serve')
})
afterEach(() => {
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
const bytesOf = (serial: string): Buffer => Buffer.from(serial, 'hex')

describe('a status folder that is removed', () => {
  it('is made again by the next list; what is served meanwhile comes from memory', async () => {
    const rogue = await joined('unlisted')
    const { serial } = rogue.current()!.facts
    rmSync(home.paths.status, { recursive: true })
    await party.crl()
    await revoke(deps, { by: 'agent', value: 'unlisted' })
    await until('it is served', async () => Buffer.from(await party.crl()).includes(bytesOf(serial)))
    const list = join(home.paths.status, 'crl/issuing-1.crl')
    await until('it is on disk', () => statSync(list, { throwIfNoEntry: false }) !== undefined)
    expect(readFileSync(list).includes(bytesOf(serial))).toBe(true)
    await until('it is ready', async () => (await fetch(`${ca.line.ops}/readyz`)).status === 200)
  })
})

describe('a ledger that another program keeps locked', () => {
  it('turns away what has to be recorded until the lock is gone, and loses nothing', { timeout: 120_000 }, async () => {
    const resident = await joined('waiting')
    const other = new Database(home.paths.database)
    other.exec('BEGIN IMMEDIATE')
    const asking = resident.act()
    await until('it was turned away', () => turnedAway.includes('store_failed'))
    await party.crl()
    expect(await party.ocsp(resident.current()!.facts.serial)).toBe('good')
    other.exec('ROLLBACK')
    other.close()
    expect(await asking).toBe('answered')
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
  })
})

describe('a ledger with damaged pages', () => {
  it('is not served as if nothing were, and the way out is named', { timeout: 120_000 }, async () => {
    expect(await ca.stop()).toEqual({ code: 0, signal: null })
    const { size } = statSync(home.paths.database)
    const file = openSync(home.paths.database, 'r+')
    // Every page but the first: its header says that it is a database.
    const garbage = Buffer.alloc(8192, 0x5a)
    for (let at = garbage.length; at < size; at += garbage.length) writeSync(file, garbage, 0, garbage.length, at)
    closeSync(file)
    const { ended, ready } = spawnCa(home, 'serve')
    ready.catch(() => {})
    expect((await ended).code).not.toBe(0)
    expect(home.log()).toMatch(/database disk image is malformed\n +hint: restore it from a backup/)
  })
})
