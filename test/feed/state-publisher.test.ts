// The signed state over the real parts: a log key in SoftHSM2, a signer process, the SQLite ledger, files; OpenSSL checks a signature, and
// a relying party follows with nothing but what is published.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fromBase64, utf8 } from '../../src/base/bytes.ts'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createSnapshots } from '../../src/feed/snapshot.ts'
import { openStateDirectory } from '../../src/feed/state-directory.ts'
import { createStatePublisher, type StatePublisher } from '../../src/feed/state-publisher.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { openCoreFeed } from '../../src/server/core-feed.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { createRevocationState } from '../../src/verify/revocation-state.ts'
import {
  neededFiles,
  readDeltaFile,
  readSnapshotFile,
  type StateHead,
  verifyStateHead,
} from '../../src/verify/signed-state.ts'
import {
  createTokenFixture,
  eventually,
  type RunningSigner,
  signerConfig,
  startSigner,
  type TokenFixture,
} from '../signer/harness.ts'
import { serve } from '../status/serve.ts'
import * as w from '../store/make-ledger.ts'

let fixture: TokenFixture
let signer: RunningSigner
beforeAll(async () => {
  fixture = await createTokenFixture()
  signer = startSigner(signerConfig(fixture))
  await signer.supervisor.ready(15_000)
})
afterAll(async () => {
  await signer?.[Symbol.asyncDispose]()
  fixture?.remove()
})

/** Real time, counted from when the ledger's certificates begin. */
const started = systemClock.monotonic()
const testClock: Clock = {
  now: () => w.now + Math.floor(systemClock.monotonic() - started),
  monotonic: systemClock.monotonic,
}

let published = 0
/** A CA's published state of its own: a series of notes, a ledger, a directory. */
const newState = async (ledger: Ledger = w.makeLedger()) => {
  const caId = `ca-${++published}`
  const directory = mkdtempSync(join(fixture.directory, 'state-'))
  const trouble = { signer: false }
  const sign = async (tbs: Uint8Array) => {
    if (trouble.signer) throw new Error('no signer')
    return signer.client.sign({ purpose: 'checkpoint', key: 'log-1', tbs, priority: 'status', deadlineMs: 10_000 })
  }
  /** As a start of the server does it. */
  const open = async (clock: Clock = testClock, everySeconds = 3600, from: Ledger = ledger) => {
    const files = await openStateDirectory(directory, silentLog)
    const before = await files.load({ caId, logKeySpki: fixture.logSpki })
    const publisher = createStatePublisher({
      ...{ clock, log: silentLog, feed: from.feed, snapshots: createSnapshots({ clock, feed: from.feed }) },
      ...{ caId, logKeySpki: fixture.logSpki, sign, directory: files, before, everySeconds },
    })
    return { ...publisher, [Symbol.asyncDispose]: () => publisher.close() }
  }
  return { caId, ledger, directory, trouble, sign, open, names: () => readdirSync(directory).sort() }
}

const textOf = (publisher: Pick<StatePublisher, 'file'>, name: string) =>
  Buffer.from(publisher.file(name)!.bytes).toString('utf8')

/** Knows a CA by its published state alone, and fetches no more than it needs. */
const createFollower = (caId: string) => {
  const state = createRevocationState()
  let notOlderThan: number | null = null
  const fetched: string[] = []
  return {
    state,
    fetched,
    follow: (publisher: Pick<StatePublisher, 'file'>): StateHead => {
      const trust = { caId, logKeySpki: fixture.logSpki, notOlderThan, now: null }
      const head = verifyStateHead(textOf(publisher, 'head'), textOf(publisher, 'head.json'), trust)
      const take = (name: string): Uint8Array => {
        fetched.push(name.replace(/-.*/, ''))
        return publisher.file(name)!.bytes
      }
      const { snapshot, deltas } = neededFiles(head, state.position())
      if (snapshot !== null)
        for (const event of readSnapshotFile(take(snapshot.name), snapshot, head.epoch)) state.apply(event)
      for (const delta of deltas)
        for (const event of readDeltaFile(take(delta.name), delta, head.epoch)) state.apply(event)
      expect(state.position()).toEqual({ epoch: head.epoch, n: head.n })
      notOlderThan = head.at
      return head
    },
  }
}

