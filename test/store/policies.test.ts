// Contract of the policies port: a version is in force together with the scopes that follow from it, or not at all.
import { describe, expect, it } from 'vitest'
import type { PolicyDraft, ResolveScopes, ScopeChange } from '../../src/store/policies-port.ts'
import type { Ledger } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const draft = (hash: string): PolicyDraft => ({ hash, files: { 'a.cedar': hash }, author: 'operator:ann', why: null })
const readers: ResolveScopes = ({ roles }) => (roles.includes('clerk') ? ['orders:read'] : [])
const everybody: ResolveScopes = () => ['orders:read', 'orders:write']

const leaves = { stepLeaf: () => w.leaf('scopes_changed'), leaf: () => w.leaf('policy_activated') }
const activate = (ledger: Ledger, version: PolicyDraft | number, resolve: ResolveScopes, expected: number | null) =>
  ledger.policies.activate({ version, resolve, expected, at: w.now, ...leaves })

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

describe('policies for a fleet', () => {
  const fleet = async (ledger: Ledger, size: number): Promise<void> => {
    await w.makeWorld(ledger)
    await Promise.all(Array.from({ length: size }, (_, i) => w.addAgent(ledger, `member-${i}`)))
  }
  const everyScopes = (ledger: Ledger): ReadonlySet<string> => {
    using snapshot = ledger.feed.snapshot(w.now)
    return new Set(snapshot.registrations(100_000).map(({ scopes }) => scopes.join()))
  }

  it('come into force beside everything else: 20,000 registrations in small steps, others are answered in between', async () => {
    using file = w.temporaryDatabase()
    const ledger = w.makeLedger(file.path)
    await fleet(ledger, 20_000)
    await w.addAgent(ledger, 'billing')
    // What came with each commit, as the feed hears of it.
    const steps: number[] = []
    let head = ledger.feed.head().n
    const stop = ledger.feed.onAppend(() => {
      const { n } = ledger.feed.head()
      steps.push(n - head)
      head = n
    })
    let answered = 0
    let isOver = false
    const others = (async () => {
      while (!isOver) {
        await setRoles(ledger, 'billing', [`r${answered}`])
        answered++
      }
    })()
    const activating = activate(ledger, draft('one'), everybody, null)
    await w.addAgent(ledger, 'comes-meanwhile')
    const { changes } = await activating
    isOver = true
    await others
    stop()
    expect(changes.length).toBeGreaterThanOrEqual(20_000)
    expect(everyScopes(ledger)).toEqual(new Set(['orders:read,orders:write']))
    // Of 401 steps at least each fourth one had somebody else's turn after it.
    expect(answered).toBeGreaterThan(100)
    expect(Math.max(...steps)).toBeLessThan(200)
    await ledger.close()
  }, 120_000)

  it('change each registration whole, in one entry, and conditions for everybody after the last of them', async () => {
    const ledger = w.makeLedger()
    await fleet(ledger, 120)
    const first = await activate(ledger, draft('one'), everybody, null)
    const { n } = ledger.feed.head()
    const two = await activate(ledger, draft('two'), () => ['orders:write', 'orders:cancel'], first.version.id)
    const entries = ledger.feed.read(n, 1000)
    expect(entries.map(({ type }) => type)).toEqual([...Array.from({ length: 121 }, () => 'agent'), 'policy'])
    expect(entries.at(-1)?.body.version).toBe(two.version.id)
    const agents = entries.slice(0, -1)
    expect(new Set(agents.map(({ body }) => body.value)).size).toBe(121)
    for (const { body } of agents) expect(body.scopes).toEqual(['orders:write', 'orders:cancel'])
  })

  it('leave registrations with those they have reached when they are interrupted, whatever changes then, until they are finished', async () => {
    using file = w.temporaryDatabase()
    let commits: number | null = null
    const ledger = w.makeLedger(file.path, {
      before: point => {
        if (point === 'commit' && commits !== null && --commits < 0) throw new Error('disk I/O error')
      },
    })
    await fleet(ledger, 250)
    const { version: first } = await activate(ledger, draft('one'), readers, null)
    commits = 2
    await expect(activate(ledger, draft('two'), everybody, first.id)).rejects.toMatchObject({ code: 'store_failed' })
    commits = null
    expect(ledger.policies.active()?.id).toBe(first.id)
    expect(ledger.policies.rolling()).toMatchObject({ hash: 'two', active: false, unfinished: true })
    expect(everyScopes(ledger)).toEqual(new Set(['', 'orders:read,orders:write']))
    // As far as they came: with their scopes; the others by the version before.
    const [reached, other] = ['member-0', 'member-249']
    for (const name of [reached!, other!]) await setRoles(ledger, name, ['clerk'])
    expect([scopesOf(ledger, reached!), scopesOf(ledger, other!)]).toEqual([
      ['orders:read', 'orders:write'],
      ['orders:read'],
    ])
    await ledger.close()

    const again = w.makeLedger(file.path)
    const { id } = again.policies.rolling()!
    await activate(again, id, everybody, first.id)
    expect([again.policies.active()?.id, again.policies.rolling()]).toEqual([id, null])
    expect(everyScopes(again)).toEqual(new Set(['orders:read,orders:write']))
    await again.close()
  }, 120_000)

  it('give way to others that are put in force instead of finishing them', async () => {
    let commits: number | null = null
    const ledger = w.makeLedger(':memory:', {
      before: point => {
        if (point === 'commit' && commits !== null && --commits < 0) throw new Error('disk I/O error')
      },
    })
    await fleet(ledger, 150)
    const { version: first } = await activate(ledger, draft('one'), readers, null)
    commits = 1
    await expect(activate(ledger, draft('two'), everybody, first.id)).rejects.toMatchObject({ code: 'store_failed' })
    commits = null
    await activate(ledger, first.id, readers, first.id)
    expect([ledger.policies.active()?.id, ledger.policies.rolling()]).toEqual([first.id, null])
    expect(everyScopes(ledger)).toEqual(new Set(['']))
  }, 120_000)
})
