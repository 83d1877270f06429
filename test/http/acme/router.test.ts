// By what a signed call is counted: the limits are recorded in place of real ones, which a test would have to exhaust.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { expect, it } from 'vitest'
import type { Acme } from '../../../src/acme/acme.ts'
import { createAcmeRouter } from '../../../src/http/acme/router.ts'
import { type Caller, setCall } from '../../../src/http/call.ts'
import { createInFlight } from '../../../src/http/limits.ts'

const countedBy = async (caller: Caller, kid: string | null): Promise<readonly string[]> => {
  const counted: string[] = []
  const acme = {
    deps: { urls: { of: (path: string) => path } },
    nonces: { create: () => 'n' },
    requests: { byAccount: async () => ({ account: { id: 'a', kid }, payload: new Uint8Array() }) },
    orders: { list: () => ({ orders: [], next: null }) },
  } as unknown as Acme
  const limits = {
    recognised: (_network: string, id: string) => counted.push(`given back for ${id}`),
    takeIdentity: (id: string) => counted.push(`taken from ${id}`),
  }
  const app = express()
  app.use((_request, response, next) => {
    setCall(response, { requestId: 'r', source: 's', caller })
    next()
  })
  app.use('/acme', createAcmeRouter({ acme, inFlight: createInFlight(1), limits }))
  const server = createServer(app).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/acme/account/a/orders`
    const headers = { 'Content-Type': 'application/jose+json' }
    const { status } = await fetch(url, { method: 'POST', headers, body: '{}' })
    expect(status).toBe(200)
  } finally {
    server.closeAllConnections()
    server.close()
  }
  return counted
}

it('a call by an account is given back to its address only where it was taken from there, and not without a binding', async () => {
  const anonymous: Caller = { kind: 'anonymous' }
  expect(await countedBy(anonymous, 'k')).toEqual(['given back for a'])
  expect(await countedBy(anonymous, null)).toEqual(['taken from a'])
  expect(await countedBy({ kind: 'peer' } as Caller, 'k')).toEqual(['taken from a'])
})
