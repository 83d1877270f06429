// Many orders at once: 32 clients, each an account of its own, order, finalize and fetch one certificate after the other, and none of
// their requests is refused. AGENTCA_STORY_ACME_ORDERS is the number of orders.
import { dirname } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import type { RunningServer } from '../../src/server/serve.ts'
import { type Account, AcmeRequests, type Binding, leafOf } from './acme-requests.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { createOperator } from './operator.ts'
import { serveHere } from './served-here.ts'

const clients = 32
const orders = Number(process.env.AGENTCA_STORY_ACME_ORDERS ?? 500)

interface Client {
  readonly acme: AcmeRequests
  readonly account: Account
  readonly names: readonly string[]
}

let home: StoryHome
let server: RunningServer
const ready: Client[] = []

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_AUDIT_CHECKPOINTEVERY: '1h' })
  server = await serveHere(home, { aheadMs: 0 })
  const operator = createOperator(home.env, dirname(home.paths.home))
  for (let at = 0; at < clients; at++) {
    const agent = `loaded-${at}`
    const names = [`${agent}.internal`]
    await operator.json(`agent create ${agent} --owner stories`)
    const binding = await operator.json<Binding>(`acme eab create --agent ${agent} --dns ${names[0]}`)
    const acme = await AcmeRequests.at(server.line.api)
    ready.push({ acme, account: await acme.account(binding), names })
  }
}, 120_000)
afterAll(async () => {
  for (const { acme } of ready) acme.close()
  await server?.close(0)
  home?.remove()
})

it(`${orders} orders of ${clients} clients end in as many certificates, each with the name that was ordered`, async () => {
  const serials = new Set<string>()
  let left = orders
  const work = async ({ acme, account, names }: Client): Promise<void> => {
    while (left-- > 0) {
      const { pem } = await acme.certificate(account, names)
      const leaf = parseCertificate(leafOf(pem))
      expect(leaf.dnsNames).toEqual(names)
      serials.add(leaf.serialHex)
    }
  }
  await Promise.all(ready.map(work))
  expect(serials.size).toBe(orders)
}, 300_000)