const setsOf = (ledger: Ledger) => {
  using snapshot = ledger.feed.snapshot(w.now)
  const statuses = snapshot.statuses(1_000_000)
  const serials = (held: boolean) => statuses.filter(each => each.held === held).map(({ serial }) => serial)
  return { revoked: serials(false).sort(), held: serials(true).sort() }
}
const knownTo = ({ state }: ReturnType<typeof createFollower>) => {
  const parts = state.snapshot(w.now, 1_000_000)!
  const serials = (kind: 'revoked' | 'held') => parts.flatMap(part => part[kind].map(({ serial }) => serial)).sort()
  return { revoked: serials('revoked'), held: serials('held') }
}

const revoke = async (world: w.World, given?: string): Promise<void> => {
  const serial = given ?? (await w.issue(world)).serial
  await world.ledger.revocations.revoke({
    selector: { by: 'serial', value: serial },
    reason: 'superseded',
    at: w.now,
    expected: null,
    leaf: () => w.leaf('revoked'),
  })
}

describe('the published state', () => {
  it('is signed by the log key: OpenSSL says so too, over the very hash of head.json', async () => {
    const { ledger, directory, open } = await newState()
    await w.makeWorld(ledger)
    await using publisher = await open()
    await publisher.now()
    const note = readFileSync(join(directory, 'head'), 'utf8')
    const [text, signature] = note.split('\n\n') as [string, string]
    writeFileSync(join(directory, 'key.pem'), encodePem('PUBLIC KEY', fixture.logSpki))
    writeFileSync(join(directory, 'text'), `${text}\n`)
    writeFileSync(join(directory, 'signature'), fromBase64(signature.trim().split(' ')[2]!)!)
    const args = ['dgst', '-sha256', '-verify', 'key.pem', '-signature', 'signature', 'text']
    expect(execFileSync('openssl', args, { cwd: directory, encoding: 'utf8' })).toBe('Verified OK\n')
    expect(text.split('\n')[2]).toBe(
      createHash('sha256')
        .update(readFileSync(join(directory, 'head.json')))
        .digest('base64'),
    )
  })

  it('is the ledger\u2019s after every change, and costs who follows it one small file', async () => {
    const { caId, ledger, open } = await newState()
    const world = await w.makeWorld(ledger)
    await using publisher = await open()
    const follower = createFollower(caId)
    await publisher.now()
    follower.follow(publisher)
    const [, { serial }] = [await w.issue(world), await w.issue(world)]
    for (const change of [
      () => revoke(world),
      () => w.setState(world, 'held'),
      () => revoke(world, serial),
      () => w.setState(world, 'active'),
      () => w.setState(world, 'retired'),
    ]) {
      await change()
      await eventually('the change is published', () => publisher.head()?.n === ledger.feed.head().n)
      follower.follow(publisher)
      expect(knownTo(follower)).toEqual(setsOf(ledger))
    }
    expect(follower.fetched[0]).toBe('snapshot')
    expect(new Set(follower.fetched.slice(1))).toEqual(new Set(['delta']))
    const late = createFollower(caId)
    late.follow(publisher)
    expect(knownTo(late)).toEqual(setsOf(ledger))
  })

  it('keeps a bounded number of changes, behind which a snapshot is what there is', async () => {
    const { caId, ledger, open } = await newState()
    const world = await w.makeWorld(ledger)
    await using publisher = await open()
    const [often, seldom] = [createFollower(caId), createFollower(caId)]
    await publisher.now()
    seldom.follow(publisher)
    for (let i = 0; i < 140; i++) {
      await revoke(world)
      await publisher.now()
      const { deltas, snapshot, n } = often.follow(publisher)
      expect(deltas.length).toBeLessThanOrEqual(64)
      expect(n - snapshot.n).toBeLessThanOrEqual(64)
    }
    // The snapshots that were made meanwhile are not for who has followed every change.
    expect(often.fetched.filter(name => name === 'snapshot')).toHaveLength(1)
    seldom.follow(publisher)
    expect(seldom.fetched.filter(name => name === 'snapshot')).toHaveLength(2)
    for (const follower of [often, seldom]) expect(knownTo(follower)).toEqual(setsOf(ledger))
  })

  it('is published again and again though nothing changes, always later, good for five minutes', async () => {
    const { ledger, open } = await newState()
    await w.makeWorld(ledger)
    await using publisher = await open(testClock, 0.05)
    await eventually('it is published', () => publisher.head() !== null)
    const first = publisher.head()!
    await eventually('it is published again', () => publisher.head()!.at > first.at)
    const second = publisher.head()!
    expect(second).toEqual({ ...first, at: second.at, nextUpdate: second.at + 300_000 })
  })

  it('never goes back in time, whatever the clock says', async () => {
    const { caId, ledger, open } = await newState()
    await w.makeWorld(ledger)
    let now = w.now
    const clock: Clock = { now: () => now, monotonic: systemClock.monotonic }
    const follower = createFollower(caId)
    {
      await using publisher = await open(clock)
      await publisher.now()
      follower.follow(publisher)
      now -= 3_600_000
      await publisher.now()
      follower.follow(publisher)
    }
    await using restarted = await open(clock)
    const { at } = await restarted.now()
    expect(at).toBeGreaterThan(now + 3_600_000)
    follower.follow(restarted)
  })
})

