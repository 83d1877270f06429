// Every kind of leaf as an OCSF 1.1.0 event: the members that base event and class demand are there, and of their types.
import { describe, expect, test } from 'vitest'
import { createLeaf } from '../../src/audit/leaf.ts'
import { eventOf, severityOf } from '../../src/events/event.ts'
import { ocsfOf } from '../../src/events/ocsf.ts'
import type { LeafDraft } from '../../src/store/records.ts'
import { context, makeOperations } from '../ca/operations-world.ts'

type Json = Readonly<Record<string, unknown>>

const object = (value: unknown): Json => {
  expect(value).toBeTypeOf('object')
  expect(value).not.toBeNull()
  return value as Json
}
const user = (value: unknown): void => {
  const { uid, name, type_id: type } = object(value)
  expect([typeof uid, typeof name, type]).toEqual(['string', 'string', 99])
}

/** Requirements of schema.ocsf.io/1.1.0/classes, beside those of the base event. */
const classes: Readonly<Record<number, { readonly activities: readonly number[]; check(event: Json): void }>> = {
  3001: { activities: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99], check: event => user(event.user) },
  3002: {
    activities: [1, 2, 3, 4, 5, 99],
    check: event => {
      user(event.user)
      // At least one of service and dst_endpoint.
      expect(object(event.service).name).toBe('agentca')
    },
  },
  3004: {
    activities: [1, 2, 3, 4, 99],
    check: event => expect(object(event.entity).name).toBeTypeOf('string'),
  },
  2004: {
    activities: [1, 2, 3, 99],
    check: event => {
      const { uid, title } = object(event.finding_info)
      expect([typeof uid, typeof title]).toEqual(['string', 'string'])
    },
  },
  6002: { activities: [1, 2, 3, 4, 99], check: event => expect(object(event.app).vendor_name).toBe('agentca') },
}

const checkOcsf = (event: Json): void => {
  const { class_uid: uid, category_uid: category, activity_id: activity, type_uid: type, severity_id: severity } = event
  expect(Object.keys(classes).map(Number)).toContain(uid)
  const kind = classes[uid as number]!
  expect(category).toBe(Math.floor((uid as number) / 1000))
  expect(kind.activities).toContain(activity)
  expect(type).toBe((uid as number) * 100 + (activity as number))
  if (activity === 99) expect(event.activity_name).toBeTypeOf('string')
  expect([1, 2, 3, 4, 5]).toContain(severity)
  expect(Number.isSafeInteger(event.time)).toBe(true)
  const { version, product, uid: id } = object(event.metadata)
  expect([version, object(product).vendor_name, typeof id]).toEqual(['1.1.0', 'agentca', 'string'])
  kind.check(event)
}

const asOcsf = (draft: LeafDraft, index = 0): Json => ocsfOf(eventOf({ ...draft, index }, 'ca-1'))

describe('an OCSF event', () => {
  test('has what its class demands, for each leaf that operators leave behind', async () => {
    const operations = await makeOperations()
    const change = { context, dryRun: false }
    await operations.register('agent', 'billing')
    await operations.lifecycle.hold({ kind: 'agent', name: 'billing' }, change)
    await operations.lifecycle.release({ kind: 'agent', name: 'billing' }, change)
    await operations.registry.attest({ kind: 'agent', name: 'billing' }, null, change)
    await operations.revoke({ by: 'agent', value: 'billing' }, 'keyCompromise', change)
    await operations.lifecycle.ownerGone('finance', change)
    await operations.lifecycle.retire({ kind: 'agent', name: 'billing' }, change)
    const leaves = operations.ledger.audit.read(0, 100)
    const kinds = leaves.map(({ event }) => event)
    expect(new Set(kinds).size).toBeGreaterThanOrEqual(7)
    for (const leaf of leaves) checkOcsf(asOcsf(leaf, leaf.index))
    const byKind = Object.fromEntries(leaves.map(leaf => [leaf.event, asOcsf(leaf, leaf.index)]))
    expect([
      byKind.registration_created?.type_uid,
      byKind.revoked?.type_uid,
      byKind.registration_retired?.type_uid,
    ]).toEqual([300_101, 300_105, 300_106])
  })

  test.each([
    ['certificate_issued', 300_203, 1],
    ['request_refused', 300_201, 2],
    ['token_reuse', 200_401, 4],
    ['lineage_locked', 200_401, 4],
    ['signer_counts_mismatch', 200_401, 5],
    ['core_started', 600_203, 1],
    ['core_stopped', 600_204, 1],
    ['crl_published', 300_403, 1],
    ['some_kind_of_tomorrow', 300_403, 1],
  ])('of %s is of type %i with severity %i', (kind, type, severity) => {
    const draft = createLeaf(kind, { at: 1_700_000_000_000, who: 'token:t1', source: '192.0.2.7' }, 'agent:billing', {
      code: 'token_reuse',
      serial: '01ab',
      sha256: 'ab',
    })
    const event = asOcsf(draft, 7)
    checkOcsf(event)
    expect(event).toMatchObject({
      type_uid: type,
      severity_id: severity,
      metadata: { uid: 'ca-1/7', event_code: kind },
    })
    expect(event.unmapped).toEqual({ code: 'token_reuse', serial: '01ab', sha256: 'ab' })
  })

  test('of a refusal says who from where, and why', () => {
    const event = asOcsf(
      createLeaf('request_refused', { at: 1, who: 'anonymous', source: '192.0.2.7' }, null, { code: 'token_unknown' }),
    )
    expect(event).toMatchObject({
      status_id: 2,
      status_code: 'token_unknown',
      src_endpoint: { ip: '192.0.2.7' },
      user: { uid: 'anonymous' },
    })
  })
})

test('a kind that nobody graded raises no alarm', () => expect(severityOf('some_kind_of_tomorrow')).toBe('info'))
