// Calls that are made in another thread: what comes of them, what their callers hear when it ends, and where it cannot run.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemTiming } from '../../../src/agent/backoff.ts'
import { callCa } from '../../../src/agent/ca-call.ts'
import { type CaCall, createCaRoute } from '../../../src/agent/ca-route.ts'
import { AgentError, type AgentIdentity, tlsMaterialOf } from '../../../src/agent/index.ts'
import { silentLog } from '../../../src/base/log.ts'
import { type TestAuthority, testAuthority } from '../../../src/testing/index.ts'
import type { CallAnswer, Outside, OutsideDeps } from '../../../src/verifier/outside/calls.ts'
import { callInThread } from '../../../src/verifier/outside/thread.ts'
import { agentVerifier } from '../../../src/verifier/verifier.ts'

const mortal = new URL('./mortal-thread.ts', import.meta.url)
const body = randomBytes(8_000_000)

let ca: TestAuthority
let identity: AgentIdentity
let mirror: Server
let base: string
let outside: Outside
let said: string[]
/** Requests whose connection ended before their answer. */
let left = 0

beforeAll(async () => {
  ca = await testAuthority()
  identity = await ca.service('orders')
  mirror = createServer((request, response) => {
    if (request.url === '/body') return void response.end(body)
    if (request.url === '/cut') return void request.socket.destroy()
    response.once('close', () => left++)
    if (request.url === '/slow') response.writeHead(200).write('begun')
  })
  await once(mirror.listen(0, '127.0.0.1'), 'listening')
  base = `http://127.0.0.1:${(mirror.address() as AddressInfo).port}`
}, 180_000)
afterAll(async () => {
  mirror?.closeAllConnections()
  mirror?.close()
  await identity?.[Symbol.asyncDispose]()
  await ca?.[Symbol.asyncDispose]()
})

const deps = (): OutsideDeps => {
  said = []
  const say = (_: unknown, text: string): number => said.push(text)
  return { identity, timing: systemTiming, log: { ...silentLog, warn: say, info: say } as OutsideDeps['log'] }
}
const open = (file?: URL): Outside => {
  outside = callInThread(deps(), ...(file === undefined ? [] : [file]))
  return outside
}
afterEach(async () => {
  await outside?.[Symbol.asyncDispose]()
})

/** Takes connections and says nothing. */
const silentServer = async () => {
  const sockets: Socket[] = []
  const server = createTcpServer(socket => sockets.push(socket.on('error', () => {})))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const end = (): void => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  const { port } = server.address() as AddressInfo
  return { url: `https://127.0.0.1:${port}`, end, [Symbol.asyncDispose]: async () => end() }
}

const peer = () => `spiffe://${ca.trustDomain}/service/agentca`
const self = (by = outside, signal = AbortSignal.timeout(60_000)): Promise<CallAnswer> =>
  by.fetch(`${ca.url}/v1/self`, { peer: peer(), signal })
const publicly = (path: string, signal = AbortSignal.timeout(60_000)): Promise<CallAnswer> =>
  outside.fetchPublic(new URL(path, base), { signal })

describe('a call from another thread', () => {
  it('is made under the identity, and under its next generation once there is one', async () => {
    open()
    const answer = await self()
    expect([answer.status, JSON.parse(await answer.text())]).toEqual([
      200,
      expect.objectContaining({ spiffeId: identity.current().spiffeId }),
    ])
    const { facts } = await identity.renew()
    expect(JSON.parse(await (await self()).text())).toMatchObject({ serial: facts.serial })
  })

  it('brings a body whole, however slowly it is read', async () => {
    open()
    const { body: parts } = await publicly('/body')
    const hash = createHash('sha256')
    for await (const part of parts!) {
      hash.update(part)
      await turn()
    }
    expect(hash.digest('hex')).toBe(createHash('sha256').update(body).digest('hex'))
  })

  it('fails with the errors of a call from here: their codes, their hints, their reasons', async () => {
    open()
    const other = `spiffe://${ca.trustDomain}/service/another`
    const call = { peer: other, signal: AbortSignal.timeout(60_000) }
    const here = await identity.fetch(`${ca.url}/v1/self`, call).catch(error => error)
    const there = await outside.fetch(`${ca.url}/v1/self`, call).catch(error => error)
    expect(there).toBeInstanceOf(here.constructor)
    for (const known of ['name', 'code', 'message', 'hint', 'facts']) expect(there[known]).toEqual(here[known])
    const cutHere = await fetch(new URL('/cut', base)).catch(error => error)
    const cutThere = await publicly('/cut').catch(error => error)
    for (const known of ['name', 'message']) expect(cutThere[known]).toBe(cutHere[known])
    expect(cutThere.cause.message).toBe(cutHere.cause.message)
  })

  it('ends when it is aborted, before its answer and within it, with the reason, at the other end too', async () => {
    open()
    const before = left
    for (const path of ['/never', '/slow']) {
      const controller = new AbortController()
      const reading = (async () => {
        const answer = await publicly(path, controller.signal)
        for await (const _ of answer.body!) controller.abort(new Error('enough'))
      })()
      if (path === '/never') {
        await once(mirror, 'request')
        controller.abort(new Error('enough'))
      }
      await expect(reading).rejects.toThrow('enough')
    }
    await expect.poll(() => left, { timeout: 60_000 }).toBe(before + 2)
  })
})

