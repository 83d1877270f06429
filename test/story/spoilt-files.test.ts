// Files of a home that somebody spoils: the published lists are removed, another program keeps the ledger's lock, pages of the ledger are
// damaged. What is served from memory goes on; what cannot be right is not served.
import { closeSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { spawnCa } from './ca-process.ts'
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

const bytesOf = (serial: string): Buffer => Buffer.from(serial, 'hex')

describe('a status folder that is removed', () => {
  it('is made again by the next list; what is served meanwhile comes from memory', async () => {
    const rogue = await story.joined('unlisted')
    const serial = serialOf(rogue)
    rmSync(story.home.paths.status, { recursive: true })
    await story.party.crl()
    await revoke(story.deps, { by: 'agent', value: 'unlisted' })
    await until('it is served', async () => Buffer.from(await story.party.crl()).includes(bytesOf(serial)))
    const list = join(story.home.paths.status, 'crl/issuing-1.crl')
    await until('it is on disk', () => statSync(list, { throwIfNoEntry: false }) !== undefined)
    expect(readFileSync(list).includes(bytesOf(serial))).toBe(true)
    await until('it is ready', async () => (await fetch(`${story.ca.line.ops}/readyz`)).status === 200)
  })
})

describe('a ledger that another program keeps locked', () => {
  it('turns away what has to be recorded until the lock is gone, and loses nothing', { timeout: 120_000 }, async () => {
    const resident = await story.joined('waiting')
    const other = new Database(story.home.paths.database)
    other.exec('BEGIN IMMEDIATE')
    const asking = resident.act()
    await until('it was turned away', () => story.turnedAway.some(({ code }) => code === 'store_failed'))
    await story.party.crl()
    expect(await story.party.ocsp(serialOf(resident))).toBe('good')
    other.exec('ROLLBACK')
    other.close()
    expect(await asking).toBe('answered')
    await story.checkLedger()
  })
})

describe('a ledger with damaged pages', () => {
  it('is not served as if nothing were, and the way out is named', { timeout: 120_000 }, async () => {
    expect(await story.ca.stop()).toEqual({ code: 0, signal: null })
    const { size } = statSync(story.home.paths.database)
    const file = openSync(story.home.paths.database, 'r+')
    // Every page but the first: its header says that it is a database.
    const garbage = Buffer.alloc(8192, 0x5a)
    for (let at = garbage.length; at < size; at += garbage.length) writeSync(file, garbage, 0, garbage.length, at)
    closeSync(file)
    const { ended, ready } = spawnCa(story.home, 'serve')
    ready.catch(() => {})
    expect((await ended).code).not.toBe(0)
    expect(story.home.log()).toMatch(/database disk image is malformed\n +hint: restore it from a backup/)
  })
})
