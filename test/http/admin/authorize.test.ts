// Every route, every kind of caller, both modes. The expectations are written out here: what the table says is what is tested.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorize } from '../../../src/http/admin/authorize.ts'
import type { Mode } from '../../../src/http/admin/deps.ts'
import { createHandlers } from '../../../src/http/admin/router.ts'
import type { Caller, VerifiedCaller } from '../../../src/http/call.ts'
import { type AdminRouteName, adminRoutes } from '../../../src/schema/admin-api.ts'
import type { Registration } from '../../../src/store/records.ts'
import type { Shown } from '../harness.ts'
import { type AdminWorld, createAdminWorld } from './admin-world.ts'

/** The least role of each route. */
const expectedRoles = {
  viewer: [
    'status',
    'whoami',
    'ownersList',
    'registrationsList',
    'registrationsShow',
    'instancesList',
    'instancesShow',
    'tokensList',
    'acmeBindingsList',
    'attestorsList',
    'attestorsTest',
    'orphansList',
    'eventsStatus',
    'certificatesList',
    'certificatesShow',
    'feedStatus',
    'feedApplied',
    'activityShow',
    'activityTop',
    'monitorStatus',
    'monitorRules',
    'monitorFindings',
    'crlStatus',
    'issuersList',
    'issuersShow',
    'hsmStatus',
    'hsmKeys',
    'policiesList',
    'policiesShow',
    'policiesPlan',
    'policiesExplain',
    'policiesSuggest',
    'why',
    'profilesList',
    'profilesShow',
    'auditTail',
    'auditLeaves',
    'auditCheckpoints',
    'clockShow',
    'maintenanceShow',
  ],
  operator: [
    'eventsTest',
    'agentsCreate',
    'servicesCreate',
    'agentsUpdate',
    'servicesUpdate',
    'ownersCreate',
    'ownersUpdate',
    'ownersRemove',
    'agentsAttest',
    'tokensCreate',
    'tokensRevoke',
    'acmeBindingsCreate',
    'acmeBindingsRevoke',
    'certificatesIssue',
    'crlPublish',
    'hsmTestSign',
    'auditCheckpoint',
  ],
  security: [
    'agentsRetire',
    'servicesRetire',
    'orphansRetire',
    'ownersGone',
    'agentsHold',
    'agentsRelease',
    'instancesUnlock',
    'monitorReleaseBrake',
    'policiesApply',
    'policiesRollback',
    'revoke',
  ],
  admin: [
    'feedNewEpoch',
    'operatorsCreate',
    'operatorsRetire',
    'operatorsRecover',
    'issuersPrepare',
    'issuersActivate',
    'issuersRetire',
    'hsmUnlock',
    'clockAccept',
    'backupsRecord',
    'maintenanceEnd',
  ],
} as const satisfies Readonly<Record<string, readonly AdminRouteName[]>>

const roles = ['viewer', 'operator', 'security', 'admin'] as const
const routeNames = Object.keys(adminRoutes) as AdminRouteName[]
const reads: ReadonlySet<string> = new Set(expectedRoles.viewer)
const modes: readonly Mode[] = ['development', 'production']

/** Everything that a role may do: its own routes and those of the roles before it. */
const allowedTo = (role: (typeof roles)[number]): ReadonlySet<string> =>
  new Set(roles.slice(0, roles.indexOf(role) + 1).flatMap(each => expectedRoles[each]))

const peer = (registration: Partial<Registration>): Caller =>
  ({
    kind: 'peer',
    registration: { name: 'x', state: 'active', operatorRole: null, ...registration },
  }) as VerifiedCaller

const strangers: Readonly<Record<string, Caller>> = {
  anonymous: { kind: 'anonymous' },
  agent: peer({ kind: 'agent' }),
  service: peer({ kind: 'service' }),
  'an agent with an operator role': peer({ kind: 'agent', operatorRole: 'admin' }),
  'a held admin': peer({ kind: 'operator', operatorRole: 'admin', state: 'held' }),
  'a retired admin': peer({ kind: 'operator', operatorRole: 'admin', state: 'retired' }),
  'an operator without a role': peer({ kind: 'operator' }),
  'an admin whose certificate was not checked': {
    ...peer({ kind: 'operator', operatorRole: 'admin' }),
    kind: 'holder',
  } as Caller,
}

