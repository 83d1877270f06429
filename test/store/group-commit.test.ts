// Durability and isolation: what shares a commit, what a failure takes with it, and what a reopened database has.
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { currentVersion } from '../../src/store/sqlite/migrations.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import * as w from './make-ledger.ts'

const tick = () => new Promise<void>(resolve => setImmediate(resolve))

test('a failing call takes nothing of its neighbours with it, and leaves no gap in log or feed', async () => {
  const world = await w.makeWorld()
  const calls = Array.from({ length: 30 }, (_, i) => {
    const intent = w.intentOf(world)
    return world.ledger.issuance.recordIntents<string>([
      w.recordCommand(intent),
      {
        query: w.recordCommand(intent).query,
        decide: () => {
          if (i % 3 === 0) throw new RangeError('no')
          return { act: 'pending', serial: intent.serial }
        },
      },
    ])
  })
  const settled = await Promise.allSettled(calls)
  expect(settled.filter(each => each.status === 'rejected')).toHaveLength(10)
  expect(world.ledger.certificates.list({ limit: 100 }).rows).toHaveLength(20)
  const leaves = world.ledger.audit.read(0, 1000)
  expect(leaves.map(leaf => leaf.index)).toEqual(leaves.map((_, i) => i))
  expect(world.ledger.audit.head()).toEqual({ size: leaves.length, head: leaves.at(-1)!.head })
})

test('what shares a transaction with a failure runs again, and is there once', async () => {
  const world = await w.makeWorld()
  const before = world.ledger.audit.head().size
  let runs = 0
  const good = w.recordCommand(w.intentOf(world))
  const bad = w.recordCommand(w.intentOf(world))
  const kept = world.ledger.issuance.recordIntents<string>([
    {
      query: good.query,
      decide: facts => {
        runs++
        return good.decide(facts)
      },
    },
  ])
  const failed = world.ledger.issuance.recordIntents<string>([
    {
      query: bad.query,
      decide: () => {
        throw new RangeError('no')
      },
    },
  ])
  await expect(failed).rejects.toThrow('no')
  await kept
  expect(runs).toBe(2)
  expect(world.ledger.certificates.list({ limit: 100 }).rows).toHaveLength(1)
  expect(world.ledger.audit.head().size).toBe(before + 1)
})

test('calls in flight share commits', async () => {
  let commits = 0
  const faults = { before: (point: string) => (commits += point === 'commit' ? 1 : 0) }
  // A time that stands: how long a transaction may take is another rule, and a busy machine would end each early.
  const clock = { now: Date.now, monotonic: () => 0 }
  const ledger = openSqliteLedger(':memory:', { clock, log: silentLog, faults })
  const world = await w.makeWorld(ledger)
  commits = 0
  await Promise.all(Array.from({ length: 100 }, () => w.recordIntent(world, w.intentOf(world))))
  expect(commits).toBeLessThan(20)
})

for (const point of ['begin', 'commit'] as const)
  test(`when ${point} fails every call of the batch rejects, nothing is applied, and the next call works`, async () => {
    using file = w.temporaryDatabase()
    let fail = false
    const faults = {
      before: (at: string) => {
        if (fail && at === point) throw new Error('disk I/O error')
      },
    }
    const ledger = w.makeLedger(file.path, faults)
    const world = await w.makeWorld(ledger)
    const { size, head } = ledger.audit.head()
    fail = true
    const intents = Array.from({ length: 5 }, () => w.intentOf(world, { profile: 'a word that is rolled back' }))
    const settled = await Promise.allSettled(intents.map(intent => w.recordIntent(world, intent)))
    for (const each of settled) expect(each).toMatchObject({ status: 'rejected', reason: { code: 'store_failed' } })
    fail = false
    expect(ledger.audit.head()).toEqual({ size, head })
    expect(ledger.certificates.list({ limit: 10 }).rows).toEqual([])
    await w.recordIntent(world, intents[0]!)
    await ledger.close()
    const again = w.makeLedger(file.path)
    expect(again.certificates.list({ limit: 10 }).rows).toMatchObject([
      { serial: intents[0]!.serial, profile: 'a word that is rolled back' },
    ])
    await again.close()
  })

test('nothing is answered before its commit', async () => {
  const order: string[] = []
  const ledger = w.makeLedger(':memory:', { before: point => order.push(point) })
  await ledger.meta.set({ ca_id: 'x' }).then(() => order.push('answered'))
  expect(order).toEqual(['begin', 'commit', 'answered'])
})

