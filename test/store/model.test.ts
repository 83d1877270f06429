// The ledger against a model that fits on a page: random sequences of issuance, revocation, hold, lock and retirement leave the same
// states, the same CRL, unique serials and a log and feed without gaps.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { IntentRecord } from '../../src/store/ports.ts'
import type { CertificateState, InstanceState, RegistrationState } from '../../src/store/records.ts'
import * as w from './make-ledger.ts'

interface ModelCertificate {
  readonly intent: IntentRecord
  readonly agent: string
  readonly version: number
  state: CertificateState
}
interface Model {
  readonly agents: Map<string, { state: RegistrationState; version: number }>
  readonly instances: Map<string, { state: InstanceState; agent: string }>
  readonly certificates: ModelCertificate[]
}

const live = (c: ModelCertificate): boolean => ['intent', 'issued', 'held'].includes(c.state)
const names = ['crawler', 'mailer']

const commands = fc.array(
  fc.record({
    what: fc.constantFrom(
      'intent',
      'intent',
      'intent',
      'release',
      'release',
      'release',
      'renew',
      'renew',
      'void',
      'orphan',
      'sweep',
      'revoke',
      'revokeInstance',
      'hold',
      'activate',
      'retire',
      'lock',
      'unlock',
    ),
    agent: fc.constantFrom(...names),
    pick: fc.nat(),
  }),
  { maxLength: 60 },
)
type Command = (typeof commands extends fc.Arbitrary<infer T> ? T : never) extends readonly (infer E)[] ? E : never

const pickOf = <T>(from: readonly T[], pick: number): T | undefined => from[pick % Math.max(1, from.length)]

const step = async (worlds: ReadonlyMap<string, w.World>, model: Model, command: Command): Promise<void> => {
  const world = worlds.get(command.agent)!
  const { ledger } = world
  const agent = model.agents.get(command.agent)!
  const registered = { ...world, agent: { ...world.agent, version: agent.version } }
  const lineageOf = (c: ModelCertificate) => model.instances.get(c.intent.instanceId)!
  const picked = pickOf(model.certificates, command.pick)
  const add = (intent: IntentRecord, name: string, version: number) =>
    model.certificates.push({ intent, agent: name, version, state: 'intent' })
  switch (command.what) {
    case 'intent': {
      if (agent.state === 'retired') return
      const intent = w.intentOf(registered)
      await w.recordIntent(world, intent)
      model.instances.set(intent.instanceId, { state: 'active', agent: command.agent })
      add(intent, command.agent, agent.version)
      return
    }
    case 'renew': {
      if (picked === undefined || picked.state !== 'issued' || lineageOf(picked).state !== 'active') return
      const of = model.agents.get(picked.agent)!
      const intent = w.renewalOf(
        { ...world, agent: { ...worlds.get(picked.agent)!.agent, version: of.version } },
        picked.intent,
      )
      await w.recordIntent(world, intent)
      add(intent, picked.agent, of.version)
      return
    }
    case 'release': {
      if (picked === undefined || picked.state !== 'intent') return
      const of = model.agents.get(picked.agent)!
      const ok = of.state === 'active' && of.version === picked.version && lineageOf(picked).state === 'active'
      expect(await w.recordIssued(world, picked.intent)).toBe(ok ? 'issued' : 'refused')
      picked.state = ok ? 'issued' : 'revoked'
      return
    }
    case 'void': {
      if (picked === undefined || picked.state !== 'intent') return
      await ledger.issuance.recordVoid([{ serial: picked.intent.serial, leaf: w.leaf('certificate_void') }])
      picked.state = 'void'
      return
    }
    case 'orphan': {
      if (picked === undefined) return
      const leaf = w.leaf('certificate_orphaned')
      await ledger.issuance.recordOrphaned([{ serial: picked.intent.serial, at: w.now, leaf }])
      if (picked.state === 'intent') picked.state = 'orphaned'
      return
    }
    case 'sweep': {
      await ledger.issuance.sweepIntents({ now: w.now + 60_000, epoch: 1, leaf: () => w.leaf('certificate_orphaned') })
      for (const c of model.certificates) if (c.state === 'intent') c.state = 'orphaned'
      return
    }
    case 'revoke':
    case 'revokeInstance': {
      if (picked === undefined) return
      const whole = command.what === 'revokeInstance'
      const { instanceId, serial } = picked.intent
      const { radius } = await ledger.revocations.revoke({
        selector: whole ? { by: 'instance', value: instanceId } : { by: 'serial', value: serial },
        reason: 'privilegeWithdrawn',
        at: w.now,
        expected: null,
        leaf: () => w.leaf('revoked'),
      })
      const hit = model.certificates.filter(c => live(c) && (whole ? c.intent.instanceId === instanceId : c === picked))
      expect(radius.certificates + radius.intents).toBe(hit.length)
      for (const c of hit) c.state = 'revoked'
      if (whole) lineageOf(picked).state = 'revoked'
      return
    }
    case 'lock': {
      if (picked === undefined) return
      await w.lock(world, picked.intent.instanceId)
      const lineage = lineageOf(picked)
      if (lineage.state !== 'active') return
      lineage.state = 'locked'
      for (const c of model.certificates)
        if (c.intent.instanceId === picked.intent.instanceId && c.state === 'issued') c.state = 'held'
      return
    }
    case 'unlock': {
      if (picked === undefined || lineageOf(picked).state !== 'locked') return
      await ledger.instances.unlock(picked.intent.instanceId, w.now, w.leaf('instance_unlocked'))
      lineageOf(picked).state = 'active'
      if (model.agents.get(picked.agent)!.state !== 'active') return
      for (const c of model.certificates)
        if (c.intent.instanceId === picked.intent.instanceId && c.state === 'held') c.state = 'issued'
      return
    }
    default: {
      const to = ({ hold: 'held', activate: 'active', retire: 'retired' } as const)[command.what]
      if (agent.state === 'retired' || (to === 'retired' && command.pick % 4 !== 0)) return
      await w.setState(world, to, command.agent)
      const was = agent.state
      agent.state = to
      agent.version++
      for (const c of model.certificates.filter(each => each.agent === command.agent)) {
        if (to === 'retired' && live(c)) c.state = 'revoked'
        if (to === 'held' && c.state === 'issued') c.state = 'held'
        if (to === 'active' && was === 'held' && c.state === 'held' && lineageOf(c).state === 'active')
          c.state = 'issued'
      }
      if (to === 'retired')
        for (const lineage of model.instances.values()) if (lineage.agent === command.agent) lineage.state = 'revoked'
    }
  }
}

