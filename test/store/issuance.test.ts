// Contract of the issuance port: steps 4 and 6, lineage slots, token uses, void and orphaned intents.
import { expect, test } from 'vitest'
import type { IntentRecord, IssuanceDecision } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

test('an intent becomes issued and is read back with its exact bytes', async () => {
  const world = await w.makeWorld()
  const tbs = new Uint8Array(700).map((_, i) => i)
  const intent = w.intentOf(world, { tbs })
  expect((await w.recordIntent(world, intent)).act).toBe('record')
  const before = world.ledger.certificates.get(intent.serial)!
  expect(before).toMatchObject({ state: 'intent', signature: null, issuedAt: null, instanceId: intent.instanceId })
  expect(before.tbs).toEqual(tbs)
  expect(await w.recordIssued(world, intent)).toBe('issued')
  const after = world.ledger.certificates.get(intent.serial)!
  expect(after).toMatchObject({ state: 'issued', issuedAt: w.now + 10, keyHash: intent.keyHash, profile: 'agent' })
  expect(after.signature).toEqual(new Uint8Array([0x30, 1, 2]))
  expect(w.instanceOf(world, intent.instanceId).headSerial).toBe(intent.serial)
})

test('a requester is read back as it was recorded, its own token, another or none', async () => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  for (const given of [
    { tokenId: 't1', requester: 'token:t1' },
    { tokenId: null, requester: 'token:t1' },
    { tokenId: null, requester: 'operator:alice' },
  ]) {
    const { serial } = await w.issue(world, given)
    expect(world.ledger.certificates.get(serial)).toMatchObject(given)
  }
})

test('a serial is never recorded twice', async () => {
  const world = await w.makeWorld()
  const intent = await w.issue(world)
  await expect(
    w.recordIntent(world, w.intentOf(world, { serial: intent.serial, instanceId: 'other' })),
  ).rejects.toMatchObject({
    code: 'conflict',
  })
  expect(world.ledger.instances.get('other')).toBeNull()
})

test('a hundred parallel claims on a one-use token: exactly one key gets it', async () => {
  const world = await w.makeWorld()
  const token = await w.addToken(world, 't1')
  const attempts = Array.from({ length: 100 }, () => {
    const intent = w.intentOf(world, { tokenId: token.id })
    return world.ledger.issuance.recordIntents<string>([
      {
        query: { evidence: { kind: 'token', tokenHash: token.hash }, keyHash: intent.keyHash, now: w.now },
        decide: facts =>
          facts.token!.usesTaken < facts.token!.uses
            ? { act: 'record', intent, leaf: w.leaf('intent_recorded') }
            : { act: 'refuse', refusal: 'used', leaf: w.leaf('token_reuse'), lock: null },
      },
    ])
  })
  const outcomes = (await Promise.all(attempts)).map(batch => batch[0]!.act)
  expect(outcomes.filter(act => act === 'record')).toHaveLength(1)
  expect(outcomes.filter(act => act === 'refuse')).toHaveLength(99)
  expect(world.ledger.tokens.byHash(token.hash)).toMatchObject({ usesTaken: 1 })
})

test('a claim that the decision forgot to check is refused by the transaction', async () => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  await w.recordIntent(world, w.intentOf(world, { tokenId: 't1' }))
  await expect(w.recordIntent(world, w.intentOf(world, { tokenId: 't1' }))).rejects.toMatchObject({ code: 'conflict' })
})

const tokenFacts = (world: w.World, keyHash: string) =>
  world.ledger.issuance.facts({ evidence: { kind: 'token', tokenHash: w.hashOf('t1') }, keyHash, now: w.now })

test('the same token and key lead to the same certificate', async () => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  const intent = await w.issue(world, { tokenId: 't1' })
  expect(tokenFacts(world, intent.keyHash)).toMatchObject({
    tokenUse: { tokenId: 't1', serial: intent.serial },
    instance: { id: intent.instanceId },
    head: { serial: intent.serial },
    token: { usesTaken: 1 },
    keySeenWith: { released: true },
  })
  expect(tokenFacts(world, w.hashOf('another'))).toMatchObject({
    tokenUse: null,
    instance: null,
    token: { usesTaken: 1 },
  })
})