test('closing waits for what was asked and refuses what comes later', async () => {
  using file = w.temporaryDatabase()
  const ledger = w.makeLedger(file.path)
  const asked = ledger.meta.set({ ca_id: 'ca-1' })
  await ledger.close()
  await asked
  await expect(ledger.meta.set({ ca_id: 'ca-2' })).rejects.toMatchObject({ code: 'store_failed' })
  const again = w.makeLedger(file.path)
  expect(again.meta.get('ca_id')).toBe('ca-1')
  expect([await again.meta.nextEpoch(), await again.meta.nextEpoch()]).toEqual([1, 2])
  await again.close()
  await tick()
})

test('a database of a newer version is refused with a hint', async () => {
  using file = w.temporaryDatabase()
  await w.makeLedger(file.path).close()
  const db = new Database(file.path)
  db.pragma('user_version = 999')
  db.close()
  expect(() => w.makeLedger(file.path)).toThrow(
    expect.objectContaining({ code: 'database_newer', hint: expect.stringContaining('agentca') }),
  )
})

test('the file is in write-ahead mode, and a file that is no database is refused', async () => {
  using file = w.temporaryDatabase()
  await w.makeLedger(file.path).close()
  const db = new Database(file.path)
  expect(db.pragma('journal_mode', { simple: true })).toBe('wal')
  expect(db.pragma('user_version', { simple: true })).toBe(currentVersion)
  db.close()
  expect(() => w.makeLedger('/dev/null/agentca.db')).toThrow()
})

test('signatures are counted once each, also where another call of their transaction fails', async () => {
  const world = await w.makeWorld()
  const intents = [w.intentOf(world), w.intentOf(world), w.intentOf(world)]
  for (const intent of intents) await w.recordIntent(world, intent)
  const released = intents.map(intent => w.recordIssued(world, intent))
  const failed = world.ledger.issuance.recordIntents<string>([
    {
      query: w.recordCommand(w.intentOf(world)).query,
      decide: () => {
        throw new RangeError('no')
      },
    },
  ])
  await expect(failed).rejects.toThrow('no')
  expect(await Promise.all(released)).toEqual(['issued', 'issued', 'issued'])
  expect(world.ledger.issuance.signatures(world.issuer.id)).toEqual({ recorded: 3, doubtful: 0 })
})

test('an instance is made with its head, also in a transaction that runs again because a call failed', async () => {
  const world = await w.makeWorld()
  const intents = Array.from({ length: 6 }, () => w.intentOf(world))
  const calls = intents.flatMap((intent, i) => [
    w.recordIntent(world, intent),
    ...(i % 2 === 0
      ? []
      : [
          world.ledger.issuance.recordIntents<string>([
            w.recordCommand(w.intentOf(world)),
            {
              query: w.recordCommand(intent).query,
              decide: () => {
                throw new RangeError('no')
              },
            },
          ]),
        ]),
  ])
  await Promise.allSettled(calls)
  for (const { instanceId, serial } of intents) expect(w.instanceOf(world, instanceId).headSerial).toBe(serial)
})

test('a join token that was read before is seen as it is now', async () => {
  const world = await w.makeWorld()
  const hash = w.hashOf('secret')
  await w.addToken(world, 'once', 2, { hash })
  const shown = () => world.ledger.tokens.byHash(hash)
  expect(shown()).toMatchObject({ id: 'once', usesTaken: 0, state: 'active' })
  await w.recordIntent(world, w.intentOf(world, { tokenId: 'once', keyHash: w.hashOf('key') }))
  expect(shown()).toMatchObject({ id: 'once', usesTaken: 1, state: 'active' })
  const facts = (key: string) =>
    world.ledger.issuance.facts({ evidence: { kind: 'token', tokenHash: hash }, keyHash: w.hashOf(key), now: w.now })
  expect(facts('key')).toMatchObject({ token: { usesTaken: 1 }, tokenUse: { tokenId: 'once' } })
  expect(facts('another key').tokenUse).toBeNull()
  await world.ledger.tokens.revoke('once', w.now + 1, w.leaf('token_revoked'))
  expect(shown()).toMatchObject({ id: 'once', usesTaken: 1, state: 'revoked' })
  expect(facts('key').token).toMatchObject({ state: 'revoked' })
})
