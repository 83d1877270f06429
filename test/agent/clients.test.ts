// Clients of every make under one identity, while it is renewed again and again: no call fails, none starts on a connection of an older
// generation, connections of older generations go, and a peer that is another one is refused by all of them.
import { once } from 'node:events'
import { createSecureServer, type Http2SecureServer } from 'node:http2'
import { type RequestOptions, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { TLSSocket } from 'node:tls'
import { fetch as undiciFetch } from 'undici'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { systemTiming } from '../../src/agent/backoff.ts'
import { type AgentIdentity, agentIdentity } from '../../src/agent/identity.ts'
import { type CaServer, createCaServer, issueForService, type ServerCertificate } from './ca-server.ts'

const peer = 'spiffe://example.org/service/orders'
const stranger = 'spiffe://example.org/service/billing'

let ca: CaServer
let orders: ServerCertificate
let server: Http2SecureServer
let url: string
/** Open connections, and the certificate that each was made with. */
const open = new Map<TLSSocket, string>()
const closing: (() => unknown)[] = []

const serialOf = (socket: TLSSocket): string => socket.getPeerX509Certificate()?.serialNumber.toLowerCase() ?? ''

/** HTTP/2 and HTTP/1.1 on one port; says which certificate the call came with, now or when a test lets it. */
const held: (() => void)[] = []
beforeAll(async () => {
  ca = await createCaServer()
  orders = await issueForService(ca.front.ca, 'orders', ['localhost'])
  server = createSecureServer(
    {
      key: orders.key,
      cert: orders.chain,
      ca: ca.rootPem,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      allowHTTP1: true,
    },
    (call, response) => {
      const socket = call.httpVersionMajor === 2 ? call.stream.session?.socket : call.socket
      const serial = serialOf(socket as TLSSocket)
      if (call.url === '/held') held.push(() => response.end(serial))
      else response.end(serial)
    },
  )
  server.on('secureConnection', (socket: TLSSocket) => {
    open.set(socket, serialOf(socket))
    socket.once('close', () => open.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  for (const close of closing.reverse()) await close()
  for (const socket of open.keys()) socket.destroy()
  server?.close()
  await ca?.[Symbol.asyncDispose]()
})

const surroundings = { env: {}, timing: systemTiming }
const start = async (name: string): Promise<AgentIdentity> => {
  const id = await agentIdentity({ url: ca.url, caFile: ca.caFile, tokenFile: await ca.tokenFile(name) }, surroundings)
  closing.push(() => id[Symbol.asyncDispose]())
  return id
}

/** One call; the body. */
type Call = (path?: string) => Promise<string>
type Make = (id: AgentIdentity, peer: string) => Call

const byHttps =
  (options: (id: AgentIdentity, peer: string) => RequestOptions): Make =>
  (id, peer) => {
    const given = options(id, peer)
    return (path = '/') =>
      new Promise((resolve, reject) => {
        request(`${url}${path}`, given, answer => text(answer).then(resolve, reject))
          .on('error', reject)
          .end()
      })
  }

const makes: Readonly<Record<string, Make>> = {
  'the identity’s own fetch':
    (id, peer) =>
    async (path = '/') =>
      (await id.fetch(`${url}${path}`, { peer })).text(),
  'Node’s fetch with its dispatcher': (id, peer) => {
    const dispatcher = id.dispatcher({ peer })
    return async (path = '/') => (await fetch(`${url}${path}`, { dispatcher } as unknown as RequestInit)).text()
  },
  'undici’s fetch with its dispatcher': (id, peer) => {
    const dispatcher = id.dispatcher({ peer })
    return async (path = '/') => (await undiciFetch(`${url}${path}`, { dispatcher })).text()
  },
  'node:https with its agent': byHttps((id, peer) => ({ agent: id.httpsAgent({ peer, agent: { maxSockets: 3 } }) })),
  'HTTP/2': (id, peer) => {
    const client = id.http2(url, { peer })
    closing.push(() => client[Symbol.asyncDispose]())
    return (path = '/') => {
      const stream = client.request({ ':path': path })
      return new Promise((resolve, reject) => {
        stream.on('error', reject)
        text(stream).then(resolve, reject)
        stream.end()
      })
    }
  },
  'tls options, read at each connection': byHttps((id, peer) =>
    Object.defineProperties({ agent: false }, Object.getOwnPropertyDescriptors(id.tlsOptions({ peer }))),
  ),
}

const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work
    return 'fulfilled'
  } catch (error) {
    for (let at = error as { code?: string; cause?: unknown; message?: string } | undefined; at !== undefined; )
      if (at.code === 'peer_not_verified' || at.code === 'revoked' || at.code === 'identity_closed') return at.code
      else at = at.cause as typeof at
    return String(error)
  }
}

const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 90_000, interval: 5 })

describe.each(Object.entries(makes))('%s', (name, make) => {
  it('shows the present generation through renewals, without one failed call', async () => {
    const id = await start(`agent-${Object.keys(makes).indexOf(name)}`)
    const call = make(id, peer)
    expect(await call()).toBe(id.current().facts.serial)
    const first = id.current().facts.serial
    const underWay = call('/held')
    await eventually(() => expect(held).toHaveLength(1))

    let going = true
    let made = 0
    const failures: unknown[] = []
    const load = Array.from({ length: 4 }, async () => {
      for (; going; made++) {
        const known = new Set([id.current().facts.serial])
        const serial = await call().catch(error => failures.push(error))
        known.add(id.current().facts.serial)
        if (typeof serial === 'string' && !known.has(serial)) failures.push(`${serial} is an older generation`)
      }
    })
    for (let renewal = 0; renewal < 5; renewal++) {
      const before = made
      expect((await id.renew()).facts.generation).toBe(renewal + 2)
      await eventually(() => expect(made).toBeGreaterThan(before + 4))
    }
    going = false
    await Promise.all(load)
    expect(failures).toEqual([])
    expect(made).toBeGreaterThan(20)

    expect([...open.values()]).toContain(first)
    held.pop()?.()
    expect(await underWay).toBe(first)
    expect(await call()).toBe(id.current().facts.serial)
    const mine = new Set([first, id.current().facts.serial])
    await eventually(() => expect([...open.values()].filter(each => mine.has(each))).not.toContain(first))
  })

  it('talks to nobody but the peer that it names, and to nobody once it is closed', async () => {
    const id = await start(`picky-${Object.keys(makes).indexOf(name)}`)
    expect(await codeOf(make(id, stranger)())).toBe('peer_not_verified')
    const call = make(id, peer)
    expect(await call()).toBe(id.current().facts.serial)
    await id[Symbol.asyncDispose]()
    expect(await codeOf((async () => call())())).toBe('identity_closed')
  })
})