/** Nobody needs them who has a certificate. */
const onlyLocal: ReadonlySet<string> = new Set(['operatorsRecover'])

const outcome = (name: AdminRouteName, caller: Caller, mode: Mode, hasActiveOperator = true): string => {
  const decision = authorize(name, caller, { mode, hasActiveOperator: () => hasActiveOperator })
  return decision.allow ? decision.actor.role : decision.code
}

describe('the decision', () => {
  it('covers every route exactly once', () => {
    expect(Object.values(expectedRoles).flat().sort()).toEqual([...routeNames].sort())
  })

  describe.each(modes)('in %s', mode => {
    it.each(Object.keys(strangers))('denies %s every route', who => {
      for (const name of routeNames) expect(outcome(name, strangers[who] as Caller, mode), name).toBe('operator_only')
    })

    it.each(roles)('gives %s its routes and those of the roles before it, nothing else', role => {
      const caller = peer({ kind: 'operator', operatorRole: role })
      for (const name of routeNames)
        expect(outcome(name, caller, mode), name).toBe(
          !allowedTo(role).has(name) ? 'role_insufficient' : onlyLocal.has(name) ? 'socket_only' : role,
        )
    })
  })

  it('lets the socket do everything in development', () => {
    for (const name of routeNames) expect(outcome(name, { kind: 'local' }, 'development'), name).toBe('admin')
  })

  it('lets the socket only read in production, make the first operator, and let one in again', () => {
    for (const hasActiveOperator of [true, false])
      for (const name of routeNames) {
        const first = (name === 'operatorsCreate' && !hasActiveOperator) || name === 'operatorsRecover'
        const expected = reads.has(name) ? 'viewer' : first ? 'admin' : 'operator_certificate_needed'
        expect(outcome(name, { kind: 'local' }, 'production', hasActiveOperator), name).toBe(expected)
      }
  })
})

/** Of every route, over the wire; a body that no schema takes, so that what is allowed ends as a fault of the body. */
const statuses = async (
  ask: (path: string, body: object | undefined) => Promise<{ status: number; body: { code?: string } }>,
) => {
  const found: Record<string, string> = {}
  for (const name of routeNames) {
    const { method, path } = adminRoutes[name]
    const concrete = path.replace(':kind', 'agents').replace(/:[a-z]+/g, 'nothing-of-this-name')
    const reply = await ask(concrete, method === 'POST' ? { unexpected: true } : undefined)
    found[name] = reply.status === 403 ? (reply.body.code as string) : 'allowed'
    if (method === 'POST' && reply.status !== 403) expect(reply.body.code, name).toBe('request_invalid')
  }
  return found
}

describe.each(modes)('over the wire in %s', mode => {
  let world: AdminWorld
  const shown: Record<string, Shown> = {}
  beforeAll(async () => {
    world = await createAdminWorld(mode)
    await world.register('agent', 'billing')
    await world.register('service', 'orders')
    shown.agent = await world.credentialsOf('agent', 'billing')
    shown.service = await world.credentialsOf('service', 'orders')
    for (const role of roles) shown[role] = await world.operator(`op-${role}`, role)
  })
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]()
  })

  it.each(['anonymous', 'agent', 'service'])('%s is refused everywhere, and each refusal has its leaf', async who => {
    const before = world.ledger.audit.head().size
    const found = await statuses((path, body) => world.call(path, { body, shown: shown[who] }))
    for (const name of routeNames) expect(found[name], name).toBe('operator_only')
    expect(world.ledger.audit.head().size - before).toBe(routeNames.length)
    expect(world.leaves(1)).toMatchObject([{ event: 'request_refused', code: 'operator_only' }])
  })

  it.each(roles)('an operator with role %s passes where the table says so', async role => {
    const found = await statuses((path, body) => world.call(path, { body, shown: shown[role] }))
    for (const name of routeNames)
      expect(found[name], name).toBe(
        !allowedTo(role).has(name) ? 'role_insufficient' : onlyLocal.has(name) ? 'socket_only' : 'allowed',
      )
    expect(world.leaves(1)).toMatchObject([{ event: 'request_refused', who: `operator:op-${role}` }])
  })

  it('the socket passes where the mode says so', async () => {
    const found = await statuses((path, body) => world.local(path, body))
    for (const name of routeNames)
      expect(found[name], name).toBe(
        mode === 'development' || reads.has(name) || onlyLocal.has(name) ? 'allowed' : 'operator_certificate_needed',
      )
  })

  it('the answer to an operator who was retired a moment ago is no', async () => {
    const fired = await world.operator('fired', 'admin')
    expect((await world.call('/whoami', { shown: fired })).body).toEqual({ name: 'fired', role: 'admin', mode })
    await world.deps.lifecycle.retire(
      { kind: 'operator', name: 'fired' },
      { context: { requestId: 'r', who: 'operator:op-admin', source: 'x' }, dryRun: false },
    )
    expect((await world.call('/whoami', { shown: fired })).status).toBe(403)
  })

  it('has a handler for each route and no other', () => {
    expect(Object.keys(createHandlers(world.deps)).sort()).toEqual([...routeNames].sort())
  })
})

