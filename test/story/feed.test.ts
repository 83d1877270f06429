// The feed of a whole CA over mTLS, while the CA is killed again and again: whoever follows it ends with the ledger's own set, and has
// never heard of anything that the ledger does not have. And what operators are told of who applied what.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { takeSnapshot } from '../../src/feed/snapshot.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { encodePosition, type FeedEvent, parseFeedEvent } from '../../src/verify/feed-event.ts'
import { createRevocationState, type RevocationState } from '../../src/verify/revocation-state.ts'
import { type Holder, isType, openReader } from '../feed/world.ts'
import { ask, createKey } from '../http/harness.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createOperator } from './operator.ts'
import { until } from './until.ts'

let home: StoryHome
let ca: CaProcess
let watcher: Holder
let follower: Follower
beforeAll(async () => {
  home = await createStoryHome()
  ca = await startCa(home, 'crash')
  await home.admin.call('servicesCreate', { body: { name: 'watcher' } })
  watcher = await issue('service', 'watcher')
  follower = follow(watcher)
})
afterAll(async () => {
  follower?.stop()
  await ca?.stop()
  home?.remove()
})

const portOf = (): number => Number(new URL(home.report.urls.api).port)

const issue = async (kind: 'service' | 'agent', name: string): Promise<Holder> => {
  const key = await createKey()
  const body = { kind, name, csr: encodePem('CERTIFICATE REQUEST', key.csr) }
  const { certificate, chain, serial, instance, notAfter } = await home.admin.call('certificatesIssue', { body })
  const privateKey = key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  return { name, instance, serial, notAfter: Date.parse(notAfter), cert: certificate + chain, key: privateKey }
}

interface Follower {
  readonly state: RevocationState
  /** Every entry that it was ever sent. */
  readonly heard: readonly FeedEvent[]
  /** How often it had to begin with a snapshot. */
  snapshots(): number
  stop(): void
}

/** As a verifier does it: goes on after what it has, and says that it has applied it. */
const follow = (holder: Holder): Follower => {
  const state = createRevocationState()
  const heard: FeedEvent[] = []
  let snapshots = 0
  let stopped = false
  let close = (): void => {}
  const acknowledge = async (): Promise<void> => {
    const position = state.position()
    if (position === null) return
    const body = { id: encodePosition(position) }
    await ask(portOf(), '/v1/feed/ack', { shown: holder, body }).catch(() => {})
  }
  const connection = async (): Promise<void> => {
    const known = state.position()
    const reader = await openReader(portOf(), holder, known === null ? {} : { since: encodePosition(known) })
    close = reader.close
    let taken = 0
    for (;;) {
      const last = await reader.until(() => reader.events.length > taken).catch(() => null)
      if (last === null) return
      for (const event of reader.events.slice(taken)) {
        taken++
        if (event.type === 'snapshot' && event.part === 1) snapshots++
        if (event.type !== 'snapshot' && event.type !== 'heartbeat' && event.type !== 'end') heard.push(event)
        if (state.apply(event) === 'resync') throw new Error(`did not follow: ${JSON.stringify(event)}`)
      }
      await acknowledge()
    }
  }
  const running = async (): Promise<void> => {
    while (!stopped) {
      await connection().catch(() => {})
      await delay(20)
    }
  }
  void running()
  return {
    state,
    heard,
    snapshots: () => snapshots,
    stop: () => {
      stopped = true
      close()
    },
  }
}

const head = async () => (await home.admin.call('status')).feed
const isAtHead = async (): Promise<boolean> => {
  const [known, there] = [follower.state.position(), await head()]
  return known !== null && known.epoch === there.epoch && known.n === there.n
}
const revoke = (serial: string) =>
  home.admin.call('revoke', { body: { by: 'serial', value: serial, reason: 'keyCompromise' } })

