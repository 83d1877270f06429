// An agent hears from the real CA's feed what becomes of it: revoked it stops at once, calls under way included; locked it says which
// command helps, and comes back by itself; a CA that is gone for longer than the renewal window costs nothing.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer, request, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemTiming } from '../../src/agent/backoff.ts'
import { type AgentError, type AgentIdentity, agentIdentity, tlsMaterialOf } from '../../src/agent/index.ts'
import { renew } from '../../src/agent/renew.ts'
import { createMemoryStore } from '../../src/agent/store.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'

const orders = 'spiffe://agentca.local/service/orders'

let ca: ServedCa
let service: AgentIdentity
let backend: Server
let url: string
const closing: (() => unknown)[] = []
/** Calls to /held, which are not answered. */
let heldCalls = 0

const enrolled = async (name: string, options: { dir?: string } = {}): Promise<AgentIdentity> => {
  const tokenFile = await ca.agentToken(name)
  const id = await agentIdentity({ url: ca.urls.api, caFingerprint: ca.rootFingerprint, tokenFile, ...options })
  closing.push(() => id[Symbol.asyncDispose]())
  return id
}

const until = async (holds: () => boolean | Promise<boolean>, what: string, withinMs = 90_000): Promise<void> => {
  for (const end = Date.now() + withinMs; Date.now() < end; ) {
    if (await holds()) return
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error(`it never came that ${what}`)
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'fulfilled',
    error => (error as AgentError).code ?? String(error),
  )

beforeAll(async () => {
  ca = await startServedCa()
  await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
  await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
  service = await agentIdentity({
    url: ca.urls.api,
    caFingerprint: ca.rootFingerprint,
    tokenFile: join(ca.directory, 'orders.token'),
    service: 'orders',
  })
  const material = tlsMaterialOf(service.current())
  backend = createServer({ ...material, requestCert: true, rejectUnauthorized: true }, (request, response) => {
    if (request.url === '/held') heldCalls++
    else response.end('hello')
  })
  backend.listen(0, '127.0.0.1')
  await once(backend, 'listening')
  url = `https://127.0.0.1:${(backend.address() as AddressInfo).port}`
}, 180_000)

afterAll(async () => {
  await Promise.all(closing.map(close => close()))
  await service?.[Symbol.asyncDispose]()
  backend?.close()
  backend?.closeAllConnections()
  await ca?.[Symbol.asyncDispose]()
})

describe('an agent', () => {
  it('stops at once when it is revoked: it says so, calls under way end, and none starts', async () => {
    const id = await enrolled('stopped')
    const told = new Promise<AgentError>(resolve => id.on('revoked', resolve))
    const call = async () => (await id.fetch(url, { peer: orders })).text()
    expect(await call()).toBe('hello')
    // It listens once its own snapshot is there; a revocation before that is found at its next connection.
    const { serial } = id.current().facts
    const underWay = codeOf(id.fetch(`${url}/held`, { peer: orders }))
    const h2 = id.http2(url, { peer: orders })
    await until(() => heldCalls === 1, 'the call is under way')
    await ca.agentcaJson('revoke', '--agent', 'stopped', '--reason', 'keyCompromise', '--confirm', '1')
    const error = await told
    expect(error).toMatchObject({ code: 'revoked', facts: { serial } })
    expect(error.hint).toContain('agentca token create')
    expect(await underWay).toBe('revoked')
    expect(await codeOf(call())).toBe('revoked')
    expect(await codeOf(id.renew())).toBe('revoked')
    expect(() => h2.request({ ':path': '/' })).toThrow(expect.objectContaining({ code: 'revoked' }))
    expect(id.signal.reason).toBe(error)
    expect(id.status()).toMatchObject({ state: 'revoked', lastError: { code: 'revoked' } })
  })

  it('that starts from a directory whose identity was revoked meanwhile finds out', async () => {
    const dir = join(ca.directory, 'late')
    const first = await enrolled('late', { dir })
    await first[Symbol.asyncDispose]()
    await ca.agentcaJson('revoke', '--agent', 'late', '--reason', 'keyCompromise', '--confirm', '1')
    const id = await agentIdentity({ dir })
    closing.push(() => id[Symbol.asyncDispose]())
    await until(() => id.status().state === 'revoked', 'it knows')
    expect(await codeOf(id.fetch(url, { peer: orders }))).toBe('revoked')
  })

  it('takes a fresh token for the word that a revoked instance shall have a successor', async () => {
    const dir = join(ca.directory, 'succeeded')
    const first = await enrolled('succeeded', { dir })
    const { instance } = first.current().facts
    await first[Symbol.asyncDispose]()
    await ca.agentcaJson('revoke', '--instance', instance, '--reason', 'keyCompromise', '--yes')
    await ca.agentcaJson('token', 'create', '--agent', 'succeeded', '--file', 'successor.token')
    const tokenFile = join(ca.directory, 'successor.token')
    const id = await agentIdentity({ dir, caFingerprint: ca.rootFingerprint, tokenFile })
    closing.push(() => id[Symbol.asyncDispose]())
    await until(() => id.current().facts.instance !== instance, 'it is another instance')
    expect(await (await id.fetch(url, { peer: orders })).text()).toBe('hello')
  })

  it('is held and released, and knows both without renewing at its own time', async () => {
    const id = await enrolled('paused')
    const told = new Promise<AgentError>(resolve => id.on('held', resolve))
    await ca.agentcaJson('agent', 'hold', 'paused')
    expect((await told).hint).toBe('agentca agent release paused')
    await ca.agentcaJson('agent', 'release', 'paused')
    await until(() => id.status().state === 'ok', 'it is well again')
  }, 180_000)

  it('whose key was copied is locked, says what helps, and comes back by itself when it is unlocked', async () => {
    const dir = join(ca.directory, 'cloned')
    const id = await enrolled('cloned', { dir })
    const told = new Promise<AgentError>(resolve => id.on('locked', resolve))
    const { instance } = id.current().facts
    const thief = { timing: systemTiming, signal: new AbortController().signal, url: ca.urls.api } as const
    const deps = { ...thief, keyAlgorithm: 'P-256', recoveryRoots: async (pem: string) => pem } as const
    const copy = id.current()
    // The owner renews, then the thief replaces its certificate: the feed tells the owner, whose next renewal shows two holders.
    await id.renew()
    const agent = id.httpsAgent({ peer: orders })
    const byAgent = () =>
      new Promise((resolve, reject) => request(url, { agent }, resolve).on('error', reject).end()).then(answer =>
        (answer as IncomingMessage).resume(),
      )
    await byAgent()
    await renew({ ...deps, store: createMemoryStore() }, copy)
    const error = await told
    expect(await codeOf(byAgent())).toMatch(/^(instance_locked|lineage_conflict)$/)
    expect(error.hint).toContain(`agentca instance unlock ${instance}`)
    expect(await codeOf(id.fetch(url, { peer: orders }))).toMatch(/^(instance_locked|lineage_conflict)$/)
    await ca.agentcaJson('instance', 'unlock', instance, '--why', 'a restored backup')
    await until(() => id.status().state !== 'locked', 'the lock is known to be gone', 40_000)
  }, 90_000)
})
