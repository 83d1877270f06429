// Contract of the policies port: a version is in force together with the scopes that follow from it, or not at all.
import { describe, expect, it } from 'vitest'
import type { PolicyDraft, ResolveScopes, ScopeChange } from '../../src/store/policies-port.ts'
import type { Ledger } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const draft = (hash: string): PolicyDraft => ({ hash, files: { 'a.cedar': hash }, author: 'operator:ann', why: null })
const readers: ResolveScopes = ({ roles }) => (roles.includes('clerk') ? ['orders:read'] : [])
const everybody: ResolveScopes = () => ['orders:read', 'orders:write']

const activate = (ledger: Ledger, version: PolicyDraft | number, resolve: ResolveScopes, expected: number | null) =>
  ledger.policies.activate({ version, resolve, expected, at: w.now, leaf: () => w.leaf('policy_activated') })

const scopesOf = (ledger: Ledger, name: string) => ledger.registrations.find('agent', name)?.scopes
const setRoles = (ledger: Ledger, name: string, roles: readonly string[]) =>
  ledger.registrations.change({
    kind: 'agent',
    name,
    at: w.now + 1,
    decide: ({ state }) => ({ set: { roles }, state }),
    leaf: () => w.leaf('registration_changed'),
  })
const entriesAfter = (ledger: Ledger, n: number) =>
  ledger.feed.read(n, 100).map(({ type, body }) => [type, body.value ?? body.version, body.scopes])

describe('policies', () => {
  it('grant nothing before there are any', async () => {
    const { ledger } = await w.makeWorld()
    await w.addAgent(ledger, 'billing')
    expect(scopesOf(ledger, 'billing')).toEqual([])
    expect(ledger.policies.active()).toBeNull()
  })

  it('come into force with a feed entry, a raised version and a leaf for those alone whose scopes changed', async () => {
    const { ledger } = await w.makeWorld()
    await w.addAgent(ledger, 'billing')
    await setRoles(ledger, 'billing', ['clerk'])
    const before = { n: ledger.feed.head().n, leaves: ledger.audit.head().size }
    const { version, changes } = await activate(ledger, draft('one'), readers, null)
    expect(changes).toEqual([{ kind: 'agent', name: 'billing', version: 3, gained: ['orders:read'], lost: [] }])
    expect(entriesAfter(ledger, before.n)).toEqual([
      ['agent', 'billing', ['orders:read']],
      ['policy', version.id, undefined],
    ])
    expect(ledger.audit.head().size).toBe(before.leaves + 1)
    expect(ledger.registrations.find('agent', 'billing')).toMatchObject({ scopes: ['orders:read'], version: 3 })
    expect(ledger.registrations.find('agent', 'crawler')).toMatchObject({ scopes: [], version: 1 })
  })

  it('are asked when a registration comes or changes, in the same entry', async () => {
    const { ledger } = await w.makeWorld()
    await activate(ledger, draft('one'), readers, null)
    await w.addAgent(ledger, 'billing')
    const { n } = ledger.feed.head()
    const { after } = await setRoles(ledger, 'billing', ['clerk'])
    expect(after.scopes).toEqual(['orders:read'])
    expect(entriesAfter(ledger, n)).toEqual([['agent', 'billing', ['orders:read']]])
    using snapshot = ledger.feed.snapshot(w.now)
    expect(snapshot.registrations(100).find(({ name }) => name === 'billing')?.scopes).toEqual(['orders:read'])
  })

  it('can be an earlier version again, and every version stays readable', async () => {
    const { ledger } = await w.makeWorld()
    await w.addAgent(ledger, 'billing')
    const { version: first } = await activate(ledger, draft('one'), readers, null)
    const { version: second } = await activate(ledger, draft('two'), everybody, first.id)
    expect(scopesOf(ledger, 'billing')).toEqual(['orders:read', 'orders:write'])
    const { changes } = await activate(ledger, first.id, () => ['orders:read'], second.id)
    expect(changes.map(({ name, lost }) => [name, lost])).toContainEqual(['billing', ['orders:write']])
    expect(ledger.policies.list({ limit: 10 }).map(({ id, active }) => [id, active])).toEqual([
      [second.id, false],
      [first.id, true],
    ])
    expect(ledger.policies.get(second.id)?.files).toEqual({ 'a.cedar': 'two' })
  })

  it('are not put in force over others than the caller saw, nor from a version that never was', async () => {
    const { ledger } = await w.makeWorld()
    const { version } = await activate(ledger, draft('one'), readers, null)
    await expect(activate(ledger, draft('two'), readers, null)).rejects.toMatchObject({ code: 'conflict' })
    await expect(activate(ledger, 99, readers, version.id)).rejects.toMatchObject({ code: 'not_found' })
    expect(ledger.policies.active()?.id).toBe(version.id)
    expect(ledger.policies.list({ limit: 10 })).toHaveLength(1)
  })

  it('leave nothing behind when their transaction fails: version, scopes and later changes are of before', async () => {
    using file = w.temporaryDatabase()
    let fail = false
    const ledger = w.makeLedger(file.path, {
      before: point => {
        if (fail && point === 'commit') throw new Error('disk I/O error')
      },
    })
    await w.makeWorld(ledger)
    await w.addAgent(ledger, 'billing')
    const { version } = await activate(ledger, draft('one'), readers, null)
    fail = true
    await expect(activate(ledger, draft('two'), everybody, version.id)).rejects.toMatchObject({ code: 'store_failed' })
    fail = false
    expect(ledger.policies.active()?.id).toBe(version.id)
    expect(scopesOf(ledger, 'billing')).toEqual([])
    await setRoles(ledger, 'billing', ['clerk'])
    expect(scopesOf(ledger, 'billing')).toEqual(['orders:read'])
    await ledger.close()
  })

  it('change scopes by time alone, and say nothing when nothing changed', async () => {
    const { ledger } = await w.makeWorld()
    await w.addAgent(ledger, 'billing')
    const until: ResolveScopes = (_, at) => (at < w.now + 10 ? ['orders:read'] : [])
    await activate(ledger, draft('one'), until, null)
    const seen: (readonly ScopeChange[])[] = []
    const refresh = (at: number) =>
      ledger.policies.refresh({
        at,
        leaf: (_, changes) => {
          seen.push(changes)
          return w.leaf('scopes_changed')
        },
      })
    expect(await refresh(w.now + 9)).toEqual([])
    expect(seen).toEqual([])
    expect((await refresh(w.now + 10)).map(({ name, lost }) => [name, lost])).toContainEqual([
      'billing',
      ['orders:read'],
    ])
    expect(scopesOf(ledger, 'billing')).toEqual([])
  })

  it('in force that nobody evaluates refuse a change instead of guessing its scopes', async () => {
    using file = w.temporaryDatabase()
    const ledger = w.makeLedger(file.path)
    await w.makeWorld(ledger)
    await activate(ledger, draft('one'), readers, null)
    await ledger.close()
    const again = w.makeLedger(file.path)
    await expect(w.addAgent(again, 'billing')).rejects.toMatchObject({ code: 'store_failed' })
    again.policies.provide(again.policies.active()!.id, readers)
    await w.addAgent(again, 'billing')
    await again.close()
  })
})