describe('an operator who waits for a revocation', () => {
  it('is told that it is applied, by whom after how long, and finds the receipt in the audit log', async () => {
    const operator = createOperator(home.env, home.paths.home)
    await home.admin.call('agentsCreate', { body: { name: 'caller', owner: 'finance' } })
    const { serial } = await issue('agent', 'caller')
    await until('the follower is live', isAtHead)
    const { code, out, err } = await operator.run(`revoke --serial ${serial} --reason superseded --yes --wait 30s`)
    expect([code, err.includes('stale')]).toEqual([0, false])
    expect(out).toMatch(/^verifiers +applied at 1 of 1 after \d+ ms$/m)
    const name = `watcher/${watcher.instance}`
    const { items } = await home.admin.call('auditTail', { query: { event: 'revocation_applied', limit: 1 } })
    expect(items[0]?.content).toMatchObject({
      ...{ type: 'revoke', by: 'serial', value: serial, of: 1, applied: 1, missing: [] },
      afterMs: { [name]: expect.any(Number) },
    })
    await operator.run(`audit export --file ${join(home.paths.home, 'log.jsonl')}`)
    const leaves = readFileSync(join(home.paths.home, 'log.jsonl'), 'utf8').split('\n')
    expect(leaves.filter(line => line.includes('"revocation_applied"'))).toHaveLength(1)
  })

  it('is told who is stale, since when and covered until when, with exit code 8', async () => {
    const operator = createOperator(home.env, home.paths.home)
    await home.admin.call('servicesCreate', { body: { name: 'billing' } })
    const silent = await openReader(portOf(), await issue('service', 'billing'), { subscriber: '2', maxStaleness: 300 })
    await silent.until(isType('heartbeat'))
    silent.close()
    const isStale = async () => {
      const { subscribers } = await home.admin.call('feedStatus')
      return subscribers.some(({ subscriber, state }) => subscriber === 'billing/2' && state === 'stale')
    }
    await until('its end is noticed', isStale)
    const { serial } = await issue('agent', 'caller')
    const { code, out } = await operator.run(`revoke --serial ${serial} --reason superseded --yes --wait 3s`)
    expect(code).toBe(8)
    const time = String.raw`\d\d:\d\d:\d\dZ`
    expect(out).toMatch(
      new RegExp(`applied at 1 of 2 after \\d+ ms; billing/2 stale since ${time}, covered until ${time}`),
    )
    const status = await operator.run('feed status')
    expect([status.code, status.err]).toEqual([10, 'not connected: billing/2\n'])
    expect(status.out).toMatch(/^billing\/2 +service +stale/m)
  })
})

describe('whoever follows the feed of a CA that is killed', () => {
  it('while it revokes, hears of exactly what the ledger has, in its order, and needs no second snapshot', async () => {
    await home.admin.call('agentsCreate', { body: { name: 'fleet', owner: 'finance' } })
    for (const step of [1, 2, 1, 2] as const) {
      const { serial } = await issue('agent', 'fleet')
      await ca.arm({ step: `revocation ${step}`, nth: 1, kill: 'core' })
      await expect(revoke(serial)).rejects.toThrow()
      expect((await ca.ended).signal).toBe('SIGKILL')
      ca = await startCa(home, 'crash')
      // Step 2 was durable: whoever asks again finds it done. Step 1 never was.
      const { radius } = await revoke(serial)
      expect(radius.certificates).toBe(step === 1 ? 1 : 0)
      await until('the follower is at the head', isAtHead)
    }
    const serials = await Promise.all(Array.from({ length: 24 }, async () => (await issue('agent', 'fleet')).serial))
    const before = follower.heard.length
    const answers = serials.map(serial =>
      revoke(serial).then(
        () => serial,
        () => null,
      ),
    )
    await until('the first of many is heard', () => follower.heard.length > before)
    process.kill(ca.line.pid, 'SIGKILL')
    const acknowledged = (await Promise.all(answers)).filter(serial => serial !== null)
    await ca.ended
    ca = await startCa(home, 'crash')
    await until('the follower is at the head', isAtHead)

    await ca.stop()
    const ledger = openSqliteLedger(home.paths.database, { clock: systemClock, log: silentLog })
    try {
      const { epoch, n } = ledger.feed.head()
      const last = follower.heard.at(-1)!
      expect(last.position).toEqual({ epoch, n })
      const first = follower.heard[0]!.position.n
      expect(follower.heard.map(({ position }) => position.n)).toEqual(
        Array.from({ length: n - first + 1 }, (_, i) => first + i),
      )
      const entries = ledger.feed.read(first - 1, 10_000)
      expect(follower.heard.map(({ type, at }) => [type, at])).toEqual(entries.map(({ type, at }) => [type, at]))
      const listed = follower.heard.flatMap(event => ('changes' in event ? event.changes : []))
      for (const serial of acknowledged) expect(listed.map(change => change.serial)).toContain(serial)

      const fresh = createRevocationState()
      const { parts, position } = await takeSnapshot(ledger.feed, Date.now())
      for (const part of parts) fresh.apply(snapshotEvent(position, part))
      const at = Date.now()
      follower.state.expire(at)
      expect(setOf(follower.state, at)).toEqual(setOf(fresh, at))
      expect(follower.snapshots()).toBe(1)
    } finally {
      await ledger.close()
    }
  })
})

const snapshotEvent = (position: FeedEvent['position'], data: Uint8Array): FeedEvent =>
  parseFeedEvent('snapshot', encodePosition(position), Buffer.from(data).toString('utf8'))

const setOf = (state: RevocationState, at: number) => {
  const parts = state.snapshot(at, 1_000_000)!
  const serials = (kind: 'revoked' | 'held') => parts.flatMap(part => part[kind].map(({ serial }) => serial)).sort()
  const principals = parts.flatMap(part => part.principals.map(each => `${each.kind}:${each.name} ${each.version}`))
  return { revoked: serials('revoked'), held: serials('held'), principals: principals.sort() }
}
