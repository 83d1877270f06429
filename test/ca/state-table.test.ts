// Walks the state table against a running authority: keys in SoftHSM2, the SQLite ledger, its CRL and its OCSP responder. Each cell is
// an agent of its own, brought into the two states the way they come about.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { IssuanceOperation } from '../../src/ca/issuance.ts'
import {
  instanceStates,
  instanceTransitions,
  registrationStates,
  registrationTransitions,
  type StateRow,
} from '../../src/ca/state-table.ts'
import { problemTable } from '../../src/http/problem.ts'
import { parseCrl } from '../../src/pki/crl-reader.ts'
import { serialFromHex } from '../../src/pki/serial.ts'
import type { EvidenceQuery } from '../../src/store/ports.ts'
import type { InstanceState, RegistrationState } from '../../src/store/records.ts'
import { createRequester, leaf, type Requester } from './authority.ts'
import { createOcspAuthority, type OcspAuthority } from './ocsp-authority.ts'

let ca: OcspAuthority
let ocsp: Awaited<ReturnType<OcspAuthority['createResponder']>>
beforeAll(async () => {
  ca = await createOcspAuthority()
  ocsp = ca.createResponder()
  await ocsp.start()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const registrations = Object.keys(registrationStates) as RegistrationState[]
const instances = Object.keys(instanceStates) as InstanceState[]
const cells = registrations.flatMap(registration => instances.map(instance => ({ registration, instance })))

const change = (name: string, state: RegistrationState) =>
  ca.ledger.registrations.change({
    kind: 'agent',
    name,
    at: Date.now(),
    decide: () => ({ set: {}, state }),
    leaf: () => leaf('registration_changed'),
  })

const issue = (operation: IssuanceOperation, evidence: EvidenceQuery, requester: Requester) =>
  ca.issuance.issue({
    operation,
    evidence,
    csr: requester.csr,
    context: { requestId: 'r', who: 'agent', source: '127.0.0.1' },
  })

/** What is needed to go on with an instance: its newest certificate and key. */
interface Head {
  readonly serial: string
  readonly requester: Requester
}

/** Two holders of one lineage: a second key replaces the first successor, whose holder then shows up. */
const lock = async (first: Head): Promise<Head> => {
  const [thief, owner] = [await createRequester(), await createRequester()]
  const stolen = await ca.renew(first.serial, thief)
  const kept = await ca.renew(first.serial, owner)
  await expect(ca.renew(stolen.record.serial, await createRequester())).rejects.toMatchObject({
    code: 'lineage_conflict',
  })
  return { serial: kept.record.serial, requester: owner }
}

const revokeInstance = (id: string) =>
  ca.ledger.revocations.revoke({
    selector: { by: 'instance', value: id },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => leaf('revoked'),
  })

/** An agent whose instance and registration are in these states, with an unused token beside the one it enrolled by. */
const bringTo = async (name: string, states: { registration: RegistrationState; instance: InstanceState }) => {
  const { id } = await ca.registerAgent(name)
  const [used, unused] = [await ca.createToken(id), await ca.createToken(id)]
  const requester = await createRequester()
  const { record } = await ca.enrol(used, requester)
  const first: Head = { serial: record.serial, requester }
  const head = states.instance === 'locked' ? await lock(first) : first
  if (states.instance === 'revoked') await revokeInstance(record.instanceId)
  if (states.registration !== 'active') await change(name, states.registration)
  const instance = () => ca.ledger.instances.get(record.instanceId)!
  return {
    first,
    head,
    instance,
    enrol: (key: Requester) => issue('enrol', { kind: 'token', tokenHash: unused }, key),
    enrolAgain: () => issue('enrol', { kind: 'token', tokenHash: used }, first.requester),
    renew: (key: Requester) => issue('renew', { kind: 'renewal', presentedSerial: head.serial }, key),
    recover: (key: Requester) =>
      issue('recover', { kind: 'recovery', provedKeyHash: head.requester.keyHash, tokenHash: null }, key),
    /** Everything of this agent that a request could use up. */
    belongings: () => ({
      registration: ca.ledger.registrations.byId(id),
      tokens: ca.ledger.tokens.list({ registrationId: id, limit: 10 }),
      instances: ca.ledger.instances.list({ registrationId: id, limit: 10 }),
      certificates: ca.ledger.certificates.list({ registration: { kind: 'agent', name }, limit: 100 }).rows,
    }),
  }
}
type World = Awaited<ReturnType<typeof bringTo>>

const refusalOf = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'granted',
    (error: { code: string }) => error.code,
  )

/** Refused with this HTTP status, and nothing was used up or changed by it. */
const expectRefusal = async (world: World, ask: () => Promise<unknown>, statuses: readonly number[]) => {
  const before = world.belongings()
  const code = await refusalOf(ask())
  expect(statuses, code).toContain(problemTable[code as keyof typeof problemTable]?.status)
  expect(world.belongings()).toEqual(before)
}

const rowsOf = (cell: (typeof cells)[number]): readonly [StateRow, StateRow] => [
  registrationStates[cell.registration],
  instanceStates[cell.instance],
]
/** An operation needs both rows; a status is the worse of the two. */
const allowed = (cell: (typeof cells)[number], operation: 'enrol' | 'renew' | 'recover'): boolean =>
  rowsOf(cell).every(row => row[operation] === 'yes')
const worse = (cell: (typeof cells)[number], column: 'crl' | 'ocsp'): string => {
  const said = rowsOf(cell).map(row => row[column])
  return said.find(each => each === 'revoked') ?? said.find(each => each === 'certificateHold') ?? (said[0] as string)
}

describe.each(cells)('registration $registration, instance $instance', cell => {
  const enter = (operation: string) => bringTo(`${cell.registration}-${cell.instance}-${operation}`, cell)

  it('comes about, or follows at once: a retired registration has no live instance', async () => {
    const world = await enter('state')
    const { state } = world.instance()
    expect(state).toBe(cell.registration === 'retired' ? 'revoked' : cell.instance)
    expect(world.belongings().registration?.state).toBe(cell.registration)
  })

  it('enrol: a new instance by a token that nobody used', async () => {
    const world = await enter('enrol')
    const key = await createRequester()
    if (registrationStates[cell.registration].enrol === 'yes')
      expect((await world.enrol(key)).record.instanceId).not.toBe(world.instance().id)
    else await expectRefusal(world, () => world.enrol(key), [401, 403])
  })

  it('enrol: the answer of this instance again, by the same token and key', async () => {
    const world = await enter('again')
    if (allowed(cell, 'enrol')) expect((await world.enrolAgain()).record.serial).toBe(world.first.serial)
    else await expectRefusal(world, world.enrolAgain, [401, 403])
  })

  it.each(['renew', 'recover'] as const)('%s', async operation => {
    const world = await enter(operation)
    const key = await createRequester()
    if (allowed(cell, operation))
      expect((await world[operation](key)).record).toMatchObject({ predecessor: world.head.serial, generation: 2 })
    else await expectRefusal(world, () => world[operation](key), [403])
  })

  it('CRL and OCSP', async () => {
    const { head } = await enter('status')
    const entry = parseCrl((await ca.publishCrl()).der).findRevoked(serialFromHex(head.serial))
    const { status } = ca.verified(await ocsp.respond(ca.requestFor(head.serial)), head.serial).answer
    const reasonOf = (said: { readonly reason: string } | undefined, otherwise: string): string =>
      said === undefined ? otherwise : said.reason === 'certificateHold' ? said.reason : 'revoked'
    expect(reasonOf(entry, 'absent')).toBe(worse(cell, 'crl'))
    expect(typeof status === 'string' ? status : reasonOf(status, '')).toBe(worse(cell, 'ocsp'))
  })
})

describe('what was refused was not used up', () => {
  const unlock = (world: World) =>
    ca.ledger.instances.unlock(world.instance().id, Date.now(), leaf('instance_unlocked'))

  it.each(['renew', 'recover', 'enrol'] as const)(
    '%s with the same evidence and key after the release',
    async operation => {
      const world = await bringTo(`released-${operation}`, { registration: 'held', instance: 'active' })
      const key = await createRequester()
      expect(await refusalOf(world[operation](key))).toBe('registration_held')
      await change(`released-${operation}`, 'active')
      expect((await world[operation](key)).answer).toBe('new')
    },
  )

  it.each(['renew', 'recover'] as const)('%s with the same evidence and key after the unlocking', async operation => {
    const world = await bringTo(`unlocked-${operation}`, { registration: 'active', instance: 'locked' })
    const key = await createRequester()
    expect(await refusalOf(world[operation](key))).toBe('instance_locked')
    await unlock(world)
    expect((await world[operation](key)).answer).toBe('new')
  })

  it('a lock outlives the release of its registration, and the other way round', async () => {
    const world = await bringTo('both', { registration: 'held', instance: 'locked' })
    const key = await createRequester()
    await change('both', 'active')
    expect(await refusalOf(world.renew(key))).toBe('instance_locked')
    await change('both', 'held')
    await unlock(world)
    expect(await refusalOf(world.renew(key))).toBe('registration_held')
    await change('both', 'active')
    expect((await world.renew(key)).answer).toBe('new')
  })
})

describe('transitions', () => {
  it('of a registration that the table does not list are refused by the ledger', async () => {
    for (const from of registrations)
      for (const to of registrations.filter(state => state !== from)) {
        const name = `from-${from}-to-${to}`
        await bringTo(name, { registration: from, instance: 'active' })
        const outcome = await refusalOf(change(name, to))
        expect(outcome, name).toBe(registrationTransitions[from].includes(to) ? 'granted' : 'conflict')
      }
  })

  it('of an instance: only a locked one is unlocked', async () => {
    for (const from of instances) {
      const world = await bringTo(`unlock-${from}`, { registration: 'active', instance: from })
      const outcome = await refusalOf(
        ca.ledger.instances.unlock(world.instance().id, Date.now(), leaf('instance_unlocked')),
      )
      expect(outcome, from).toBe(
        from === 'locked' && instanceTransitions.locked.includes('active') ? 'granted' : 'conflict',
      )
    }
  })
})
