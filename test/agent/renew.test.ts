// Renewal and recovery against the real CA, one attempt at a time: lost answers, lost certificates, locks.
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import { openCredentialDirectory, readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { enrol } from '../../src/agent/enrol.ts'
import { type RenewalDeps, recover, renew } from '../../src/agent/renew.ts'
import { type CredentialStore, createMemoryStore } from '../../src/agent/store.ts'
import { leaf } from '../ca/authority.ts'
import { type CaServer, createCaServer } from './ca-server.ts'
import { createTiming } from './timing.ts'

let ca: CaServer
beforeAll(async () => {
  ca = await createCaServer()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const signal = new AbortController().signal
const depsWith = (store: CredentialStore): RenewalDeps => ({
  timing: createTiming(),
  store,
  keyAlgorithm: 'P-256',
  signal,
  url: ca.url,
  recoveryRoots: async bundlePem => bundlePem,
})
const enrolled = async (agent: string, store: CredentialStore = createMemoryStore()) => {
  const token = readFileSync(await ca.tokenFile(agent), 'utf8').trim()
  const deps = depsWith(store)
  return { deps, first: await enrol(deps, { url: ca.url, anchors: { caFile: ca.caFile }, token, service: null }) }
}
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'fulfilled',
    error => error.code ?? error.message,
  )
const instanceOf = ({ facts }: Credential) => ca.front.ledger.instances.get(facts.instance)
const unlock = (credential: Credential) =>
  ca.front.ledger.instances.unlock(credential.facts.instance, Date.now(), leaf('instance_unlocked'))

describe('renewal', () => {
  it('gives the next generation of the same identity under another key', async () => {
    const { deps, first } = await enrolled('renews')
    const next = await renew(deps, first)
    expect(next.facts.generation).toBe(2)
    expect(next.spiffeId).toBe(first.spiffeId)
    expect(next.privateKey.equals(first.privateKey)).toBe(false)
  })

  it('costs nothing when its answer is lost, 20 times over 20 generations: no lock, no replacement', async () => {
    const { deps, first } = await enrolled('loses-answers')
    let present = first
    for (let i = 0; i < 20; i++) {
      ca.fate('lose-answer')
      expect(await codeOf(renew(deps, present))).toBe('ca_unreachable')
      present = await renew(deps, present)
    }
    expect(present.facts.generation).toBe(21)
    const { rows } = ca.front.ledger.certificates.list({ instanceId: present.facts.instance, limit: 100 })
    expect(rows.filter(row => row.state !== 'issued')).toEqual([])
    expect(instanceOf(present)?.state).toBe('active')
  })

  it('asks after a crash with the key that was durable before the request', async () => {
    const dir = ca.scratch('crash')
    {
      await using directory = await openCredentialDirectory(dir)
      const { deps, first } = await enrolled('crashes', directory)
      ca.fate('lose-answer')
      expect(await codeOf(renew(deps, first))).toBe('ca_unreachable')
    }
    await using directory = await openCredentialDirectory(dir)
    const stored = (await directory.load()) as Credential
    expect(stored.facts.generation).toBe(1)
    const next = await renew(depsWith(directory), stored)
    expect(next.facts.generation).toBe(2)
    expect((await readCredentialDirectory(dir))?.facts).toEqual(next.facts)
    const { rows } = ca.front.ledger.certificates.list({ instanceId: next.facts.instance, limit: 100 })
    expect(rows.map(row => [row.generation, row.state])).toEqual([
      [2, 'issued'],
      [1, 'issued'],
    ])
  })

  it('is refused with the answer of the CA and the command that cures it', async () => {
    const { deps, first } = await enrolled('held')
    const change = (state: 'held' | 'active') =>
      ca.front.ledger.registrations.change({
        kind: 'agent',
        name: 'held',
        at: Date.now(),
        decide: () => ({ set: {}, state }),
        leaf: () => leaf('registration_changed'),
      })
    await change('held')
    await expect(renew(deps, first)).rejects.toMatchObject({
      code: 'registration_held',
      status: 403,
      hint: 'agentca agent release held',
    })
    await change('active')
    expect((await renew(deps, first)).facts.generation).toBe(2)
  })
})

describe('recovery', () => {
  it('proves the last key where the certificate has ended', async () => {
    const { deps, first } = await enrolled('slept')
    ca.front.time.offset = 2 * 3_600_000
    expect(await codeOf(renew(deps, first))).toBe('certificate_expired')
    // The signer has a clock of its own: only what is decided can be put off.
    ca.front.time.offset = 0
    const next = await recover(deps, first)
    expect(next.facts.generation).toBe(2)
    expect(next.spiffeId).toBe(first.spiffeId)
  })

  it('gets the certificate of a renewal whose answer was lost before the old one ended', async () => {
    const { deps, first } = await enrolled('slept-after-loss')
    ca.fate('lose-answer')
    expect(await codeOf(renew(deps, first))).toBe('ca_unreachable')
    expect((await recover(deps, first)).facts.generation).toBe(2)
    expect(instanceOf(first)?.state).toBe('active')
  })

  it('goes on from the key of such a renewal when the certificate that was lost has ended too', async () => {
    const { deps, first } = await enrolled('slept-longer')
    ca.fate('lose-answer')
    expect(await codeOf(renew(deps, first))).toBe('ca_unreachable')
    // What the CA says of the pair of keys that it knows from the renewal; then the newer key proves for a third.
    ca.fate({ problem: { status: 403, code: 'certificate_expired', retryAfter: '0' } })
    expect((await recover(deps, first)).facts.generation).toBe(3)
    expect(instanceOf(first)?.state).toBe('active')
  })

  it('costs nothing when its own answer is lost, twice in a row', async () => {
    const { deps, first } = await enrolled('loses-recoveries')
    ca.fate('lose-answer', 'lose-answer')
    for (let i = 0; i < 2; i++) expect(await codeOf(recover(deps, first))).toBe('ca_unreachable')
    expect((await recover(deps, first)).facts.generation).toBe(2)
  })

  it('changes nothing at the CA and keeps its key when it is refused', async () => {
    const { deps, first } = await enrolled('superseded')
    const elsewhere = depsWith(createMemoryStore())
    await renew(elsewhere, first)
    expect(await codeOf(recover(deps, first))).toBe('recovery_not_allowed')
    const pending = await deps.store.pending(`after ${first.facts.serial}`)
    expect(await codeOf(recover(deps, first))).toBe('recovery_not_allowed')
    const after = await deps.store.pending(`after ${first.facts.serial}`)
    expect(after?.keys).toHaveLength(1)
    expect(after?.keys[0].equals(pending?.keys[0] as never)).toBe(true)
    expect(instanceOf(first)?.state).toBe('active')
  })

  it('signs for the audience that the verified CA names, when it is reached under another name', async () => {
    const { deps, first } = await enrolled('other-name')
    const url = ca.url.replace('127.0.0.1', 'localhost')
    expect((await recover({ ...deps, url }, first)).facts.generation).toBe(2)
  })

  it('is how a locked instance comes back once it is unlocked, without locking it again', async () => {
    const { deps, first } = await enrolled('stolen')
    const thief = depsWith(createMemoryStore())
    await renew(thief, first)
    const owner = await renew(deps, first)
    const again = depsWith(createMemoryStore())
    expect(await codeOf(renew(again, first))).toBe('lineage_conflict')
    expect(await codeOf(recover(deps, owner))).toBe('instance_locked')
    await unlock(owner)
    expect((await recover(deps, owner)).facts.generation).toBe(3)
    expect(instanceOf(owner)?.state).toBe('active')
  })
})
