// Verifiers through everything that can befall the way to their CA: bytes lost, doubled and cut at random places, the CA killed right after
// a commit, an old backup restored, an old state replayed, and a thousand of them when the CA is started again. After each, what they know is
// what the ledger says; nobody who is revoked is let in by it, nobody honest is refused while it is fresh.
import { once } from 'node:events'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemTiming } from '../../src/agent/backoff.ts'
import { type AgentIdentity, agentIdentity } from '../../src/agent/index.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { takeSnapshot } from '../../src/feed/snapshot.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { startFeedClient } from '../../src/verifier/feed-client.ts'
import { type AgentVerifier, type AgentVerifierOptions, agentVerifier } from '../../src/verifier/index.ts'
import { createKeeper } from '../../src/verifier/keeper.ts'
import { decideCall, type Peer } from '../../src/verify/decision.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import { proveChain, trustIn } from '../../src/verify/verify-peer.ts'
import { createKey } from '../http/harness.ts'
import { createDice } from '../verifier/backend.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { until } from './until.ts'

let home: StoryHome
let ca: CaProcess
let backend: AgentIdentity

interface Caller {
  readonly serial: string
  readonly chain: readonly Uint8Array[]
}

const issue = async (agent: string): Promise<Caller> => {
  const { csr } = await createKey()
  const body = { kind: 'agent' as const, name: agent, csr: encodePem('CERTIFICATE REQUEST', csr) }
  const { certificate, chain, serial } = await home.admin.call('certificatesIssue', { body })
  return { serial, chain: parsePem(certificate + chain, 'CERTIFICATE') }
}
const revoke = ({ serial }: Caller) =>
  home.admin.call('revoke', { body: { by: 'serial', value: serial, reason: 'keyCompromise' } })
const outcome = (verifier: AgentVerifier, { chain }: Caller): string => {
  try {
    verifier.verifyChain(chain)
    return 'allowed'
  } catch (error) {
    return (error as { readonly code: string }).code
  }
}
const headOf = async (): Promise<string> => {
  const { epoch, n } = await home.admin.call('feedStatus', {})
  return `${epoch}.${n}`
}
const inStep = async (verifier: AgentVerifier): Promise<void> => {
  const head = await headOf()
  await until(
    'in step',
    () => verifier.status().position === head,
    () => ({ head, ...verifier.status() }),
  )
  await until('live', () => verifier.status().freshness.rung === 'live')
}
/** Of the ledger that stands still. */
const expectLedgersSet = async (verifier: AgentVerifier): Promise<void> => {
  const ledger = openSqliteLedger(home.paths.database, { clock: systemClock, log: silentLog })
  try {
    const { parts } = await takeSnapshot(ledger.feed, Date.now())
    const listed = parts.flatMap(part => {
      const { revoked, held } = JSON.parse(Buffer.from(part).toString('utf8')) as Record<string, [string, number][]>
      return [...revoked!.map(([serial]) => `${serial} revoked`), ...held!.map(([serial]) => `${serial} held`)]
    })
    const { revocation } = verifier.peerState()
    expect(listed.map(each => `${each.split(' ')[0]} ${revocation.status(serialKeyOf(each.split(' ')[0]!))}`)).toEqual(
      listed,
    )
    expect(verifier.status().entries).toBe(listed.length)
  } finally {
    await ledger.close()
  }
}
const kill = async (): Promise<void> => {
  ca.child.kill('SIGKILL')
  await ca.ended
}

beforeAll(async () => {
  home = await createStoryHome()
  ca = await startCa(home, 'serve')
  for (const name of ['honest', 'rogue']) await home.admin.call('agentsCreate', { body: { name, owner: 'finance' } })
  await home.admin.call('servicesCreate', { body: { name: 'orders', dns: ['localhost'] } })
  const body = { kind: 'service' as const, name: 'orders', ttlSeconds: 600 }
  const { token } = await home.admin.call('tokensCreate', { body })
  const tokenFile = join(home.paths.home, '..', 'orders.token')
  writeFileSync(tokenFile, token, { mode: 0o600 })
  backend = await agentIdentity({ url: home.report.urls.api, caFile: home.rootFile, tokenFile, service: 'orders' })
}, 180_000)
afterAll(async () => {
  await backend?.[Symbol.asyncDispose]()
  await ca?.stop()
  home?.remove()
})

