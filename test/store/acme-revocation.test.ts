// Contract of revocation where ACME is concerned: bindings that nobody has used end with their registration, an account with its key, and a
// closed account gets nothing released.
import { expect, test } from 'vitest'
import { refusedAccountKey } from '../../src/ca/admit-account.ts'
import type { AcmeAccount } from '../../src/store/acme-port.ts'
import type { RevocationSelector } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const addBinding = (world: w.World, kid: string) =>
  world.ledger.acme.bindings.create(
    {
      kid,
      registrationId: world.agent.id,
      sealedKey: new Uint8Array([1]),
      names: [],
      expiresAt: w.now + w.hour,
      createdAt: w.now,
      createdBy: 'operator:alice',
    },
    w.leaf('acme_binding_created'),
  )

const addAccount = async (world: w.World, id: string, kid: string): Promise<Omit<AcmeAccount, 'deactivatedAt'>> => {
  const account = {
    id,
    registrationId: world.agent.id,
    kid,
    thumbprint: `thumbprint of ${id}`,
    jwk: '{}',
    contacts: [],
    names: [],
    createdAt: w.now,
  }
  const leaf = w.leaf('acme_account_created')
  await world.ledger.acme.accounts.create({
    account,
    keyHash: w.hashOf(`key of ${id}`),
    decide: () => ({ act: 'create', leaf }),
  })
  return account
}

const revoke = (world: w.World, selector: RevocationSelector, reason = 'keyCompromise') =>
  world.ledger.revocations.revoke({ selector, reason, at: w.now + 30, expected: null, leaf: () => w.leaf('revoked') })

test.each<RevocationSelector>([
  { by: 'agent', value: 'crawler' },
  { by: 'owner', value: 'alice' },
])('by $by: bindings that no account was made with are revoked, and counted with the tokens', async selector => {
  const world = await w.makeWorld()
  const { bindings } = world.ledger.acme
  const others = { ...world, agent: await w.addAgent(world.ledger, 'other', 'bob') }
  await addBinding(others, 'of-another')
  for (const kid of ['used', 'unused-1', 'unused-2']) await addBinding(world, kid)
  await w.addToken(world, 't1')
  await addAccount(world, 'a1', 'used')
  const planned = world.ledger.revocations.blastRadius(selector, w.now)
  const { radius } = await revoke(world, selector)
  expect(radius).toEqual(planned)
  expect(radius).toMatchObject({ tokens: 3, bindings: ['unused-2', 'unused-1'], instances: 1 })
  const states = ['used', 'unused-1', 'unused-2', 'of-another'].map(kid => bindings.get(kid)?.state)
  expect(states).toEqual(['active', 'revoked', 'revoked', 'active'])
  expect((await revoke(world, selector)).radius).toMatchObject({ tokens: 0, instances: 0 })
})

test('by the key of an account: its instance ends with what is live in it', async () => {
  const world = await w.makeWorld()
  for (const id of ['a1', 'a2']) {
    await addBinding(world, `kid-${id}`)
    await addAccount(world, id, `kid-${id}`)
  }
  const live = await w.issue(world, { instanceId: 'a1', newInstance: false })
  const { radius } = await revoke(world, { by: 'key', value: w.hashOf('key of a1') })
  expect(radius).toMatchObject({ instances: 1, certificates: 1, serials: [live.serial] })
  expect(['a1', 'a2'].map(id => w.instanceOf(world, id).state)).toEqual(['revoked', 'active'])
  expect(w.stateOf(world, live.serial)).toBe('revoked')
})

test('a certificate that was being signed when its account was closed is not released', async () => {
  const world = await w.makeWorld()
  await addBinding(world, 'kid')
  await addAccount(world, 'a1', 'kid')
  const intent = w.intentOf(world, { instanceId: 'a1', newInstance: false })
  await w.recordIntent(world, intent)
  await world.ledger.acme.accounts.change('a1', { deactivatedAt: w.now + 5 }, w.now + 5, w.leaf('acme_account_changed'))
  expect(await w.recordIssued(world, intent)).toBe('refused')
  expect(w.stateOf(world, intent.serial)).toBe('revoked')
})

test('an account moves to no key that was revoked, or that is a CA’s, a certificate’s or an account’s', async () => {
  const world = await w.makeWorld()
  await addBinding(world, 'kid')
  const account = await addAccount(world, 'a1', 'kid')
  const certified = await w.issue(world)
  await revoke(world, { by: 'key', value: w.hashOf('stolen') })
  const { accounts } = world.ledger.acme
  const moveTo = (keyHash: string) =>
    accounts.change(
      'a1',
      {
        thumbprint: 'the next',
        jwk: '{}',
        keyHash,
        check: facts => {
          const refusal = refusedAccountKey(facts)
          if (refusal !== null) throw new RangeError(refusal.code)
        },
      },
      w.now + 40,
      w.leaf('acme_account_changed'),
    )
  const refused = (keyHash: string) => moveTo(keyHash).then(String, error => error.message)
  expect(await refused(w.hashOf('stolen'))).toBe('key_revoked')
  for (const keyHash of [world.issuer.spkiHash, certified.keyHash, w.hashOf('key of a1')])
    expect(await refused(keyHash)).toBe('key_in_use')
  expect(accounts.get('a1')).toMatchObject({ thumbprint: account.thumbprint })
  expect(await moveTo(w.hashOf('fresh'))).toMatchObject({ thumbprint: 'the next' })
})

const keyFacts = (world: w.World, keyHash: string) =>
  world.ledger.issuance.facts({
    evidence: { kind: 'registration', subject: 'agent', name: 'crawler' },
    keyHash,
    now: w.now,
  })

test('by serial for keyCompromise: the key is refused for ever, also of one that was revoked before; for another reason it is not', async () => {
  const world = await w.makeWorld()
  const [compromised, superseded] = [await w.issue(world), await w.issue(world)]
  await revoke(world, { by: 'serial', value: compromised.serial })
  await revoke(world, { by: 'serial', value: superseded.serial }, 'superseded')
  expect(keyFacts(world, compromised.keyHash).keyRevoked).toBe(true)
  expect(keyFacts(world, superseded.keyHash).keyRevoked).toBe(false)
  await revoke(world, { by: 'serial', value: superseded.serial })
  expect(keyFacts(world, superseded.keyHash).keyRevoked).toBe(true)
})

test('whether whoever has a certificate revoked it is kept, until an operator does', async () => {
  const world = await w.makeWorld()
  const [own, operators] = [await w.issue(world), await w.issue(world)]
  const by = (serial: string, bySubject: boolean) =>
    world.ledger.revocations.revoke({
      selector: { by: 'serial', value: serial },
      reason: 'superseded',
      at: w.now + 30,
      expected: null,
      bySubject,
      leaf: () => w.leaf('revoked'),
    })
  await by(own.serial, true)
  await by(operators.serial, false)
  const { certificates } = world.ledger
  expect(certificates.get(own.serial)).toMatchObject({ state: 'revoked', revokedBySubject: true })
  await by(operators.serial, true)
  expect(certificates.get(operators.serial)).not.toHaveProperty('revokedBySubject')
  await by(own.serial, false)
  expect(certificates.get(own.serial)).toMatchObject({ state: 'revoked', reason: 'superseded' })
  expect(certificates.get(own.serial)).not.toHaveProperty('revokedBySubject')
})
