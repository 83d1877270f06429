// A job of a CI service becomes an agent with the token that its platform gave it, and with nothing else: nobody hands it a secret.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { agentIdentity } from '../../src/agent/index.ts'
import { type Provider, startProvider } from '../enrol/provider.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'

let provider: Provider
let ca: ServedCa
let attestors: string

beforeAll(async () => {
  provider = await startProvider('https://ca.example.org')
  attestors = mkdtempSync(join(tmpdir(), 'agentca-attestors-'))
  writeFileSync(
    join(attestors, 'github.yaml'),
    `kind: jwt
issuer: ${provider.issuer}
audience: https://ca.example.org
keys: {from: discovery, caFile: ${provider.caFile}}
rules:
  - name: deployments
    agent: ci-{repository_owner}
    require: {repository_owner_id: '4711', ref: refs/heads/main, event_name: [push, workflow_dispatch]}
`,
  )
  ca = await startServedCa({ env: { ...process.env, AGENTCA_ATTESTORS: attestors } })
}, 180_000)

afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
  rmSync(attestors, { recursive: true, force: true })
})

const job = { repository_owner: 'acme', repository_owner_id: '4711', ref: 'refs/heads/main', event_name: 'push' }

interface Leaf {
  readonly event: string
  readonly content: Readonly<Record<string, unknown>>
}

it('a job enrols with the token of its platform, renews, and nobody enrols with that token again', async () => {
  await ca.agentcaJson('agent', 'create', 'ci-acme', '--owner', 'platform')
  const jwtFile = join(ca.directory, 'job.jwt')
  writeFileSync(jwtFile, await provider.token({ claims: { ...job, sub: 'repo:acme/shop:ref:refs/heads/main' } }))
  const start = { url: ca.urls.api, caFingerprint: ca.rootFingerprint, jwtFile, watch: 'none' } as const
  await using me = await agentIdentity(start)
  const first = me.current().facts
  expect(first).toMatchObject({ agent: 'ci-acme', generation: 1 })
  await me.renew()
  expect(me.current().facts).toMatchObject({ instance: first.instance, generation: 2 })

  await expect(agentIdentity(start)).rejects.toMatchObject({ code: 'token_reuse', status: 403 })
  const { items } = await ca
    .agentcaJson<{ items: Leaf[] }>('audit', 'tail', '-n', '30')
    .then(rows => (Array.isArray(rows) ? { items: rows as Leaf[] } : rows))
  expect(items.map(({ event }) => event)).toEqual(expect.arrayContaining(['evidence_admitted', 'token_reuse']))
}, 180_000)
