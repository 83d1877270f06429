// What the contract tests start from: a ledger, a registered agent, a token, and intents with sensible values. Another store
// (PostgreSQL) runs the same tests by giving its own `makeLedger`.
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { IntentCommand, IntentRecord, IssuanceDecision, IssuedCommand, Ledger } from '../../src/store/ports.ts'
import type { Instance, Issuer, JoinToken, LeafDraft, Registration } from '../../src/store/records.ts'
import { openSqliteLedger, type StoreFaults } from '../../src/store/sqlite/open.ts'

export const now = Date.UTC(2026, 10, 24)
export const hour = 3_600_000

export const makeLedger = (path = ':memory:', faults?: StoreFaults): Ledger =>
  openSqliteLedger(path, { clock: systemClock, log: silentLog, ...(faults === undefined ? {} : { faults }) })

export const temporaryDatabase = () => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-store-'))
  return {
    path: join(directory, 'agentca.db'),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

export const leaf = (event: string, subject: string | null = null): LeafDraft => ({
  event,
  at: now,
  subject,
  bytes: new TextEncoder().encode(JSON.stringify({ event })),
})

export const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

let counter = 0
export const freshSerial = (): string =>
  `01${(++counter).toString(16).padStart(10, '0')}${randomBytes(10).toString('hex')}`

export interface World {
  readonly ledger: Ledger
  readonly issuer: Issuer
  readonly agent: Registration
}

export const addIssuer = (ledger: Ledger, name: string, state: Issuer['state'] = 'active'): Promise<Issuer> =>
  ledger.issuers.add(
    {
      name,
      kind: 'issuing',
      state,
      certificate: new Uint8Array([0x30, 0]),
      parentId: null,
      keyLabel: name,
      spkiHash: hashOf(`issuer ${name}`),
      notBefore: now - hour,
      notAfter: now + 1000 * hour,
      createdAt: now,
    },
    leaf('issuer_added'),
  )

export const addAgent = async (ledger: Ledger, name: string, owner = 'alice'): Promise<Registration> => {
  await ledger.owners.ensure(owner, now, leaf('owner_created'))
  return ledger.registrations.create(
    {
      kind: 'agent',
      name,
      owner,
      purpose: 'tests',
      profile: 'agent',
      roles: ['reader'],
      attributes: { region: 'eu' },
      dnsNames: [],
      instanceLimit: null,
      operatorRole: null,
      until: null,
      at: now,
    },
    leaf('registration_created', `agent/${name}`),
  )
}

export const makeWorld = async (ledger = makeLedger()): Promise<World> => {
  const issuer = await addIssuer(ledger, 'issuing-1')
  return { ledger, issuer, agent: await addAgent(ledger, 'crawler') }
}

export const addToken = (world: World, id: string, uses = 1, more: Partial<JoinToken> = {}): Promise<JoinToken> =>
  world.ledger.tokens.create(
    {
      id,
      hash: hashOf(id),
      registrationId: world.agent.id,
      audience: 'ca-1',
      uses,
      boundKeyHash: null,
      expiresAt: now + hour,
      createdAt: now,
      createdBy: 'operator:alice',
      ...more,
    },
    leaf('token_created'),
  )

export const intentOf = (world: World, more: Partial<IntentRecord> = {}): IntentRecord => {
  const serial = more.serial ?? freshSerial()
  return {
    serial,
    issuerId: world.issuer.id,
    kind: 'agent',
    registrationId: world.agent.id,
    registrationVersion: world.agent.version,
    instanceId: `i-${serial}`,
    newInstance: true,
    generation: 1,
    predecessor: null,
    supersedes: null,
    tokenId: null,
    recovery: false,
    keyHash: hashOf(`key ${serial}`),
    tbs: new Uint8Array([1, 2, 3]),
    profile: 'agent',
    profileHash: hashOf('profile'),
    requester: 'operator:alice',
    notBefore: now - 60_000,
    notAfter: now + hour,
    epoch: 1,
    deadline: now + 30_000,
    createdAt: now,
    ...more,
  }
}

/** A renewal of `predecessor` in its lineage. */
export const renewalOf = (world: World, predecessor: IntentRecord, more: Partial<IntentRecord> = {}): IntentRecord =>
  intentOf(world, {
    instanceId: predecessor.instanceId,
    newInstance: false,
    predecessor: predecessor.serial,
    generation: predecessor.generation + 1,
    ...more,
  })

export const recordCommand = (intent: IntentRecord): IntentCommand<string> => ({
  query: { evidence: { kind: 'registration', subject: 'agent', name: 'crawler' }, keyHash: intent.keyHash, now },
  decide: () => ({ act: 'record', intent, leaf: leaf('intent_recorded') }),
})

export const recordIntent = async (world: World, intent: IntentRecord): Promise<IssuanceDecision<string>> =>
  (await world.ledger.issuance.recordIntents([recordCommand(intent)]))[0]!

export const issuedCommand = (intent: IntentRecord, more: Partial<IssuedCommand> = {}): IssuedCommand => ({
  serial: intent.serial,
  signature: new Uint8Array([0x30, 1, 2]),
  epoch: intent.epoch,
  at: now + 10,
  issuedLeaf: leaf('certificate_issued'),
  refusedLeaf: () => leaf('release_refused'),
  ...more,
})

export const recordIssued = async (world: World, intent: IntentRecord): Promise<'issued' | 'refused'> =>
  (await world.ledger.issuance.recordIssued([issuedCommand(intent)]))[0]!

export const issue = async (world: World, more: Partial<IntentRecord> = {}): Promise<IntentRecord> => {
  const intent = intentOf(world, more)
  await recordIntent(world, intent)
  const outcome = await recordIssued(world, intent)
  if (outcome !== 'issued') throw new Error(`expected issued, got ${outcome}`)
  return intent
}

export const renew = async (
  world: World,
  predecessor: IntentRecord,
  more: Partial<IntentRecord> = {},
): Promise<IntentRecord> => {
  const intent = renewalOf(world, predecessor, more)
  await recordIntent(world, intent)
  const outcome = await recordIssued(world, intent)
  if (outcome !== 'issued') throw new Error(`expected issued, got ${outcome}`)
  return intent
}

export const lock = (world: World, instanceId: string) =>
  world.ledger.issuance.recordIntents<string>([
    {
      query: { evidence: { kind: 'registration', subject: 'agent', name: 'crawler' }, keyHash: hashOf('x'), now },
      decide: () => ({
        act: 'refuse',
        refusal: 'two holders',
        leaf: leaf('request_refused'),
        lock: { instanceId, reason: 'two_holders', leaf: leaf('lineage_locked') },
      }),
    },
  ])

export const setState = (world: World, state: Registration['state'], name = 'crawler') =>
  world.ledger.registrations.change({
    kind: 'agent',
    name,
    at: now + 20,
    decide: () => ({ set: {}, state }),
    leaf: () => leaf('registration_changed'),
  })

export const stateOf = (world: World, serial: string) => world.ledger.certificates.get(serial)?.state

export const instanceOf = (world: World, id: string): Instance => {
  const found = world.ledger.instances.get(id)
  if (found === null) throw new Error(`expected instance ${id}`)
  return found
}

/** Serials that the CRL shows at `now`. */
export const crlSerials = (world: World): readonly string[] =>
  world.ledger.revocations
    .entries({ issuerId: world.issuer.id, since: now, after: null, limit: 10_000 })
    .map(entry => entry.serial)