test('a void intent gives the token use and the lineage slot back, its serial stays burnt', async () => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  const intent = w.intentOf(world, { tokenId: 't1' })
  await w.recordIntent(world, intent)
  await world.ledger.issuance.recordVoid([{ serial: intent.serial, leaf: w.leaf('certificate_void') }])
  expect(w.stateOf(world, intent.serial)).toBe('void')
  expect(w.crlSerials(world)).toEqual([])
  expect(w.instanceOf(world, intent.instanceId).headSerial).toBeNull()
  expect(tokenFacts(world, w.hashOf('another')).token).toMatchObject({ usesTaken: 0 })
  const facts = tokenFacts(world, intent.keyHash)
  expect(facts).toMatchObject({
    tokenUse: { tokenId: 't1' },
    instance: { id: intent.instanceId },
    head: null,
    liveInstances: 0,
    liveInstancesBefore: 0,
  })
  expect(facts.keySeenWith).toMatchObject({ instanceId: intent.instanceId, released: false })
  const again = w.intentOf(world, {
    tokenId: 't1',
    keyHash: intent.keyHash,
    instanceId: intent.instanceId,
    newInstance: false,
  })
  await w.recordIntent(world, again)
  expect(await w.recordIssued(world, again)).toBe('issued')
  expect(tokenFacts(world, intent.keyHash)).toMatchObject({
    tokenUse: { serial: again.serial },
    token: { usesTaken: 1 },
  })
})

test('a use that was given back and taken by another key is no claim any more', async () => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  const intent = w.intentOf(world, { tokenId: 't1' })
  await w.recordIntent(world, intent)
  await world.ledger.issuance.recordVoid([{ serial: intent.serial, leaf: w.leaf('certificate_void') }])
  await w.issue(world, { tokenId: 't1' })
  expect(tokenFacts(world, intent.keyHash)).toMatchObject({ tokenUse: null, instance: null, token: { usesTaken: 1 } })
})

const sweepLate = async (world: w.World, intent: IntentRecord) => {
  const swept = await world.ledger.issuance.sweepIntents({
    now: intent.deadline + 1,
    epoch: 1,
    leaf: () => w.leaf('certificate_orphaned'),
  })
  expect(swept.map(row => [row.serial, row.state])).toEqual([[intent.serial, 'orphaned']])
}

const orphan = (world: w.World, intent: IntentRecord) =>
  world.ledger.issuance.recordOrphaned([
    { serial: intent.serial, at: w.now + 10, leaf: w.leaf('certificate_orphaned') },
  ])

test.each([
  ['by the sweep', sweepLate],
  ['when its signing failed', orphan],
])('an intent orphaned %s is revoked, and its key goes on with the claim it has', async (_, end) => {
  const world = await w.makeWorld()
  await w.addToken(world, 't1')
  const intent = w.intentOf(world, { tokenId: 't1' })
  await w.recordIntent(world, intent)
  await end(world, intent)
  expect(world.ledger.audit.tail({ event: 'certificate_orphaned', limit: 5 })).toHaveLength(1)
  expect(w.crlSerials(world)).toEqual([intent.serial])
  expect(world.ledger.feed.read(0, 100).at(-1)).toMatchObject({ type: 'revoke', body: { value: intent.serial } })
  expect(tokenFacts(world, w.hashOf('another')).token).toMatchObject({ usesTaken: 1 })
  expect(tokenFacts(world, intent.keyHash)).toMatchObject({
    tokenUse: { tokenId: 't1' },
    head: null,
    instance: { headSerial: null },
  })
  const again = w.intentOf(world, {
    tokenId: 't1',
    keyHash: intent.keyHash,
    instanceId: intent.instanceId,
    newInstance: false,
  })
  await w.recordIntent(world, again)
  expect(world.ledger.tokens.byHash(w.hashOf('t1'))).toMatchObject({ usesTaken: 1 })
  expect(await w.recordIssued(world, intent)).toBe('refused')
  expect(w.stateOf(world, intent.serial)).toBe('orphaned')
})