const options = (subscriber: string): AgentVerifierOptions => ({
  identity: backend,
  subscriber,
  onStale: 'refuse',
  maxStaleness: '5m',
  report: 'nothing',
})

/** The backend's identity on another way to its CA. */
const by = (port: number): AgentIdentity => ({
  ...backend,
  current: () => ({ ...backend.current(), url: `https://127.0.0.1:${port}` }),
})

/** A way to a port of this machine that spoils what comes back. */
const openBadWay = async (target: number, spoil: (bytes: Buffer) => readonly (Buffer | 'cut')[]) => {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    const onward = connect(target, '127.0.0.1')
    for (const each of [socket, onward])
      sockets.add(each.on('error', () => each.destroy()).on('close', () => sockets.delete(each)))
    socket.pipe(onward).on('close', () => socket.destroy())
    onward.on('data', (bytes: Buffer) => {
      for (const piece of spoil(bytes))
        if (piece === 'cut') socket.destroy()
        else socket.write(piece)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      for (const each of sockets) each.destroy()
    },
  }
}
const apiPort = () => Number(new URL(home.report.urls.api).port)

describe('a verifier', () => {
  it('has the ledger’s set though bytes are lost, doubled and cut on the way, the CA is killed after a commit, and an old backup is restored', async () => {
    const dice = createDice(20_261_124)
    let [left, isBad] = [0, true]
    const spoilt = { lost: 0, doubled: 0, cut: 0 }
    const way = await openBadWay(apiPort(), bytes => {
      left -= bytes.length
      if (!isBad || left > 0) return [bytes]
      left = 3000 + dice(15_000)
      const at = dice(bytes.length)
      const kind = (['lost', 'doubled', 'cut'] as const)[dice(3)]!
      spoilt[kind]++
      const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
      if (kind === 'lost') return [before, after.subarray(1 + dice(64))]
      return kind === 'doubled' ? [before, after, after] : [before, 'cut']
    })
    const verifier = await agentVerifier({ ...options('disturbed'), identity: by(way.port) })
    await verifier.ready()
    const honest = await issue('honest')
    const refusals: string[] = []
    const ask = setInterval(() => {
      const found = outcome(verifier, honest)
      if (found !== 'allowed') refusals.push(found)
    }, 20)
    const revoked: Caller[] = []
    const revokeOne = async () => {
      const rogue = await issue('rogue')
      await revoke(rogue)
      revoked.push(rogue)
    }
    try {
      await until('each kind of harm was done', async () => {
        await revokeOne()
        return Math.min(...Object.values(spoilt)) >= 2
      })
      isBad = false
      await inStep(verifier)
      expect(revoked.map(each => outcome(verifier, each))).toEqual(revoked.map(() => 'certificate_revoked'))

      const backup = join(home.paths.home, '..', 'backup')
      await ca.stop()
      await expectLedgersSet(verifier)
      cpSync(home.paths.home, backup, { recursive: true, filter: path => !path.endsWith('.sock') })
      ca = await startCa(home, 'serve')
      await revokeOne()
      await kill()
      ca = await startCa(home, 'serve')
      await inStep(verifier)
      expect(outcome(verifier, revoked.at(-1)!)).toBe('certificate_revoked')
      await ca.stop()
      await expectLedgersSet(verifier)

      rmSync(home.paths.home, { recursive: true })
      cpSync(backup, home.paths.home, { recursive: true })
      ca = await startCa(home, 'serve')
      await home.admin.call('feedNewEpoch', { body: {} })
      await revokeOne()
      await inStep(verifier)
      await ca.stop()
      await expectLedgersSet(verifier)
      ca = await startCa(home, 'serve')
      await inStep(verifier)
      expect(refusals).toEqual([])
    } finally {
      clearInterval(ask)
      await verifier[Symbol.asyncDispose]()
      way.close()
    }
  }, 180_000)

  it('goes back to no older state that somebody serves again while the feed is away', async () => {
    const statusUrl = home.report.urls.status
    const files = new Map<string, Buffer>()
    const fetched = async (name: string): Promise<Buffer> =>
      Buffer.from(await (await fetch(`${statusUrl}/state/${name}`)).arrayBuffer())
    const head = JSON.parse((await fetched('head.json')).toString()) as {
      snapshot: { name: string }
      deltas: { name: string }[]
    }
    for (const name of ['head', 'head.json', head.snapshot.name, ...head.deltas.map(each => each.name)])
      files.set(name, await fetched(name))
    let asked = 0
    const mirror = createHttpServer((request, response) => {
      asked++
      response.end(files.get(request.url!.replace('/state/', '')) ?? '')
    }).listen(0, '127.0.0.1')
    await once(mirror, 'listening')

    const way = await openBadWay(apiPort(), bytes => [bytes])
    const mirrorUrl = `http://127.0.0.1:${(mirror.address() as AddressInfo).port}`
    const verifier = await agentVerifier({ ...options('replayed'), identity: by(way.port), statusUrl: mirrorUrl })
    try {
      await verifier.ready()
      const rogue = await issue('rogue')
      await revoke(rogue)
      await inStep(verifier)
      const before = verifier.status()
      way.close()
      await until(
        'the replay was looked at',
        () => asked >= 4,
        () => asked,
      )
      expect(outcome(verifier, rogue)).toBe('certificate_revoked')
      expect(verifier.status()).toMatchObject({ position: before.position, entries: before.entries })
    } finally {
      await verifier[Symbol.asyncDispose]()
      mirror.close()
    }
  }, 180_000)
})