describe('published files', () => {
  it('are served before anything is signed after a start, and gone on from: nobody fetches a snapshot for it', async () => {
    using file = w.temporaryDatabase()
    const ledger = w.makeLedger(file.path)
    const { caId, trouble, open } = await newState(ledger)
    const world = await w.makeWorld(ledger)
    const follower = createFollower(caId)
    {
      await using publisher = await open()
      await publisher.now()
      follower.follow(publisher)
    }
    await revoke(world)
    trouble.signer = true
    await using publisher = await open()
    const served = follower.follow(publisher)
    expect(served.n).toBe(ledger.feed.head().n - 1)
    trouble.signer = false
    await eventually('the change is published', () => publisher.head()!.n === ledger.feed.head().n)
    follower.follow(publisher)
    expect(follower.fetched).toEqual(['snapshot', 'delta'])
    expect(knownTo(follower)).toEqual(setsOf(ledger))
    await ledger.close()
  })

  it('are served as they were while the signer is dead, and published when it is back', async () => {
    const { ledger, trouble, open } = await newState()
    const world = await w.makeWorld(ledger)
    await using publisher = await open()
    await publisher.now()
    const before = textOf(publisher, 'head')
    trouble.signer = true
    await revoke(world)
    await expect(publisher.now()).rejects.toThrow('no signer')
    expect(textOf(publisher, 'head')).toBe(before)
    trouble.signer = false
    await eventually('the change is published', () => publisher.head()!.n === ledger.feed.head().n)
  })

  it('on disk are those that the head names, whatever a crash left beside them', async () => {
    const { caId, ledger, directory, open, names } = await newState()
    await w.makeWorld(ledger)
    for (const name of ['snapshot-0123456789abcdef-1-0123456789abcdef.jsonl', '.head.tmp', 'README'])
      writeFileSync(join(directory, name), 'x')
    await using publisher = await open()
    const { snapshot } = await publisher.now()
    expect(names()).toEqual(['README', 'head', 'head.json', snapshot.name].sort())
    const follower = createFollower(caId)
    follower.follow({ file: name => ({ bytes: readFileSync(join(directory, name)), immutable: false }) })
    expect(knownTo(follower)).toEqual(setsOf(ledger))
  })

  it('that no head names any more stay for those who have the head before, then they go', async () => {
    const { ledger, open, names } = await newState()
    const world = await w.makeWorld(ledger)
    let passed = 0
    const clock: Clock = { ...testClock, monotonic: () => systemClock.monotonic() + passed }
    await using publisher = await open(clock)
    const { snapshot } = await publisher.now()
    for (let i = 0; i < 65; i++) {
      await revoke(world)
      await publisher.now()
    }
    expect(publisher.head()!.snapshot.name).not.toBe(snapshot.name)
    expect(publisher.file(snapshot.name)?.immutable).toBe(true)
    expect(names()).toContain(snapshot.name)
    passed += 120_000
    await publisher.now()
    expect(publisher.file(snapshot.name)).toBeNull()
    expect(names()).not.toContain(snapshot.name)
  })

  it.each([
    [
      'a head that was not signed',
      (directory: string) => copyFileSync(join(directory, 'head'), join(directory, 'head.json')),
    ],
    ['a torn file', (directory: string) => writeFileSync(join(directory, 'head'), 'agentca-state/')],
    [
      'a snapshot with another byte',
      (directory: string) => {
        const name = readdirSync(directory).find(each => each.startsWith('snapshot'))!
        writeFileSync(join(directory, name), utf8('{}\n'))
      },
    ],
  ])('with %s are not served after a start, and replaced', async (_, damage) => {
    const { caId, ledger, directory, trouble, open } = await newState()
    await w.makeWorld(ledger)
    {
      await using publisher = await open()
      await publisher.now()
    }
    damage(directory)
    trouble.signer = true
    await using publisher = await open()
    expect(publisher.file('head')).toBeNull()
    trouble.signer = false
    await publisher.now()
    createFollower(caId).follow(publisher)
  })
})