test.each(['issued', 'revoked', 'void'] as const)('what is %s is not orphaned any more', async state => {
  const world = await w.makeWorld()
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  const { issuance, revocations, audit } = world.ledger
  if (state === 'issued') await w.recordIssued(world, intent)
  else if (state === 'void') await issuance.recordVoid([{ serial: intent.serial, leaf: w.leaf('certificate_void') }])
  else
    await revocations.revoke({
      selector: { by: 'serial', value: intent.serial },
      reason: 'keyCompromise',
      at: w.now,
      expected: null,
      leaf: () => w.leaf('revoked'),
    })
  const { size } = audit.head()
  await orphan(world, intent)
  expect([w.stateOf(world, intent.serial), audit.head().size]).toEqual([state, size])
})

test('the sweep takes intents of an earlier epoch and leaves those in time', async () => {
  const world = await w.makeWorld()
  const old = w.intentOf(world, { epoch: 1, deadline: w.now + w.hour })
  const fresh = w.intentOf(world, { epoch: 2, deadline: w.now + w.hour })
  await w.recordIntent(world, old)
  await w.recordIntent(world, fresh)
  const swept = await world.ledger.issuance.sweepIntents({ now: w.now, epoch: 2, leaf: () => w.leaf('x') })
  expect(swept.map(row => row.serial)).toEqual([old.serial])
  expect(w.stateOf(world, fresh.serial)).toBe('intent')
})

const refusals: readonly (readonly [string, (world: w.World, instance: string) => Promise<unknown>])[] = [
  ['its agent was held', world => w.setState(world, 'held')],
  [
    'its agent was held and released again',
    async world => {
      await w.setState(world, 'held')
      await w.setState(world, 'active')
    },
  ],
  ['its lineage was locked', (world, instance) => w.lock(world, instance)],
]
for (const [what, happens] of refusals)
  test(`an intent is revoked instead of released when ${what} while the HSM signed`, async () => {
    const world = await w.makeWorld()
    const intent = w.intentOf(world)
    await w.recordIntent(world, intent)
    await happens(world, intent.instanceId)
    expect(await w.recordIssued(world, intent)).toBe('refused')
    expect(world.ledger.certificates.get(intent.serial)).toMatchObject({
      state: 'revoked',
      reason: 'privilegeWithdrawn',
      issuedAt: null,
    })
    expect(w.crlSerials(world)).toEqual([intent.serial])
    expect(world.ledger.audit.tail({ event: 'release_refused', limit: 5 })).toHaveLength(1)
    expect(world.ledger.audit.tail({ event: 'certificate_issued', limit: 5 })).toHaveLength(0)
    expect(w.instanceOf(world, intent.instanceId).headSerial).toBeNull()
  })

test('an intent of another epoch is not released', async () => {
  const world = await w.makeWorld()
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  expect(await world.ledger.issuance.recordIssued([w.issuedCommand(intent, { epoch: 2 })])).toEqual(['refused'])
})

test('releasing twice changes nothing the second time', async () => {
  const world = await w.makeWorld()
  const intent = await w.issue(world)
  expect(await w.recordIssued(world, intent)).toBe('refused')
  expect(w.stateOf(world, intent.serial)).toBe('issued')
})

test('a signature that arrives for a void intent makes it revoked', async () => {
  const world = await w.makeWorld()
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  await world.ledger.issuance.recordVoid([{ serial: intent.serial, leaf: w.leaf('certificate_void') }])
  expect(await w.recordIssued(world, intent)).toBe('refused')
  expect(w.stateOf(world, intent.serial)).toBe('revoked')
  expect(w.crlSerials(world)).toEqual([intent.serial])
})

const renewalFacts = (world: w.World, presentedSerial: string, keyHash = w.hashOf('new')) =>
  world.ledger.issuance.facts({ evidence: { kind: 'renewal', presentedSerial }, keyHash, now: w.now })