describe('operators below and above each other', () => {
  it('end what is below them or beside them, never what is above', async () => {
    await using world = await createAdminWorld('production')
    const ann = await world.operator('ann', 'admin')
    const [sam, sid] = [await world.operator('sam', 'security'), await world.operator('sid', 'security')]
    const olga = await world.operator('olga', 'operator')
    await world.register('agent', 'billing')
    const codeOf = async (shown: Shown, path: string, body: object) =>
      (await world.call(path, { body, shown })).body.code ?? 'done'
    const instanceOf = (serial: string) => world.ledger.certificates.get(serial)!.instanceId
    const keyOf = (serial: string) => world.ledger.certificates.get(serial)!.keyHash
    const token = (await world.call('/tokens', { body: { kind: 'operator', name: 'ann' }, shown: ann })).body.id
    const reason = 'keyCompromise'
    // Every way to her certificates, her next one included.
    for (const [by, value] of [
      ['operator', 'ann'],
      ['serial', ann.serial],
      ['instance', instanceOf(ann.serial)],
      ['key', keyOf(ann.serial)],
      ['owner', 'finance'],
      ['token', token],
      ['issuer', 'issuing-1'],
    ])
      for (const dryRun of [true, false])
        expect(await codeOf(sam, '/revoke', { by, value, reason, dryRun }), by).toBe('role_insufficient')
    expect(world.leaves(1)).toMatchObject([{ event: 'request_refused', code: 'role_insufficient' }])
    expect(await codeOf(sam, `/tokens/${token}/revoke`, {})).toBe('role_insufficient')
    expect(await codeOf(olga, `/tokens/${token}/revoke`, {})).toBe('role_insufficient')
    expect(await codeOf(sam, '/owners/finance/gone', {})).toBe('role_insufficient')
    expect(await codeOf(sam, '/operators/ann/retire', {})).toBe('role_insufficient')
    expect((await world.call('/whoami', { shown: ann })).body.name).toBe('ann')

    expect(await codeOf(sam, '/revoke', { by: 'operator', value: 'olga', reason })).toBe('done')
    expect(await codeOf(sam, '/revoke', { by: 'serial', value: sid.serial, reason })).toBe('done')
    expect(await codeOf(sam, '/revoke', { by: 'agent', value: 'billing', reason })).toBe('done')
    expect(await codeOf(ann, '/revoke', { by: 'operator', value: 'sam', reason })).toBe('done')
  })

  it('end an agent only where they may revoke it, by an earlier end date neither', async () => {
    await using world = await createAdminWorld('production')
    const [olga, sam] = [await world.operator('olga', 'operator'), await world.operator('sam', 'security')]
    await world.register('agent', 'billing')
    const update = async (shown: Shown, until: string | null) =>
      (await world.call('/agents/billing/update', { body: { until }, shown })).body.code ?? 'done'
    const [soon, later, latest] = [1, 2, 3].map(days => new Date(Date.now() + days * 86_400_000).toISOString())
    expect(await update(olga, later!)).toBe('role_insufficient')
    expect(await update(sam, later!)).toBe('done')
    expect(await update(olga, latest!)).toBe('done')
    expect(await update(olga, soon!)).toBe('role_insufficient')
    expect(await update(olga, null)).toBe('done')
    const retire = (shown: Shown) => world.call('/agents/billing/retire', { body: {}, shown })
    expect((await retire(olga)).body.code).toBe('role_insufficient')
    expect((await retire(sam)).body.registration.state).toBe('retired')
  })
})
