// A registration that is kept in memory is never older than the ledger.

import { expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { IssuanceFacts } from '../../src/store/ports.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import {
  addAgent,
  addToken,
  hashOf,
  leaf,
  makeLedger,
  makeWorld,
  now,
  setState,
  temporaryDatabase,
} from './make-ledger.ts'

const factsOf = (world: Awaited<ReturnType<typeof makeWorld>>): IssuanceFacts =>
  world.ledger.issuance.facts({
    evidence: { kind: 'token', tokenHash: hashOf('t') },
    keyHash: hashOf('key'),
    now,
  })

test('what was read is read anew after the registration changed, by whatever part of the ledger', async () => {
  await using ledger = makeLedger()
  const world = await makeWorld(ledger)
  await addToken(world, 't')
  const before = factsOf(world)
  expect(factsOf(world).registration).toBe(before.registration)
  await setState(world, 'held')
  const held = factsOf(world)
  expect(held.registration).toMatchObject({ state: 'held', version: before.registration!.version + 1 })
  expect(ledger.registrations.byId(world.agent.id)).toEqual(held.registration)
  await ledger.owners.gone('alice', now, () => leaf('owner_gone'))
  expect(factsOf(world).owner).toMatchObject({ state: 'gone' })
})

test('a change that was rolled back is forgotten, and what was read of it', async () => {
  using database = temporaryDatabase()
  let failing = false
  await using ledger = openSqliteLedger(database.path, {
    // Time stands still, so that no transaction ends for taking long.
    clock: { ...systemClock, monotonic: () => 0 },
    log: silentLog,
    faults: {
      before: point => {
        if (failing && point === 'commit') throw new Error('no room')
      },
    },
  })
  const world = await makeWorld(ledger)
  await addToken(world, 't')
  expect(factsOf(world).registration?.state).toBe('active')
  failing = true
  // Both are in the transaction that fails: the second reads what the first one wrote.
  const held = setState(world, 'held')
  let seen: string | undefined
  const read = ledger.issuance.recordIntents<string>([
    {
      query: { evidence: { kind: 'token', tokenHash: hashOf('t') }, keyHash: hashOf('key'), now },
      decide: ({ registration }) => {
        seen = registration?.state
        return { act: 'pending', serial: '' }
      },
    },
  ])
  await expect(held).rejects.toMatchObject({ code: 'store_failed' })
  await expect(read).rejects.toMatchObject({ code: 'store_failed' })
  expect(seen).toBe('held')
  failing = false
  expect(factsOf(world).registration?.state).toBe('active')
  await setState(world, 'held')
  expect(factsOf(world).registration?.state).toBe('held')
  await addAgent(ledger, 'other')
})
