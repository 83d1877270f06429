// An agent with certificates of five minutes under constant load: renewed again and again not one call fails, and through what happens to
// machines it goes on: a CA that is gone for longer than the renewal window, a wall clock that is set, a laptop that slept past the end.
// With AGENTCA_STORY_MINUTES=N it also lets that many minutes pass and renews at its own time.
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { systemTiming, type Timing } from '../../src/agent/backoff.ts'
import { type AgentIdentity, agentIdentity } from '../../src/agent/identity.ts'
import { tlsMaterialOf } from '../../src/agent/index.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'

const orders = 'spiffe://agentca.local/service/orders'
const minutes = Number(process.env.AGENTCA_STORY_MINUTES ?? 0)

let home: StoryHome
let ca: CaProcess
let backend: Server
let url: string
const serials = new Set<string>()
const closing: (() => unknown)[] = []

/** The machine's clocks, moved; what idles looks at them often. */
const moved = () => {
  let [wallMs, bootMs] = [0, 0]
  const timing: Timing = {
    ...systemTiming,
    clock: { now: () => Date.now() + wallMs, monotonic: () => systemTiming.clock.monotonic() + bootMs },
    idle: (ms, signal) => systemTiming.idle(Math.min(ms, 50), signal),
  }
  return {
    timing,
    /** The wall clock is set. */
    setWall: (ms: number) => {
      wallMs += ms
    },
    /** The clock that counts while a machine sleeps goes on; the CA's time does not, so the wall clock stays with it. */
    sleep: (ms: number) => {
      bootMs += ms
    },
  }
}

const enrolled = async (
  name: string,
  timing: Timing = systemTiming,
  profile = 'agent-fast',
): Promise<AgentIdentity> => {
  await home.admin.call('agentsCreate', { body: { name, owner: 'finance', profile } })
  const { token } = await home.admin.call('tokensCreate', { body: { kind: 'agent', name } })
  const tokenFile = join(home.paths.home, `${name}.token`)
  writeFileSync(tokenFile, token, { mode: 0o600 })
  const roots = { url: home.report.urls.api, caFile: home.rootFile }
  const id = await agentIdentity({ ...roots, tokenFile }, { env: {}, timing })
  closing.push(() => id[Symbol.asyncDispose]())
  return id
}

beforeAll(async () => {
  const profiles = mkdtempSync(join(tmpdir(), 'agentca-profiles-'))
  closing.push(() => rmSync(profiles, { recursive: true, force: true }))
  cpSync(join(root, 'ca-config/profiles'), profiles, { recursive: true })
  writeFileSync(join(profiles, 'agent-fast.yaml'), 'kind: agent\nlifetime: 5m\nrecovery:\n  mode: same-key\n')
  writeFileSync(join(profiles, 'agent-proved.yaml'), 'kind: agent\nlifetime: 5m\nrecovery:\n  mode: evidence\n')
  home = await createStoryHome({ AGENTCA_PROFILES: profiles })
  ca = await startCa(home, 'serve')
  await home.admin.call('servicesCreate', { body: { name: 'orders', dns: ['localhost'] } })
  const { token } = await home.admin.call('tokensCreate', { body: { kind: 'service', name: 'orders' } })
  const tokenFile = join(home.paths.home, 'orders.token')
  writeFileSync(tokenFile, token, { mode: 0o600 })
  const roots = { url: home.report.urls.api, caFile: home.rootFile }
  await using service = await agentIdentity(
    { ...roots, tokenFile, service: 'orders' },
    { env: {}, timing: systemTiming },
  )
  const tls = { ...tlsMaterialOf(service.current()), requestCert: true, rejectUnauthorized: true } as const
  backend = createServer(tls, (request, response) => {
    serials.add((request.socket as TLSSocket).getPeerX509Certificate()?.serialNumber.toLowerCase() ?? '')
    response.end('hello')
  })
  backend.listen(0, '127.0.0.1')
  await once(backend, 'listening')
  url = `https://127.0.0.1:${(backend.address() as AddressInfo).port}`
}, 180_000)
afterAll(async () => {
  for (const close of closing.reverse()) await close()
  backend?.close()
  backend?.closeAllConnections()
  await ca?.stop()
  home?.remove()
})

