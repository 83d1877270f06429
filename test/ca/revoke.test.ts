import { describe, expect, it } from 'vitest'
import { revocationSelectors } from '../../src/schema/admin-api.ts'
import type { IntentRecord, RevocationSelector } from '../../src/store/ports.ts'
import * as w from '../store/make-ledger.ts'
import { codeOf, context, makeOperations } from './operations-world.ts'

const options = { context, dryRun: false }

/** Agent billing with two instances, the first enrolled by a token; service orders and operator bob with one each. */
const makeFleet = async () => {
  const ops = await makeOperations()
  const issuing = { ledger: ops.ledger, issuer: ops.issuer }
  const agent = await ops.register('agent', 'billing')
  const { token } = await ops.tokens.create(
    { kind: 'agent', name: 'billing', ttlSeconds: 600, uses: 1, boundKeyHash: null },
    options,
  )
  const first = await w.issue({ ...issuing, agent }, { tokenId: token.id })
  const second = await w.issue({ ...issuing, agent })
  const others: IntentRecord[] = []
  for (const [kind, name] of [
    ['service', 'orders'],
    ['operator', 'bob'],
  ] as const)
    others.push(await w.issue({ ...issuing, agent: await ops.register(kind, name) }, { kind }))
  const live = () =>
    [first, second, ...others].filter(each => ops.ledger.certificates.get(each.serial)?.state === 'issued').length
  return { ops, first, second, token, live }
}

type Fleet = Awaited<ReturnType<typeof makeFleet>>

const selectors: Readonly<Record<RevocationSelector['by'], { value: (fleet: Fleet) => string; hits: number }>> = {
  serial: { value: fleet => fleet.first.serial, hits: 1 },
  instance: { value: fleet => fleet.first.instanceId, hits: 1 },
  agent: { value: () => 'billing', hits: 2 },
  service: { value: () => 'orders', hits: 1 },
  operator: { value: () => 'bob', hits: 1 },
  owner: { value: () => 'finance', hits: 2 },
  token: { value: fleet => fleet.token.id, hits: 1 },
  key: { value: fleet => fleet.first.keyHash, hits: 1 },
  issuer: { value: () => 'issuing-1', hits: 4 },
}

describe('every selector', () => {
  it('of the admin API is one of the ledger', () => {
    expect(Object.keys(selectors).sort()).toEqual([...revocationSelectors].sort())
  })

  it.each(revocationSelectors)('%s: the dry run shows what the revocation then hits', async by => {
    const fleet = await makeFleet()
    const { ops } = fleet
    const selector = { by, value: selectors[by].value(fleet) }
    const before = [ops.size(), ops.ledger.feed.head().n]
    const planned = await ops.revoke(selector, 'superseded', { context, dryRun: true })
    expect(planned).toMatchObject({ feed: null, dryRun: true, radius: { certificates: selectors[by].hits } })
    expect([ops.size(), ops.ledger.feed.head().n, fleet.live()]).toEqual([...before, 4])
    const done = await ops.revoke(selector, 'superseded', { ...options, why: 'drill' })
    expect(done.radius).toEqual(planned.radius)
    expect(fleet.live()).toBe(4 - selectors[by].hits)
    expect(done.feed).toEqual(ops.ledger.feed.head())
    expect(ops.leaves()).toMatchObject([
      { event: 'revoked', by, value: selector.value, reason: 'superseded', why: 'drill', feed: done.feed!.n },
    ])
    expect(ops.counted).toEqual([['agentca_revocations_total', { by, reason: 'superseded' }]])
    // Nothing is written at step 1, everything at step 2, and a dry run has no steps.
    expect(ops.steps).toEqual([
      ['revocation 1', before[1]],
      ['revocation 2', done.feed!.n],
    ])
  })

  it.each(revocationSelectors.filter(by => by !== 'key'))('%s: an unknown value is not found', async by => {
    const { ops } = await makeFleet()
    expect(await codeOf(ops.revoke({ by, value: 'aa' }, 'superseded', options))).toBe('not_found')
  })
})

describe('what may be given', () => {
  it('takes a serial in upper case, with colons, with white space around it', async () => {
    const { ops, first, live } = await makeFleet()
    const typed = ` ${first.serial.toUpperCase().match(/../g)!.join(':')} `
    const { selector } = await ops.revoke({ by: 'serial', value: typed }, 'keyCompromise', options)
    expect(selector.value).toBe(first.serial)
    expect(live()).toBe(3)
  })

  it('takes a key as fingerprint tools print it, also one that was never seen, and refuses it for ever', async () => {
    const { ops } = await makeFleet()
    const hash = w.hashOf('never seen')
    const typed = `SHA256:${hash.toUpperCase().match(/../g)!.join(':')}`
    expect((await ops.revoke({ by: 'key', value: typed }, 'keyCompromise', options)).selector.value).toBe(hash)
    const facts = ops.ledger.issuance.facts({
      evidence: { kind: 'registration', subject: 'agent', name: 'billing' },
      keyHash: hash,
      now: w.now,
    })
    expect(facts.keyRevoked).toBe(true)
    expect(await codeOf(ops.revoke({ by: 'key', value: 'abc' }, 'keyCompromise', options))).toBe('value_invalid')
    expect(await codeOf(ops.revoke({ by: 'serial', value: 'xyz' }, 'keyCompromise', options))).toBe('serial_malformed')
  })

  it.each(['certificateHold', 'removeFromCRL'])(
    'refuses the reason %s and names the command that does it',
    async reason => {
      const { ops, first, live } = await makeFleet()
      const refused = ops.revoke({ by: 'serial', value: first.serial }, reason, options)
      await expect(refused).rejects.toMatchObject({
        code: 'value_invalid',
        hint: expect.stringContaining('agentca agent hold'),
      })
      expect(live()).toBe(4)
    },
  )

  it('refuses a reason that RFC 5280 does not have', async () => {
    const { ops, first } = await makeFleet()
    for (const reason of ['because', 'keycompromise', '1', 'toString'])
      expect(await codeOf(ops.revoke({ by: 'serial', value: first.serial }, reason, options)), reason).toBe(
        'value_invalid',
      )
  })

  it('refuses when more would be hit than the caller saw', async () => {
    const { ops, live } = await makeFleet()
    const agent = { by: 'agent', value: 'billing' } as const
    for (const dryRun of [true, false])
      expect(await codeOf(ops.revoke(agent, 'superseded', { context, dryRun, expected: 1 }))).toBe('radius_changed')
    expect(live()).toBe(4)
    expect(await codeOf(ops.revoke(agent, 'superseded', { ...options, expected: 2 }))).toBe('fulfilled')
  })
})
