// What is an orphan, and what becomes of it, over a real ledger and the operations that operators use.
import { beforeEach, describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { createOrphanWatch } from '../../src/ca/orphan-watch.ts'
import { type OrphanReason, type OrphanRules, reasonsOf } from '../../src/ca/orphans.ts'
import { addToken, intentOf, issue, issuedCommand, now, recordIntent, type World } from '../store/make-ledger.ts'
import { codeOf, context, day, makeOperations, type Operations } from './operations-world.ts'

const rules: OrphanRules = {
  idleMs: 30 * day,
  tokenUnusedMs: 7 * day,
  confirmMs: 30 * day,
  attestMs: null,
  warnMs: 14 * day,
  graceMs: 7 * day,
  retire: 'off',
}
const attesting: OrphanRules = { ...rules, attestMs: 90 * day }

let operations: Operations
let at = now

const watchBy = (used: OrphanRules, calls: Readonly<Record<string, number>> = {}) =>
  createOrphanWatch({
    clock: { now: () => at, monotonic: () => at },
    log: silentLog,
    orphans: operations.ledger.orphans,
    lifecycle: operations.lifecycle,
    revoke: operations.revoke,
    tokens: operations.tokens,
    rules: used,
    callsOf: ({ name }) => ({ lastCallAt: calls[name] ?? null, unusedGrants: [] }),
  })

const setTime = (time: number): void => {
  at = time
  operations.setTime(time)
}

const worldOf = (name: string): World => ({
  ledger: operations.ledger,
  issuer: operations.issuer,
  agent: operations.ledger.registrations.find('agent', name)!,
})

const listed = (used = rules, calls: Readonly<Record<string, number>> = {}) =>
  watchBy(used, calls)
    .list({ after: 0, limit: 100, reasons: null })
    .items.map(({ what, name, reasons }) => [what, name, ...reasons.map(({ reason }) => reason)].join(' '))

/** Asked for and given out at this time. */
const issueNow = async (name: string): Promise<void> => {
  const world = worldOf(name)
  const intent = intentOf(world, { createdAt: at, notBefore: at, notAfter: at + day, deadline: at + 30_000 })
  await recordIntent(world, intent)
  const outcome = await operations.ledger.issuance.recordIssued([issuedCommand(intent, { at })])
  expect(outcome).toEqual(['issued'])
}

const stateOf = (name: string) => operations.ledger.registrations.find('agent', name)?.state
const facts = (name: string) => operations.ledger.orphans.registration(worldOf(name).agent.id)!
const all = new Set<OrphanReason>(['idle', 'never_enrolled', 'owner_gone', 'token_unused', 'past_end'])
const change = { context, dryRun: false }

beforeEach(async () => {
  operations = await makeOperations()
  setTime(now)
  await operations.register('agent', 'billing')
})

describe('the list', () => {
  test('has nobody who is new', () => expect(listed()).toEqual([]))

  test('has an agent that never enrolled, from the very moment on', () => {
    setTime(now + 30 * day - 1)
    expect(listed()).toEqual([])
    setTime(now + 30 * day)
    expect(listed()).toEqual(['registration billing owner_unconfirmed never_enrolled'])
  })

  test('has an idle agent, unless its calls are reported', async () => {
    await issue(worldOf('billing'))
    setTime(now + 31 * day)
    expect(listed()).toEqual(['registration billing owner_unconfirmed idle'])
    expect(listed(rules, { billing: now + 20 * day })).toEqual(['registration billing owner_unconfirmed'])
  })

  test('has an instance whose long certificate was not renewed, while others of its agent were', async () => {
    const old = await issue(worldOf('billing'), { notAfter: now + 90 * day })
    setTime(now + 31 * day)
    await operations.registry.attest({ kind: 'agent', name: 'billing' }, null, change)
    await issueNow('billing')
    const { items } = watchBy(rules).list({ after: 0, limit: 100, reasons: null })
    expect(items.map(({ what, id, reasons }) => [what, id, reasons[0]?.cure])).toEqual([
      ['instance', old.instanceId, `agentca revoke --instance ${old.instanceId} --reason cessationOfOperation`],
    ])
  })

  test('has tokens that nobody used, expired or not, and not those that were used or revoked', async () => {
    const world = worldOf('billing')
    await addToken(world, 'waiting', 1, { expiresAt: now + 20 * day })
    await addToken(world, 'expired')
    await addToken(world, 'revoked')
    await operations.tokens.revoke('revoked', change)
    setTime(now + 8 * day)
    const { items } = watchBy(rules).list({ after: 0, limit: 100, reasons: new Set(['token_unused']) })
    expect(items.map(({ id, state, reasons }) => [id, state, reasons[0]?.cure])).toEqual([
      ['waiting', 'active', 'agentca token revoke waiting'],
      ['expired', 'expired', 'agentca token revoke expired'],
    ])
  })

  test('has everything of an owner who is gone, with the command that gives it away', async () => {
    await operations.register('service', 'orders', { owner: 'finance' })
    await operations.lifecycle.ownerGone('finance', change)
    const { items } = watchBy(rules).list({ after: 0, limit: 100, reasons: null })
    expect(items.map(({ kind, name, reasons }) => [kind, name, reasons[0]?.reason, reasons[0]?.cure])).toEqual([
      [
        'agent',
        'billing',
        'owner_gone',
        'agentca agent update billing --owner WHO, then agentca agent release billing',
      ],
      ['service', 'orders', 'owner_gone', 'agentca service update orders --owner WHO'],
    ])
  })

  test('forgets that an owner never said anything, once they attest any of their agents', async () => {
    await operations.register('agent', 'payroll')
    setTime(now + 29 * day)
    await operations.registry.attest({ kind: 'agent', name: 'payroll' }, null, change)
    setTime(now + 30 * day)
    expect(listed()).toEqual(['registration billing never_enrolled', 'registration payroll never_enrolled'])
  })

  test('goes page by page over the registrations and never shows the CA itself', async () => {
    await operations.register('service', 'agentca')
    for (let i = 0; i < 5; i++) await operations.register('agent', `a-${i}`)
    setTime(now + 40 * day)
    const names: string[] = []
    let after: number | null = 0
    while (after !== null) {
      const page: ReturnType<ReturnType<typeof watchBy>['list']> = watchBy(rules).list({
        after,
        limit: 2,
        reasons: null,
      })
      names.push(...page.items.map(({ name }) => name))
      after = page.next
    }
    expect(names).toEqual(['billing', 'a-0', 'a-1', 'a-2', 'a-3', 'a-4'])
  })
})

describe('attestation', () => {
  test('is due before it lapses, and each attestation raises it', async () => {
    setTime(now + 76 * day)
    expect(listed(attesting)).toContain('registration billing owner_unconfirmed attestation_due never_enrolled')
    await operations.registry.attest({ kind: 'agent', name: 'billing' }, null, change)
    expect(listed(attesting)).toEqual(['registration billing never_enrolled'])
    expect(facts('billing').attestedAt).toBe(at)
    setTime(now + (76 + 90) * day)
    expect(reasonsOf(facts('billing'), { lastCallAt: null, unusedGrants: [] }, attesting, at)).toContainEqual(
      expect.objectContaining({ reason: 'attestation_lapsed', since: at }),
    )
  })

  test('is warned of once, then holds what lapsed; attested and released it stays', async () => {
    await issue(worldOf('billing'), { notAfter: now + 200 * day })
    const watch = watchBy(attesting)
    setTime(now + 76 * day)
    await watch.round()
    const warnings = () =>
      operations.leaves(50).filter(({ event, topic }) => event === 'orphan_warned' && topic === 'attestation')
    expect(warnings()).toMatchObject([
      { sub: 'agent:billing', who: 'system:orphans', act: 'hold', actAt: now + 90 * day, owner: 'finance' },
    ])
    await watch.round()
    expect(warnings()).toHaveLength(1)
    setTime(now + 90 * day - 1)
    await watch.round()
    expect(stateOf('billing')).toBe('active')
    setTime(now + 90 * day)
    await watch.round()
    expect(stateOf('billing')).toBe('held')
    expect(operations.leaves(5).find(({ event }) => event === 'registration_changed')).toMatchObject({
      who: 'system:orphans',
      to: 'held',
      why: expect.stringContaining('agentca agent attest billing, then agentca agent release billing'),
    })
    await operations.registry.attest({ kind: 'agent', name: 'billing' }, null, change)
    await operations.lifecycle.release({ kind: 'agent', name: 'billing' }, change)
    await watch.round()
    expect(stateOf('billing')).toBe('active')
    setTime(now + (90 + 76) * day)
    await watch.round()
    expect(warnings()).toHaveLength(2)
  })

  test('gives the grace period from its warning to those who lapsed while nobody watched', async () => {
    setTime(now + 400 * day)
    const watch = watchBy(attesting)
    await watch.round()
    expect(stateOf('billing')).toBe('active')
    setTime(at + 7 * day - 1)
    await watch.round()
    expect(stateOf('billing')).toBe('active')
    setTime(at + 1)
    await watch.round()
    expect(stateOf('billing')).toBe('held')
  })
})

describe('the recurring round', () => {
  test('only warns of orphans unless it is told to retire them', async () => {
    setTime(now + 31 * day)
    const watch = watchBy(rules)
    await watch.round()
    setTime(now + 300 * day)
    await watch.round()
    expect(stateOf('billing')).toBe('active')
    expect(operations.leaves(50).filter(({ event }) => event === 'orphan_warned')).toMatchObject([
      { topic: 'orphan', act: null, reasons: ['owner_unconfirmed', 'never_enrolled'] },
    ])
    expect(Object.fromEntries(watch.counts())).toEqual({ owner_unconfirmed: 1, never_enrolled: 1 })
  })

  test('retires after the grace period, and spares whoever came back meanwhile', async () => {
    const watch = watchBy({ ...rules, retire: 'on' })
    await operations.register('agent', 'payroll')
    setTime(now + 31 * day)
    await watch.round()
    setTime(now + 36 * day)
    await issueNow('payroll')
    setTime(now + 38 * day)
    await watch.round()
    expect([stateOf('billing'), stateOf('payroll')]).toEqual(['retired', 'active'])
  })

  test('leaves out what is asked again under the lock and is no orphan any more', async () => {
    setTime(now + 31 * day)
    let enrolled = false
    const { orphans } = operations.ledger
    const watch = createOrphanWatch({
      clock: { now: () => at, monotonic: () => at },
      log: silentLog,
      // Between the list and the deed it enrols.
      orphans: {
        ...orphans,
        registration: id => {
          enrolled = true
          const present = orphans.registration(id)
          return present === null ? null : { ...present, lastIssuedAt: at }
        },
      },
      lifecycle: operations.lifecycle,
      revoke: operations.revoke,
      tokens: operations.tokens,
      rules,
    })
    const { items } = await watch.retire(new Set(['never_enrolled']), change)
    expect([enrolled, items[0]?.problem, stateOf('billing')]).toEqual([true, 'it is no orphan any more', 'active'])
  })
})

describe('--retire', () => {
  test('in a dry run changes nothing, then ends exactly what was seen', async () => {
    await addToken(worldOf('billing'), 'waiting')
    await operations.register('agent', 'payroll')
    setTime(now + 31 * day)
    const watch = watchBy(rules)
    const size = operations.size()
    const dry = await watch.retire(all, { context, dryRun: true })
    expect(dry.items.map(({ orphan, problem }) => [orphan.what, orphan.name, problem])).toEqual([
      ['registration', 'billing', null],
      ['token', 'billing', null],
      ['registration', 'payroll', null],
    ])
    expect([operations.size(), stateOf('billing')]).toEqual([size, 'active'])
    expect(await codeOf(watch.retire(all, { ...change, expected: 2 }))).toBe('confirmation_needed')
    expect(stateOf('billing')).toBe('active')
    const { items } = await watch.retire(all, { ...change, expected: 3 })
    expect(items.map(({ problem }) => problem)).toEqual([null, null, null])
    expect([stateOf('billing'), stateOf('payroll'), operations.ledger.tokens.get('waiting')?.state]).toEqual([
      'retired',
      'retired',
      'revoked',
    ])
    expect(listed()).toEqual([])
  })

  test('never ends a service or an operator, and never for a reason that only asks for a word', async () => {
    await operations.register('service', 'orders', { owner: 'finance' })
    await operations.register('operator', 'bob')
    const bob = operations.ledger.registrations.find('operator', 'bob')!
    await addToken({ ...worldOf('billing'), agent: bob }, 'of-bob')
    await operations.lifecycle.ownerGone('finance', change)
    setTime(now + 8 * day)
    expect(listed()).toContain('token bob token_unused')
    const { items } = await watchBy(rules).retire(all, change)
    expect(items.map(({ orphan }) => orphan.name)).toEqual(['billing'])
    expect(operations.ledger.tokens.get('of-bob')?.state).toBe('active')
    expect(operations.ledger.registrations.find('service', 'orders')?.state).toBe('active')
  })
})