test('a replaced successor is superseded when its replacement is issued, not before', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  const second = await w.renew(world, first)
  const third = w.renewalOf(world, first, { supersedes: second.serial })
  await w.recordIntent(world, third)
  expect(w.stateOf(world, second.serial)).toBe('issued')
  expect(renewalFacts(world, first.serial)).toMatchObject({ replacements: 0, head: { serial: third.serial } })
  expect(await w.recordIssued(world, third)).toBe('issued')
  expect(world.ledger.certificates.get(second.serial)).toMatchObject({
    state: 'revoked',
    reason: 'superseded',
    replaced: true,
  })
  expect(renewalFacts(world, first.serial)).toMatchObject({ replacements: 1, head: { serial: third.serial } })
  expect(w.crlSerials(world)).toEqual([second.serial])
  expect(w.stateOf(world, first.serial)).toBe('issued')
})

test('a void replacement gives the slot back to the successor it would have replaced', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  const second = await w.renew(world, first)
  const third = w.renewalOf(world, first, { supersedes: second.serial })
  await w.recordIntent(world, third)
  await world.ledger.issuance.recordVoid([{ serial: third.serial, leaf: w.leaf('certificate_void') }])
  expect(renewalFacts(world, first.serial)).toMatchObject({ replacements: 0, head: { serial: second.serial } })
})

test('a void renewal gives the slot back to its predecessor', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  const second = w.renewalOf(world, first)
  await w.recordIntent(world, second)
  await world.ledger.issuance.recordVoid([{ serial: second.serial, leaf: w.leaf('certificate_void') }])
  expect(w.instanceOf(world, first.instanceId).headSerial).toBe(first.serial)
})

test('a lock holds the live certificates of that lineage only, with a feed entry', async () => {
  const world = await w.makeWorld()
  const a = await w.issue(world)
  const b = await w.issue(world)
  await w.lock(world, a.instanceId)
  expect(w.stateOf(world, a.serial)).toBe('held')
  expect(w.stateOf(world, b.serial)).toBe('issued')
  expect(w.instanceOf(world, a.instanceId)).toMatchObject({ state: 'locked', lockReason: 'two_holders' })
  expect(world.ledger.feed.read(0, 100).at(-1)).toMatchObject({
    type: 'hold',
    body: { by: 'instance', value: a.instanceId, serials: 1 },
  })
  expect(world.ledger.audit.tail({ event: 'lineage_locked', limit: 5 })).toHaveLength(1)
})

test('a recovery is counted and found by the proved key', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  await w.renew(world, first, { recovery: true, createdAt: w.now + 5, keyHash: w.hashOf('recovered') })
  expect(w.instanceOf(world, first.instanceId).recoveries).toEqual([w.now + 5])
  const facts = world.ledger.issuance.facts({
    evidence: { kind: 'recovery', provedKeyHash: first.keyHash, tokenHash: null },
    keyHash: w.hashOf('next'),
    now: w.now,
  })
  expect(facts).toMatchObject({ presented: { serial: first.serial }, registration: { name: 'crawler' } })
})

test('a recovery that comes to nothing is not counted', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  for (const at of [5, 6]) {
    const recovered = w.renewalOf(world, first, {
      recovery: true,
      createdAt: w.now + at,
      keyHash: w.hashOf(`next-${at}`),
    })
    await w.recordIntent(world, recovered)
    expect(w.instanceOf(world, first.instanceId).recoveries).toEqual([w.now + at])
    if (at === 5)
      await world.ledger.issuance.recordVoid([{ serial: recovered.serial, leaf: w.leaf('certificate_void') }])
    else await orphan(world, recovered)
    expect(w.instanceOf(world, first.instanceId).recoveries).toEqual([])
  }
})

test('a key is known from certificates, issuers and revocations', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world)
  const facts = (keyHash: string) =>
    world.ledger.issuance.facts({
      evidence: { kind: 'registration', subject: 'agent', name: 'crawler' },
      keyHash,
      now: w.now,
    })
  expect(facts(w.hashOf('nobody'))).toMatchObject({ keySeenWith: null, keyRevoked: false, liveInstances: 1 })
  expect(facts(first.keyHash).keySeenWith).toEqual({
    instanceId: first.instanceId,
    registrationId: world.agent.id,
    released: true,
  })
  expect(facts(world.issuer.spkiHash).keySeenWith).toBe('issuer')
  await world.ledger.revocations.revoke({
    selector: { by: 'key', value: w.hashOf('stolen') },
    reason: 'keyCompromise',
    at: w.now,
    expected: 0,
    leaf: () => w.leaf('revoked'),
  })
  expect(facts(w.hashOf('stolen')).keyRevoked).toBe(true)
})

