// An identity through its life, against the real CA and a real backend: found or enrolled, renewed, recovered, followed, disposed of.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import { readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { type AgentIdentity, agentIdentity } from '../../src/agent/identity.ts'
import { encodePrivateKey } from '../../src/agent/key-pair.ts'
import { renew } from '../../src/agent/renew.ts'
import type { AgentIdentityOptions } from '../../src/agent/settings.ts'
import { createMemoryStore } from '../../src/agent/store.ts'
import { leaf } from '../ca/authority.ts'
import { selfSigned } from '../http/harness.ts'
import { type CaServer, createBackend, createCaServer, issueForService } from './ca-server.ts'
import { createTiming } from './timing.ts'

const peer = 'spiffe://example.org/service/orders'
const hour = 3_600_000

let ca: CaServer
let orders: Awaited<ReturnType<typeof createBackend>>
/** Answers that the backend has not given yet, for requests to /slow. */
const slow: ServerResponse[] = []
const called: string[] = []
beforeAll(async () => {
  ca = await createCaServer()
  orders = await createBackend(
    ca.rootPem,
    await issueForService(ca.front.ca, 'orders'),
    (request, response, caller) => {
      called.push(caller.serial)
      if (request.url === '/slow') slow.push(response)
      else response.end(JSON.stringify(caller))
    },
  )
})
afterAll(async () => {
  await orders?.close()
  await ca?.[Symbol.asyncDispose]()
})

const start = async (options: AgentIdentityOptions, env: Record<string, string> = {}) => {
  const timing = createTiming()
  return { timing, id: await agentIdentity(options, { env, timing }) }
}
const optionsFor = async (agent: string): Promise<AgentIdentityOptions> => ({
  url: ca.url,
  caFile: ca.caFile,
  tokenFile: await ca.tokenFile(agent),
})
const callOrders = async (id: AgentIdentity) =>
  (await (await id.fetch(orders.url, { peer })).json()) as { caller: string; serial: string }
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'fulfilled',
    error => error.code ?? error.message,
  )
