// One issuing CA's lane of CRLs on a clock that the test sets.
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createPublishedFile } from '../../src/base/published-file.ts'
import { noSteps } from '../../src/base/steps.ts'
import { completeScope } from '../../src/ca/crl.ts'
import { createCrlEntries } from '../../src/ca/crl-entries.ts'
import { type CrlLaneDeps, createCrlLane } from '../../src/ca/crl-lane.ts'
import { leaf } from './authority.ts'
import { createPublication, type Publication } from './publication.ts'

let world: Publication
beforeAll(async () => {
  world = await createPublication()
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
})

it('makes another list when the clock that made the last one was ahead', async () => {
  const { ca } = world
  let aheadMs = 0
  const clock = { now: () => Date.now() + aheadMs, monotonic: () => performance.now() }
  const entries = createCrlEntries({ log: silentLog, revocations: ca.ledger.revocations })
  const deps: CrlLaneDeps = {
    issue: {
      clock,
      entries,
      signer: ca.signer.client,
      published: () => leaf('crl_published'),
      lifetimeSeconds: 86_400,
      regularIntervalSeconds: 43_200,
      signDeadlineMs: 5000,
      reached: noSteps,
    },
    clock,
    log: silentLog,
    metrics: silentMetrics,
    refreshBeforeSeconds: 43_200,
    changed: async () => {},
  }
  const lane = createCrlLane(deps, {
    issuer: ca.issuer,
    scope: completeScope(ca.ledger.status, ca.issuer.id),
    file: createPublishedFile(join(world.newDirectory(), 'issuing-1.crl')),
    until: ca.issuer.certificate.notAfter,
    follow: () => entries.follow(ca.issuer.id),
    newest: () => ca.ledger.revocations.revision(ca.issuer.id),
    recorded: () => null,
  })
  // As far as the signer, which has a clock of its own, lets a list be from.
  aheadMs = 4 * 60_000
  await lane.refresh()
  const early = lane.current()!
  expect(early.thisUpdate).toBeGreaterThan(Date.now() + 3 * 60_000)
  aheadMs = 0
  await lane.refresh()
  const right = lane.current()!
  expect(right.number).toBeGreaterThan(early.number)
  expect(right.thisUpdate).toBeLessThanOrEqual(Date.now())
  await lane.refresh()
  expect(lane.current()).toBe(right)
  await lane.close()
})