/** What a verifier is without servers: its feed and what it knows. */
const startReader = (subscriber: string) => {
  const policy = { onStale: 'refuse', maxStalenessMs: 300_000 } as const
  const { clock } = systemTiming
  const keeper = createKeeper({ clock, log: silentLog, policy, directory: null })
  const client = startFeedClient({
    identity: backend,
    log: silentLog,
    subscriber,
    maxStalenessSeconds: 300,
    position: keeper.position,
    take: keeper.take,
    timing: systemTiming,
  })
  return { keeper, client }
}

const count = Number(process.env.AGENTCA_STORY_VERIFIERS ?? 1000)

describe('a thousand verifiers', () => {
  it('refuse nobody honest while their CA is killed and started again, and all hear of the next revocation', async () => {
    const trust = trustIn(backend.current().trustDomain, backend.current().bundlePem)
    const [honest, rogue] = (await Promise.all([issue('honest'), issue('rogue')])).map(
      ({ chain }) => proveChain(chain, trust, Date.now()).peer,
    ) as [Peer, Peer]
    const rules = { kinds: ['agent'], roles: [], scopes: [] } as const
    const readers: ReturnType<typeof startReader>[] = []
    const found = ({ keeper }: (typeof readers)[number], peer: Peer): string => {
      try {
        decideCall({ peer, state: keeper.state, freshness: keeper.freshness(), now: keeper.now(), rules })
        return 'allowed'
      } catch (error) {
        return (error as { readonly code: string }).code
      }
    }
    const refusals: string[] = []
    let asked = 0
    /** Until it holds for all; all are asked about somebody honest all the time. */
    const all = async (what: string, holds: (reader: (typeof readers)[number]) => boolean): Promise<void> => {
      // A thousand handshakes take a busy machine minutes; the bound only ends a story that has failed.
      const end = performance.now() + 240_000
      for (;;) {
        refusals.push(...readers.map(each => found(each, honest)).filter(each => each !== 'allowed'))
        asked += readers.length
        const missing = readers.filter(each => !holds(each)).length
        if (missing === 0) return
        if (performance.now() > end) throw new Error(`never: ${what}, ${missing} are missing`)
        await delay(20)
      }
    }
    const isLive = ({ client, keeper }: (typeof readers)[number]) =>
      client.connected && keeper.freshness().rung === 'live'
    try {
      // At their first start they come in turns; after the CA's all at once.
      for (let i = 0; i < count; i += 100) {
        readers.push(...Array.from({ length: 100 }, (_, j) => startReader(`replica-${i + j}`)))
        await until(
          'live',
          () => readers.every(isLive),
          () => readers.filter(each => !isLive(each)).length,
        )
      }
      await kill()
      await all('disconnected', ({ client }) => !client.connected)
      ca = await startCa(home, 'serve')
      await all('live again', isLive)
      // The connection of before is gone: a question finds out, an order would not be sent twice.
      await headOf()
      await home.admin.call('revoke', { body: { by: 'serial', value: rogue.serial, reason: 'keyCompromise' } })
      await all('refusing who is revoked', each => found(each, rogue) === 'certificate_revoked')
      expect(refusals).toEqual([])
      expect(asked).toBeGreaterThanOrEqual(3 * count)
    } finally {
      await Promise.all(readers.map(({ client }) => client.close()))
    }
  }, 600_000)
})