test('an expired lineage does not count as a live instance', async () => {
  const world = await w.makeWorld()
  await w.issue(world, { notAfter: w.now + 1000 })
  await w.issue(world)
  const live = (at: number) =>
    world.ledger.issuance.facts({
      evidence: { kind: 'registration', subject: 'agent', name: 'crawler' },
      keyHash: w.hashOf('k'),
      now: at,
    }).liveInstances
  expect(live(w.now)).toBe(2)
  expect(live(w.now + 1000)).toBe(1)
})

test('the live instances before one are those that began earlier', async () => {
  const world = await w.makeWorld()
  const first = await w.issue(world, { notAfter: w.now + 1000 })
  const second = await w.issue(world)
  const third = await w.issue(world)
  const before = (serial: string, at: number) =>
    world.ledger.issuance.facts({
      evidence: { kind: 'renewal', presentedSerial: serial },
      keyHash: w.hashOf('k'),
      now: at,
    }).liveInstancesBefore
  expect([first, second, third].map(({ serial }) => before(serial, w.now))).toEqual([0, 1, 2])
  expect([second, third].map(({ serial }) => before(serial, w.now + 1000))).toEqual([0, 1])
})

test('repeat writes its leaf, pending writes nothing', async () => {
  const world = await w.makeWorld()
  const decide = (decision: IssuanceDecision<string>) =>
    world.ledger.issuance.recordIntents<string>([
      {
        query: { evidence: { kind: 'token', tokenHash: 'ff' }, keyHash: w.hashOf('k'), now: w.now },
        decide: facts => {
          expect(facts).toMatchObject({ token: null, registration: null, instance: null })
          return decision
        },
      },
    ])
  const { size } = world.ledger.audit.head()
  await decide({ act: 'pending', serial: 'aa' })
  expect(world.ledger.audit.head().size).toBe(size)
  await decide({ act: 'repeat', serial: 'aa', leaf: w.leaf('certificate_repeated') })
  expect(world.ledger.audit.head().size).toBe(size + 1)
})

test('counts the signatures that came back and the intents that may have been signed', async () => {
  const world = await w.makeWorld()
  const signatures = () => world.ledger.issuance.signatures(world.issuer.id)
  await w.issue(world)
  await w.issue(world)
  expect(signatures()).toEqual({ recorded: 2, doubtful: 0 })
  const intent = w.intentOf(world)
  await w.recordIntent(world, intent)
  expect(signatures()).toEqual({ recorded: 2, doubtful: 1 })
  await world.ledger.issuance.recordVoid([{ serial: intent.serial, leaf: w.leaf('void') }])
  expect(signatures()).toEqual({ recorded: 2, doubtful: 0 })
})

test('an intent that was revoked may have been signed, until its signature comes or certainly never will', async () => {
  const world = await w.makeWorld()
  const signatures = () => world.ledger.issuance.signatures(world.issuer.id)
  const [late, never, lost] = [w.intentOf(world), w.intentOf(world), w.intentOf(world)]
  for (const intent of [late, never, lost]) await w.recordIntent(world, intent)
  const released = await w.issue(world)
  for (const { serial } of [late, never, lost, released])
    await world.ledger.revocations.revoke({
      selector: { by: 'serial', value: serial },
      reason: 'keyCompromise',
      at: w.now,
      expected: null,
      leaf: () => w.leaf('revoked'),
    })
  expect(signatures()).toEqual({ recorded: 1, doubtful: 3 })
  expect(await w.recordIssued(world, late)).toBe('refused')
  expect(signatures()).toEqual({ recorded: 2, doubtful: 2 })
  await world.ledger.issuance.recordVoid([{ serial: never.serial, leaf: w.leaf('void') }])
  expect(signatures()).toEqual({ recorded: 2, doubtful: 1 })
})