describe('a call of the identity itself', () => {
  const target = (client: 'shown' | null = 'shown') => {
    const { key, cert, ca: roots } = tlsMaterialOf(identity.current())
    return { url: ca.url, roots, trustDomain: ca.trustDomain, client: client === null ? null : { key, cert } }
  }
  const question = { method: 'GET', path: '/v1/self', signal: AbortSignal.timeout(60_000) } as const

  it('brings what it brings from here, refusals with all that they say', async () => {
    open()
    expect(await outside.callCa!(target(), question)).toEqual(await callCa(target(), question))
    const here = await callCa(target(null), question).catch(error => error)
    const there = await outside.callCa!(target(null), question).catch(error => error)
    expect(there).toBeInstanceOf(AgentError)
    for (const known of ['origin', 'code', 'status', 'message', 'hint', 'facts', 'retryAfterSeconds'])
      expect(there[known]).toEqual(here[known])
    expect([there.origin, there.status]).toEqual(['ca', 401])
    expect(there.requestId).toEqual(expect.any(String))
  })

  it('is made from here when the thread ends under it, and once nobody lends it', async () => {
    open(mortal)
    const made: string[] = []
    const route = createCaRoute((to, request) => {
      made.push(request.path)
      return callCa(to, request)
    })
    const takeBack = route.lend(async (to, request) => {
      const answer = outside.callCa!(to, request)
      if (request.path === '/v1/capabilities') outside.fetchPublic(new URL('/die', base), question).catch(() => {})
      return answer
    })
    await route.call(target(), question)
    expect(made).toEqual([])
    // A name that takes its time: the thread is gone before it could be called.
    await using slow = await silentServer()
    const gone = route.call({ ...target(), url: slow.url }, { ...question, path: '/v1/capabilities' })
    await expect.poll(() => made, { timeout: 60_000 }).toEqual(['/v1/capabilities'])
    slow.end()
    await expect(gone).rejects.toMatchObject({ code: 'ca_unreachable' })
    takeBack()
    await route.call(target(), question)
    expect(made).toEqual(['/v1/capabilities', '/v1/self'])
  })

  it('is a renewal of the identity of a verifier', async () => {
    const asked: string[] = []
    const surroundings = {
      timing: systemTiming,
      outside: (all: OutsideDeps): Outside => {
        const made = callInThread(all)
        const callCa: CaCall = (to, request) => {
          asked.push(request.path)
          return made.callCa!(to, request)
        }
        return { ...made, callCa }
      },
    }
    {
      await using _ = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' }, surroundings)
      const { facts } = await identity.renew()
      expect(identity.current().facts.serial).toBe(facts.serial)
      expect(asked).toContain('/v1/renew')
    }
    asked.length = 0
    await identity.renew()
    expect(asked).toEqual([])
  })
})

describe('when the thread ends', () => {
  it('calls under way fail, and the next one finds another thread', async () => {
    open(mortal)
    expect((await self()).status).toBe(200)
    const standing = await publicly('/slow')
    const reading = (async () => {
      for await (const _ of standing.body!) await publicly('/die').catch(() => {})
    })()
    await expect(reading).rejects.toMatchObject({ code: 'calls_interrupted' })
    expect(said).toEqual(['the thread that calls the CA ended; another one is started'])
    expect((await self()).status).toBe(200)
  })

  it('a verifier goes on by what it knows, and hears of the next revocation', async () => {
    const made: { outside?: Outside } = {}
    const surroundings = {
      timing: systemTiming,
      outside: (all: OutsideDeps) => {
        made.outside = callInThread(all, mortal)
        return made.outside
      },
    }
    await using verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' }, surroundings)
    await verifier.ready()
    const agent = await ca.agent('caller')
    const chain = [
      new Uint8Array(Buffer.from(agent.current().certificatePem.replace(/-----.*-----|\s/g, ''), 'base64')),
    ]
    const outcome = (): string => {
      try {
        return verifier.verifyChain(chain).name
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    await expect.poll(outcome, { timeout: 60_000 }).toBe('caller')
    const signal = AbortSignal.timeout(60_000)
    await made.outside!.fetchPublic(new URL('/die', base), { signal }).catch(() => {})
    await turn()
    expect(verifier.status().connected).toBe(false)
    expect(outcome()).toBe('caller')
    await expect.poll(() => verifier.status().connected, { timeout: 60_000 }).toBe(true)
    await ca.revoke('caller')
    await expect.poll(outcome, { timeout: 60_000 }).toMatch(/revoked|retired/)
  })
})

describe('where no thread can run', () => {
  it('calls are made from here after the first one', async () => {
    open(new URL('./broken-thread.ts', import.meta.url))
    await expect(self()).rejects.toMatchObject({ code: 'calls_interrupted' })
    expect((await self()).status).toBe(200)
    expect(said).toEqual(['no thread can be started for calls to the CA: requests cost more'])
  })

  it('and by whoever was put around an identity’s calls, in any case', async () => {
    const around: string[] = []
    const fetch: AgentIdentity['fetch'] = (url, init) => {
      around.push(String(url))
      return identity.fetch(url, init)
    }
    outside = callInThread({ ...deps(), identity: { ...identity, fetch } })
    expect((await self()).status).toBe(200)
    expect(around).toEqual([`${ca.url}/v1/self`])
  })
})