const until = async (holds: () => boolean, what: string, withinMs = 90_000): Promise<void> => {
  for (const end = Date.now() + withinMs; Date.now() < end; ) {
    if (holds()) return
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error(`it never came that ${what}`)
}

/** Calls of three at once, one behind the other, until `done`. @returns what failed, and how many did not */
const underLoad = async (id: AgentIdentity, work: () => Promise<void>, pauseMs = 0) => {
  const failures: unknown[] = []
  let [going, answered] = [true, 0]
  const callers = Array.from({ length: 3 }, async () => {
    while (going)
      try {
        const answer = await id.fetch(url, { peer: orders })
        if ((await answer.text()) === 'hello') answered++
        else failures.push(answer.status)
        await new Promise(resolve => setTimeout(resolve, pauseMs))
      } catch (error) {
        failures.push(error)
      }
  })
  try {
    await work()
  } finally {
    going = false
    await Promise.all(callers)
  }
  return { failures, answered }
}

describe('an agent with certificates of five minutes', () => {
  it('renews twenty times under load without one failed call, each time under the new certificate', async () => {
    const id = await enrolled('loaded')
    expect(id.status().expiresInSeconds).toBeLessThanOrEqual(300)
    const shown: string[] = []
    const { failures, answered } = await underLoad(id, async () => {
      for (let i = 0; i < 20; i++) {
        const { serial } = (await id.renew()).facts
        await until(() => serials.has(serial), 'the new certificate is shown')
        shown.push(serial)
      }
    })
    expect(failures).toEqual([])
    expect(answered).toBeGreaterThan(60)
    expect(new Set(shown).size).toBe(20)
  }, 180_000)

  it.skipIf(minutes === 0)(
    `renews at its own time through ${minutes} minutes under load`,
    async () => {
      const id = await enrolled('patient')
      const passed = () => new Promise<void>(resolve => setTimeout(resolve, minutes * 60_000))
      const { failures, answered } = await underLoad(id, passed, 50)
      expect(failures).toEqual([])
      expect(answered).toBeGreaterThan(minutes * 60)
      // Each lives five minutes and is renewed between 50 and 66 % of them.
      expect(id.current().facts.generation).toBeGreaterThanOrEqual(1 + Math.floor((minutes * 60) / 205))
    },
    minutes * 60_000 + 60_000,
  )

  it('does not renew because somebody set the wall clock', async () => {
    const { timing, setWall } = moved()
    const id = await enrolled('stepped', timing)
    setWall(90_000)
    expect((await id.fetch(url, { peer: orders })).status).toBe(200)
    setWall(-110_000)
    await new Promise(resolve => setTimeout(resolve, 300))
    expect(id.current().facts.generation).toBe(1)
    expect((await id.renew()).facts.generation).toBe(2)
    expect((await id.fetch(url, { peer: orders })).status).toBe(200)
  }, 180_000)

  it('goes on while the CA is gone for longer than the renewal window, and comes back by its last key', async () => {
    const { timing, sleep } = moved()
    const id = await enrolled('orphan', timing)
    const { serial } = id.current().facts
    ca.child.kill('SIGKILL')
    await ca.ended
    sleep(id.status().renewInSeconds * 1000)
    const { failures } = await underLoad(id, () => until(() => id.status().state === 'retrying', 'it has tried'))
    expect(failures).toEqual([])
    sleep(id.status().expiresInSeconds * 1000 + 1000)
    const error = await id.fetch(url, { peer: orders }).catch(thrown => thrown)
    expect(error).toMatchObject({ code: 'identity_expired', hint: expect.any(String) })
    ca = await startCa(home, 'serve')
    // What waits for its next try waits for minutes at most: let them pass.
    for (let i = 0; i < 10; i++) setTimeout(() => sleep(30_000), i * 200)
    await until(() => id.current().facts.serial !== serial, 'it has another certificate')
    expect(id.current().facts.instance).toBeDefined()
    expect((await id.fetch(url, { peer: orders })).status).toBe(200)
  }, 90_000)

  it('wakes up behind the end of its certificate and makes itself whole before it calls', async () => {
    const { timing, sleep } = moved()
    const id = await enrolled('sleeper', timing)
    const { instance, generation } = id.current().facts
    sleep(3_600_000)
    expect(await id.fetch(url, { peer: orders }).catch(error => error.code)).toBe('identity_expired')
    await until(() => id.current().facts.generation > generation, 'it has recovered')
    expect(id.current().facts.instance).toBe(instance)
    expect((await id.fetch(url, { peer: orders })).status).toBe(200)
  }, 180_000)

  it('stays the same instance with a fresh token beside its key, where the profile wants both', async () => {
    const { timing, sleep } = moved()
    const id = await enrolled('proved', timing, 'agent-proved')
    const { instance, generation } = id.current().facts
    sleep(3_600_000)
    await until(() => id.status().state === 'refused', 'its key alone is refused')
    expect(id.status().lastError).toMatchObject({ code: 'recovery_not_allowed' })
    const { token } = await home.admin.call('tokensCreate', { body: { kind: 'agent', name: 'proved' } })
    writeFileSync(join(home.paths.home, 'proved.token'), token)
    sleep(600_000)
    await until(() => id.current().facts.generation > generation, 'it has recovered')
    expect(id.current().facts.instance).toBe(instance)
    expect((await id.fetch(url, { peer: orders })).status).toBe(200)
  }, 180_000)
})
