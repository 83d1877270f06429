// What has ended goes from the table of revocations; what has not is listed, answered and fed as before.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { pruneRevocations } from '../../src/ca/prune-revocations.ts'
import * as w from './make-ledger.ts'

const day = 86_400_000

interface Fate {
  readonly endsIn: number
  readonly fate: 'issued' | 'revoked' | 'orphaned' | 'held' | 'released'
}

/** One certificate each, so that its fate is its own. */
const bringAbout = async (world: w.World, name: string, { endsIn, fate }: Fate): Promise<string> => {
  const { ledger } = world
  const of = { ...world, agent: await w.addAgent(ledger, name) }
  const intent = w.intentOf(of, { notAfter: w.now + endsIn, notBefore: w.now - 400 * day })
  await w.recordIntent(of, intent)
  const at = w.now - 300 * day
  if (fate === 'orphaned')
    await ledger.issuance.recordOrphaned([{ serial: intent.serial, at, leaf: w.leaf('certificate_orphaned') }])
  else await w.recordIssued(of, intent)
  const state = (to: 'active' | 'held') =>
    ledger.registrations.change({
      ...{ kind: 'agent', name, at },
      decide: () => ({ set: {}, state: to }),
      leaf: () => w.leaf('registration_changed'),
    })
  if (fate === 'held' || fate === 'released') await state('held')
  if (fate === 'released') await state('active')
  if (fate === 'revoked')
    await ledger.revocations.revoke({
      ...{ selector: { by: 'serial', value: intent.serial }, reason: 'keyCompromise', at, expected: null },
      leaf: () => w.leaf('revoked'),
    })
  return intent.serial
}

const recordCrl = async ({ ledger, issuer }: w.World, thisUpdate: number): Promise<void> => {
  const number = await ledger.status.reserveCrlNumber(issuer.id, thisUpdate)
  await ledger.status.recordCrl(
    {
      ...{ issuerId: issuer.id, number, thisUpdate, nextUpdate: thisUpdate + day, entries: 0 },
      ...{ sha256: w.hashOf(`crl ${number}`), der: new Uint8Array([1]) },
    },
    w.leaf('crl_published'),
  )
}

/** Everything that anybody is told of what ends after this time. */
const told = (world: w.World, serials: readonly string[], since: number) => {
  const { ledger, issuer } = world
  using snapshot = ledger.feed.snapshot(since)
  return {
    crl: ledger.revocations.entries({ issuerId: issuer.id, since, after: null, limit: 1000 }),
    ocsp: ledger.status.states(issuer.id, serials),
    feed: [...snapshot.statuses(1000)].toSorted((a, b) => (a.serial < b.serial ? -1 : 1)),
    revision: ledger.revocations.revision(issuer.id),
  }
}

const fates = fc.array(
  fc.record({
    endsIn: fc.integer({ min: -20 * day, max: 20 * day }),
    fate: fc.constantFrom<Fate['fate']>('issued', 'revoked', 'orphaned', 'held', 'released'),
  }),
  { minLength: 1, maxLength: 25 },
)

it('changes nothing of what is told of anything that has not ended, or still has to be on one more list', async () => {
  await fc.assert(
    fc.asyncProperty(
      fates,
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 0, max: 10 * day }),
      async (all, limit, age) => {
        const world = await w.makeWorld()
        const serials: string[] = []
        for (const [i, fate] of all.entries()) serials.push(await bringAbout(world, `agent-${i}`, fate))
        const thisUpdate = w.now - age
        await recordCrl(world, thisUpdate)
        const needed = Math.min(w.now - 12 * 3_600_000, thisUpdate) - 1
        const before = told(world, serials, needed)
        const { ledger } = world
        const removed = await pruneRevocations({
          clock: { now: () => w.now },
          revocations: { prune: step => ledger.revocations.prune({ ...step, limit }) },
          status: ledger.status,
          issuers: ledger.issuers.list,
          regularIntervalSeconds: 12 * 3600,
        })
        expect(told(world, serials, needed)).toEqual(before)
        // And all of what was due has gone.
        const entries = (since: number) =>
          ledger.revocations.entries({ issuerId: world.issuer.id, since, after: null, limit: 1000 })
        expect(entries(0)).toEqual(entries(needed - day))
        const due = all.filter(({ endsIn, fate }) => fate !== 'issued' && w.now + endsIn <= needed - day)
        expect(removed).toBe(due.length)
        await ledger.close()
      },
    ),
    { numRuns: 30 },
  )
}, 60_000)

it('removes nothing where no list was ever made', async () => {
  const world = await w.makeWorld()
  await bringAbout(world, 'old', { endsIn: -10 * day, fate: 'revoked' })
  const { revocations, status, issuers } = world.ledger
  const deps = { clock: { now: () => w.now }, revocations, status, issuers: issuers.list, regularIntervalSeconds: 1 }
  expect(await pruneRevocations(deps)).toBe(0)
  await recordCrl(world, w.now)
  expect(await pruneRevocations(deps)).toBe(1)
})
