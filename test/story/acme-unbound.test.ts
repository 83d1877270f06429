// A CA that lets accounts be made without a binding: they are instances of one service, and nothing is theirs without a proof.
import { dirname } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { RunningServer } from '../../src/server/serve.ts'
import { type Account, AcmeRequests, type Binding, createAccountKey, must } from './acme-requests.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { createOperator, type Operator } from './operator.ts'
import { serveHere } from './served-here.ts'

let home: StoryHome
let server: RunningServer
let operator: Operator
let acme: AcmeRequests

beforeAll(async () => {
  home = await createStoryHome({
    AGENTCA_ACME_REQUIREEXTERNALACCOUNT: 'false',
    AGENTCA_ACME_UNBOUNDSERVICE: 'open',
    AGENTCA_ACME_MAXUNBOUNDACCOUNTS: '3',
    AGENTCA_AUDIT_CHECKPOINTEVERY: '1h',
  })
  server = await serveHere(home, { aheadMs: 0 })
  operator = createOperator(home.env, dirname(home.paths.home))
  acme = await AcmeRequests.at(server.line.api)
}, 120_000)
afterAll(async () => {
  acme?.close()
  await server?.close(0)
  home?.remove()
})

it('an account without a binding waits for the service that it is to be an instance of', async () => {
  expect(acme.directory).toMatchObject({ meta: { externalAccountRequired: false } })
  const early = await acme.newAccount(createAccountKey(), null)
  expect([early.status, early.body.type]).toEqual([503, 'urn:ietf:params:acme:error:serverInternal'])
})

it('it becomes an instance of that service, and orders not even the service’s own names without a proof', async () => {
  await operator.json('service create open --dns open.internal')
  const key = createAccountKey()
  const account: Account = { key, kid: must(await acme.newAccount(key, null), 201).headers.location as string }
  expect(await operator.json('instance list --service open')).toMatchObject([{ id: account.kid.split('/').at(-1) }])
  const refused = await acme.newOrder(account, ['open.internal'])
  expect([refused.status, refused.body.type]).toEqual([403, 'urn:ietf:params:acme:error:unauthorized'])
})

it('one with a binding is what its binding says, as ever', async () => {
  await operator.json('agent create bound --owner stories')
  const account = await acme.account(await operator.json<Binding>('acme eab create --agent bound'))
  const { order } = await acme.certificate(account, ['bound.agent.agentca.local'])
  expect(order.body.status).toBe('valid')
})

it('those without a certificate are so many at most: more are told when to come again, and one with a binding is none of them', async () => {
  const made = [createAccountKey(), createAccountKey()]
  for (const key of made) must(await acme.newAccount(key, null), 201)
  const refused = await acme.newAccount(createAccountKey(), null)
  expect([refused.status, refused.body.type]).toEqual([429, 'urn:ietf:params:acme:error:rateLimited'])
  expect(refused.body.detail).toContain('agentca acme eab create')
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(3000)
  // Whoever has one is answered as before.
  must(await acme.newAccount(made[0] as (typeof made)[0], null), 200)
  await operator.json('agent create bound-too --owner stories')
  await acme.account(await operator.json<Binding>('acme eab create --agent bound-too'))
})
