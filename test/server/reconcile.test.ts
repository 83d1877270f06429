// The signer's count against the ledger's, over kills: what a kill leaves in doubt is settled once, and hides nothing after that.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { Issuers } from '../../src/ca/issuers.ts'
import { createReconciler } from '../../src/server/reconcile.ts'
import { counterBlock, createCounters } from '../../src/signer/counters.ts'
import type { SignerPort } from '../../src/signer/port.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { makeLedger } from '../store/make-ledger.ts'

let directory: string
let ledger: Ledger
let counters: ReturnType<typeof createCounters>
const truth = { recorded: 0, doubtful: 0 }
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-reconcile-'))
  ledger = makeLedger()
  counters = createCounters(directory)
  truth.recorded = 0
  truth.doubtful = 0
})
afterEach(async () => {
  await ledger.close()
  rmSync(directory, { recursive: true, force: true })
})

/** A start of the core: what it remembers is what the ledger has. */
const reconciler = () =>
  createReconciler({
    clock: systemClock,
    log: silentLog,
    signer: { health: async () => ({ state: 'ready', counts: counters.counts() }) } as unknown as SignerPort,
    issuers: { online: () => [{ id: 1, keyLabel: 'issuing-1' }] } as unknown as Issuers,
    issuance: { signatures: () => truth },
    audit: ledger.audit,
    meta: ledger.meta,
  })
const sign = (count: number): void => {
  for (let i = 0; i < count; i++) counters.increment('issuing-1', 'leaf')
}
const issue = (count: number): void => {
  sign(count)
  truth.recorded += count
}
/** SIGKILL: the next process has what is on disk. */
const kill = (): void => {
  counters = createCounters(directory)
}
const leaves = (event: string) =>
  ledger.audit.tail({ event, limit: 100 }).map(({ bytes }) => JSON.parse(Buffer.from(bytes).toString('utf8')))

it('finds a single signature that nobody recorded, after however many kills', async () => {
  for (let kills = 1; kills <= 5; kills++) {
    issue(7)
    kill()
    expect(await reconciler().run()).toEqual([])
    expect(leaves('signer_gap_settled')).toHaveLength(kills)
    issue(3)
    expect(await reconciler().run()).toEqual([])
  }
  expect(counters.counts()[0]!.uncertain).toBeGreaterThan(4 * counterBlock)
  sign(1)
  const running = reconciler()
  expect(await running.run()).toEqual(['issuing-1'])
  expect(await running.run()).toEqual(['issuing-1'])
  expect(leaves('signer_counts_mismatch')).toMatchObject([{ key: 'issuing-1', ledger: 50 }])
})

it('finds a ledger that has more signatures than were made', async () => {
  issue(5)
  kill()
  await reconciler().run()
  truth.recorded += 1
  expect(await reconciler().run()).toEqual(['issuing-1'])
})

it('settles once, also over a new start of the core, and only what fits', async () => {
  issue(5)
  kill()
  expect(await reconciler().run()).toEqual([])
  expect(await reconciler().run()).toEqual([])
  expect(leaves('signer_gap_settled')).toMatchObject([{ signer: counterBlock, ledger: 5, ahead: counterBlock - 5 }])
  // More than a kill could explain.
  sign(2 * counterBlock)
  kill()
  expect(await reconciler().run()).toEqual(['issuing-1'])
  expect(leaves('signer_gap_settled')).toHaveLength(1)
})

it('lets what the ledger itself does not know be signed or not', async () => {
  issue(5)
  sign(2)
  truth.doubtful = 3
  kill()
  expect(await reconciler().run()).toEqual([])
  // One of them was signed, and is recorded as such later.
  truth.doubtful = 2
  truth.recorded += 1
  issue(4)
  expect(await reconciler().run()).toEqual([])
  sign(6)
  expect(await reconciler().run()).toEqual(['issuing-1'])
})