const check = (world: w.World, model: Model): void => {
  const { ledger } = world
  for (const c of model.certificates)
    expect([c.intent.serial, w.stateOf(world, c.intent.serial)]).toEqual([c.intent.serial, c.state])
  for (const [id, lineage] of model.instances) {
    const instance = w.instanceOf(world, id)
    expect(instance.state).toBe(lineage.state)
    const head = instance.headSerial === null ? null : ledger.certificates.get(instance.headSerial)!
    if (head !== null) expect(['void', 'orphaned']).not.toContain(head.state)
  }
  const listed = model.certificates
    .filter(c => ['held', 'revoked', 'orphaned'].includes(c.state))
    .map(c => c.intent.serial)
  expect(w.crlSerials(world)).toEqual(listed.sort())
  const counts = ledger.certificates.counts(w.now)
  for (const [state, n] of Object.entries(counts))
    expect([state, n]).toEqual([state, model.certificates.filter(c => c.state === state).length])
  for (const [name] of model.agents) {
    const facts = ledger.issuance.facts({
      evidence: { kind: 'registration', subject: 'agent', name },
      keyHash: 'ff',
      now: w.now,
    })
    const expected = [...model.instances].filter(
      ([id, lineage]) =>
        lineage.agent === name &&
        lineage.state !== 'revoked' &&
        model.certificates.some(c => c.intent.instanceId === id && live(c)),
    )
    expect(facts.liveInstances).toBe(expected.length)
  }
  const leaves = ledger.audit.read(0, 10_000)
  expect(leaves.map(leaf => leaf.index)).toEqual(leaves.map((_, i) => i))
  const feed = ledger.feed.read(0, 10_000)
  expect(feed.map(entry => entry.n)).toEqual(feed.map((_, i) => i + 1))
  expect(ledger.feed.head().n).toBe(feed.length)
}

test('any sequence of changes leaves what the model says', async () => {
  await fc.assert(
    fc.asyncProperty(commands, async sequence => {
      await using ledger = w.makeLedger()
      const world = await w.makeWorld(ledger)
      const worlds = new Map([
        ['crawler', world],
        ['mailer', { ...world, agent: await w.addAgent(ledger, 'mailer') }],
      ])
      const model: Model = {
        agents: new Map(names.map(name => [name, { state: 'active', version: 1 }])),
        instances: new Map(),
        certificates: [],
      }
      for (const command of sequence) await step(worlds, model, command)
      check(world, model)
    }),
    { numRuns: 150 },
  )
})