/** Waits for what the identity does by itself. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 90_000, interval: 5 })
const setState = (name: string, state: 'held' | 'active') =>
  ca.front.ledger.registrations.change({
    kind: 'agent',
    name,
    at: Date.now(),
    decide: () => ({ set: {}, state }),
    leaf: () => leaf('registration_changed'),
  })

describe('an identity in memory', () => {
  it('is enrolled, and shown to the peer that it names', async () => {
    const { id } = await start(await optionsFor('memory'))
    await using _ = id
    expect(id.status()).toMatchObject({ state: 'ok', lastError: null, failures: 0 })
    expect(await callOrders(id)).toEqual({ caller: `URI:${id.current().spiffeId}`, serial: id.current().facts.serial })
  })

  it('talks to nobody else: wrong peer, no peer, no TLS', async () => {
    const { id } = await start(await optionsFor('picky'))
    await using _ = id
    const before = called.length
    expect(await codeOf(id.fetch(orders.url, { peer: 'spiffe://example.org/service/billing' }))).toBe(
      'peer_not_verified',
    )
    expect(await codeOf(id.fetch(orders.url, {} as never))).toBe('option_missing')
    expect(await codeOf(id.fetch(orders.url, { peer: 'orders' }))).toBe('option_invalid')
    expect(await codeOf(id.fetch(orders.url.replace('https', 'http'), { peer }))).toBe('option_invalid')
    expect(called.length).toBe(before)
  })

  it('never shows itself to a server under another root', async () => {
    const { id } = await start(await optionsFor('rooted'))
    await using _ = id
    const mallory = await createBackend(ca.rootPem, selfSigned('mallory'))
    await expect(id.fetch(mallory.url, { peer })).rejects.toThrow('fetch failed')
    await mallory.close()
  })

  it('is renewed when its monotonic time has come, not when the wall clock says so', async () => {
    const { id, timing } = await start(await optionsFor('renews'))
    await using _ = id
    const { renewInSeconds } = id.status()
    await eventually(() => expect(timing.idling()).toBeGreaterThan(0))
    const idling = timing.idling()
    timing.moveWall(30 * 24 * hour)
    timing.advance((renewInSeconds - 1) * 1000)
    await eventually(() => expect(timing.idling()).toBe(idling))
    expect(id.current().facts.generation).toBe(1)
    timing.moveWall(-30 * 24 * hour)
    timing.advance(1000)
    await eventually(() => expect(id.current().facts.generation).toBe(2))
    expect(id.status()).toMatchObject({ state: 'ok', failures: 0 })
    expect(id.status().renewInSeconds).toBeGreaterThan(1000)
  })

  it('finishes calls under way on the old connections, and starts none there', async () => {
    const { id, timing } = await start(await optionsFor('swaps'))
    await using _ = id
    const first = id.current().facts.serial
    expect((await callOrders(id)).serial).toBe(first)
    const underWay = id.fetch(`${orders.url}/slow`, { peer })
    await eventually(() => expect(slow).toHaveLength(1))
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.current().facts.generation).toBe(2))
    const second = await callOrders(id)
    expect(second.serial).toBe(id.current().facts.serial)
    expect(second.serial).not.toBe(first)
    slow.pop()?.end('late')
    expect(await (await underWay).text()).toBe('late')
    expect(called.slice(-3)).toEqual([first, first, second.serial])
  })

  it('tells its listeners, whatever one of them does, until they go', async () => {
    const { id, timing } = await start(await optionsFor('listened-to'))
    await using _ = id
    const told: number[] = []
    id.onChange(() => {
      throw new Error('not my day')
    })
    const end = id.onChange(credential => told.push(credential.facts.generation))
    timing.advance(hour / 1.4)
    await eventually(() => expect(told).toEqual([2]))
    end()
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.current().facts.generation).toBe(3))
    expect(told).toEqual([2])
  })

  it('serves on while the CA is away, ends with its certificate, and comes back by its last key', async () => {
    const { id, timing } = await start(await optionsFor('outage'))
    await using _ = id
    ca.fate(...Array<'lose-request'>(1000).fill('lose-request'))
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.status()).toMatchObject({ state: 'retrying', failures: 1 }))
    expect(id.status().lastError).toMatchObject({ code: 'ca_unreachable' })
    expect((await callOrders(id)).serial).toBe(id.current().facts.serial)
    timing.advance(hour)
    await eventually(() => expect(id.status().failures).toBe(2))
    expect(await codeOf(id.fetch(orders.url, { peer }))).toBe('identity_expired')
    ca.forget()
    timing.advance(hour)
    await eventually(() => expect(id.status().state).toBe('ok'))
    expect(id.current().facts.generation).toBe(2)
    expect(ca.seen.at(-1)).toBe('POST /v1/recover')
    expect((await callOrders(id)).serial).toBe(id.current().facts.serial)
  })

  it('asks no sooner than the CA wants, though its life gets short', async () => {
    const { id, timing } = await start(await optionsFor('told-to-wait'))
    await using _ = id
    ca.fate({ problem: { status: 503, code: 'signer_unavailable', retryAfter: '600' } })
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.status()).toMatchObject({ state: 'retrying', failures: 1 }))
    await eventually(() => expect(timing.idling()).toBeGreaterThan(0))
    const [before, idling] = [ca.seen.length, timing.idling()]
    timing.advance(599_000)
    await eventually(() => expect(timing.idling()).toBe(idling))
    expect(ca.seen.length).toBe(before)
    timing.advance(1000)
    await eventually(() => expect(id.current().facts.generation).toBe(2))
  })

  it('is held until it is released, and loses nothing by it', async () => {
    const { id, timing } = await start(await optionsFor('paused'))
    await using _ = id
    await setState('paused', 'held')
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.status().state).toBe('held'))
    expect(id.status().lastError?.hint).toBe('agentca agent release paused')
    await setState('paused', 'active')
    timing.advance(300_000)
    await eventually(() => {
      // A request that was given up may still be being signed; then it asks again after a second.
      if (id.status().state !== 'ok') timing.advance(1000)
      expect(id.status()).toMatchObject({ state: 'ok', lastError: null, failures: 0 })
    })
    expect(id.current().facts.generation).toBe(2)
  })

  it('is locked until it is unlocked, and then proves its key instead of locking the lineage again', async () => {
    const options = await optionsFor('cloned')
    const { id, timing } = await start({ ...options, dir: ca.scratch('cloned') })
    await using _ = id
    // Two thieves with a copy renew before the owner does.
    const { instance } = id.current().facts
    const copy = (await readCredentialDirectory(ca.scratch('cloned'))) as Credential
    const signal = new AbortController().signal
    const thief = {
      timing,
      signal,
      url: ca.url,
      keyAlgorithm: 'P-256',
      recoveryRoots: async (pem: string) => pem,
    } as const
    for (const store of [createMemoryStore(), createMemoryStore()]) await renew({ ...thief, store }, copy)
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.status().state).toBe('locked'))
    expect(id.status().lastError?.hint).toContain(`agentca instance unlock ${instance}`)
    await ca.front.ledger.instances.unlock(instance, Date.now(), leaf('instance_unlocked'))
    timing.advance(300_000)
    await eventually(() => expect(id.status().state).toBe('refused'))
    // The last registered key is a thief's: the owner is told to enrol again, and nothing was locked anew.
    expect(id.status().lastError?.code).toBe('recovery_not_allowed')
    expect(ca.front.ledger.instances.get(instance)?.state).toBe('active')
    writeFileSync(options.tokenFile as string, readFileSync(await ca.tokenFile('cloned')))
    timing.advance(300_000)
    await eventually(() => expect(id.status().state).toBe('ok'))
    expect(id.current().facts.instance).not.toBe(instance)
  })

  it('is refused before it is stored when it is not the service it has to be', async () => {
    const dir = ca.scratch('not-orders')
    const options = { ...(await optionsFor('not-orders')), dir, service: 'orders' }
    expect(await codeOf(start(options))).toBe('identity_unexpected')
    expect(await readCredentialDirectory(dir)).toBeNull()
    expect(readdirSync(dir)).toEqual(['pending.key'])
  })
})

describe('an identity in a directory', () => {
  it('is taken from there without a word to the CA, by the environment alone', async () => {
    const dir = ca.scratch('restarts')
    const env = {
      AGENTCA_URL: ca.url,
      AGENTCA_CA_FILE: ca.caFile,
      AGENTCA_TOKEN_FILE: await ca.tokenFile('restarts'),
      AGENTCA_DIR: dir,
    }
    const first = (await start({}, env)).id
    const { serial } = first.current().facts
    await first[Symbol.asyncDispose]()
    const before = ca.seen.length
    const { id, timing } = await start({ dir })
    await using _ = id
    expect(id.current().facts.serial).toBe(serial)
    expect(ca.seen.length).toBe(before)
    expect(await callOrders(id)).toMatchObject({ serial })
    // The directory tells where the CA is.
    timing.advance(hour / 1.4)
    await eventually(() => expect(id.current().facts.generation).toBe(2))
    expect((await readCredentialDirectory(dir))?.facts.generation).toBe(2)
  })

  it('is made whole at the start by its last key when it has expired meanwhile', async () => {
    const dir = ca.scratch('expired')
    ca.fate({ change: answer => ({ ...answer, expiresInSeconds: 0 }) })
    const first = (await start({ ...(await optionsFor('expired')), dir })).id
    await first[Symbol.asyncDispose]()
    const { id } = await start({ dir })
    await using _ = id
    expect(id.current().facts.generation).toBe(2)
    expect(ca.seen.at(-1)).toBe('POST /v1/recover')
  })

  it('has one renewer: another reads what that one writes, and takes its place when it is gone', async () => {
    const dir = ca.scratch('shared')
    const renewer = await start({ ...(await optionsFor('shared')), dir })
    const reader = await start({ dir })
    await using _ = reader.id
    await eventually(() => expect(reader.id.status().state).toBe('following'))
    expect(reader.id.current().facts).toEqual(renewer.id.current().facts)
    renewer.timing.advance(hour / 1.4)
    await eventually(() => expect(renewer.id.current().facts.generation).toBe(2))
    await eventually(() => {
      reader.timing.advance(5000)
      expect(reader.id.current().facts.generation).toBe(2)
    })
    expect(await callOrders(reader.id)).toMatchObject({ serial: renewer.id.current().facts.serial })
    await renewer.id[Symbol.asyncDispose]()
    await eventually(() => {
      reader.timing.advance(5000)
      expect(reader.id.status().state).toBe('ok')
    })
    reader.timing.advance(hour / 1.4)
    await eventually(() => expect(reader.id.current().facts.generation).toBe(3))
  })

  it('of somebody else is refused, and left alone', async () => {
    const dir = ca.scratch('somebody')
    const first = (await start({ ...(await optionsFor('somebody')), dir })).id
    await first[Symbol.asyncDispose]()
    expect(await codeOf(start({ dir, service: 'orders' }))).toBe('identity_unexpected')
    expect(await readCredentialDirectory(dir)).not.toBeNull()
  })

  it('gives its lock back when it is disposed of, and answers no more', async () => {
    const dir = ca.scratch('disposed')
    const { id } = await start({ ...(await optionsFor('disposed')), dir })
    expect(readdirSync(dir).filter(name => name.startsWith('.renewer-'))).toHaveLength(1)
    await id[Symbol.asyncDispose]()
    expect(readdirSync(dir).filter(name => name.startsWith('.renewer-'))).toEqual([])
    expect(await codeOf(id.fetch(orders.url, { peer }))).toBe('identity_closed')
  })
})

describe('disposing', () => {
  it('ends a renewal under way at once, and the next start takes it up with the same key', async () => {
    const dir = ca.scratch('interrupted')
    const { id, timing } = await start({ ...(await optionsFor('interrupted')), dir })
    const { serial } = id.current().facts
    ca.fate('hang')
    timing.advance(hour / 1.4)
    await eventually(() => expect(ca.seen.at(-1)).toBe('POST /v1/renew'))
    const asked = readFileSync(join(dir, 'pending.key'), 'utf8')
    expect(asked).toContain(`# after ${serial}\n`)
    await id[Symbol.asyncDispose]()
    const next = await start({ dir })
    await using _ = next.id
    next.timing.advance(hour / 1.4)
    await eventually(() => expect(next.id.current().facts.generation).toBe(2))
    expect(asked).toContain(encodePrivateKey(next.id.current().privateKey))
  })

  it('a start that waits for the CA ends with its signal', async () => {
    const ending = new AbortController()
    ca.fate('hang')
    const starting = start({ ...(await optionsFor('given-up')), signal: ending.signal })
    await eventually(() => expect(ca.seen.at(-1)).toBe('POST /v1/enroll'))
    ending.abort(new Error('enough'))
    expect(await codeOf(starting)).toBe('enough')
  })
})

describe('without enough to start from', () => {
  it('says everything that is missing', async () => {
    const error = await start({}).catch(thrown => thrown)
    expect(error).toMatchObject({ code: 'option_missing' })
    expect(error.message).toContain('url (AGENTCA_URL)')
    expect(error.message).toContain('caFile (AGENTCA_CA_FILE) or caFingerprint')
    expect(error.message).toContain('tokenFile (AGENTCA_TOKEN_FILE)')
    expect(error.hint).toContain('agentca enroll')
  })

  it('keeps no lock on the directory it looked into', async () => {
    const dir = ca.scratch('looked-into')
    expect(await codeOf(start({ dir }))).toBe('option_missing')
    expect(existsSync(dir)).toBe(true)
    expect(readdirSync(dir)).toEqual([])
  })
})