describe('an older ledger that was put back', () => {
  it('begins a new epoch, so that its new entries are not taken for those that were lost', async () => {
    using file = w.temporaryDatabase()
    using backup = w.temporaryDatabase()
    const first = w.makeLedger(file.path)
    await w.makeWorld(first)
    await first.close()
    copyFileSync(file.path, backup.path)
    const { caId, directory, sign } = await newState(w.makeLedger())
    const start = (ledger: Ledger) =>
      openCoreFeed({
        ...{ clock: testClock, log: silentLog, metrics: silentMetrics, ledger, directory, caId, sign },
        config: { heartbeat: 3600, lease: 7200, stateEvery: 3600 },
        logKeySpki: fixture.logSpki,
      })
    const follower = createFollower(caId)
    const later = w.makeLedger(file.path)
    await w.addAgent(later, 'lost')
    const before = later.feed.head()
    {
      const { feed, state } = await start(later)
      await state.now()
      follower.follow(state)
      await Promise.all([feed.close(), state.close()])
    }
    await later.close()

    const restored = w.makeLedger(backup.path)
    const { feed, state } = await start(restored)
    expect(feed.head().epoch).not.toBe(before.epoch)
    expect(feed.head().n).toBe(before.n - 1)
    expect(restored.audit.tail({ event: 'feed_epoch_changed', limit: 1 })).toHaveLength(1)
    await w.addAgent(restored, 'another')
    await state.now()
    follower.follow(state)
    expect(follower.state.principal('agent', 'lost')).toBeNull()
    expect(follower.state.principal('agent', 'another')).not.toBeNull()
    await Promise.all([feed.close(), state.close()])
    // A start over the same ledger stays in its epoch.
    const again = await start(restored)
    expect(again.feed.head().epoch).toBe(feed.head().epoch)
    await Promise.all([again.feed.close(), again.state.close()])
    await restored.close()
  })
})

describe('the status listener', () => {
  it('serves heads for a moment and files for ever, and the key that signed them', async () => {
    const { ledger, open } = await newState()
    await w.makeWorld(ledger)
    await using publisher = await open()
    const { snapshot } = await publisher.now()
    const logKeyPem = encodePem('PUBLIC KEY', fixture.logSpki)
    await using status = await serve({ stateFile: publisher.file, logKeyPem })
    const served = async (path: string) => {
      const { status: code, headers, body } = await status.ask(path)
      return [code, headers['content-type'], headers['cache-control'], body.toString()]
    }
    const text = (name: string) => textOf(publisher, name)
    expect(await served('/state/head')).toEqual([
      ...[200, 'text/plain; charset=utf-8', 'max-age=5, must-revalidate'],
      text('head'),
    ])
    expect(await served('/state/head.json')).toEqual([
      ...[200, 'application/json', 'max-age=5, must-revalidate'],
      text('head.json'),
    ])
    expect(await served(`/state/${snapshot.name}`)).toEqual([
      ...[200, 'application/jsonl', 'max-age=31536000, immutable'],
      text(snapshot.name),
    ])
    expect((await served('/log/key'))[3]).toBe(logKeyPem)
    for (const path of ['/state/', '/state/none.jsonl', '/state/..%2fhead', '/state/../agentca.db'])
      expect((await served(path))[0]).toBe(404)
    expect((await status.ask('/state/head', { method: 'POST' })).status).toBe(405)
    const { etag } = (await status.ask('/state/head')).headers
    expect((await status.ask('/state/head', { headers: { 'if-none-match': etag! } })).status).toBe(304)
    await publisher.now()
    expect((await status.ask('/state/head')).body.toString()).toBe(text('head'))
  })

  it('has nothing under /state/ before the first one', async () => {
    const { trouble, open } = await newState()
    trouble.signer = true
    await using publisher = await open()
    await using status = await serve({ stateFile: publisher.file })
    for (const path of ['/state/head', '/state/head.json', '/log/key'])
      expect((await status.ask(path)).status).toBe(404)
  })
})
