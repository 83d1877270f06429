// Authorization from the operator's files to a verifier in another process: what is put in force acts on the next calls, within a second and
// without a new certificate; scopes are looked up, conditions are asked with the call; enrolment is asked too.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AgentIdentity, agentIdentity } from '../../src/agent/index.ts'
import { type ServedCa, startServedCa } from './served-ca.ts'
import { until } from './until.ts'

let ca: ServedCa
let backend: ChildProcess
let url: string
let billing: AgentIdentity
const orders = 'spiffe://agentca.local/service/orders'

const actions = `
orders:
  actions: [read, refund]
  resource: { region: String }
  context: { amount: Long }
`
const readers = '@id("readers")\npermit(principal in Role::"reader", action == Action::"orders:read", resource);\n'
const refunds = (limit: number): string =>
  `@id("refunds")\npermit(principal in Role::"clerk", action == Action::"orders:refund", resource)\nwhen { context has amount && context.amount <= ${limit} };\n`
const abroad =
  '@id("abroad")\nforbid(principal, action == Action::"orders:refund", resource) when { resource has region && resource.region != "eu" };\n'

/** Writes a set of policies. @returns its directory */
const policies = (name: string, cedar: string, tests = ''): string => {
  const directory = join(ca.directory, name)
  mkdirSync(join(directory, 'tests'), { recursive: true })
  writeFileSync(join(directory, 'actions.yaml'), actions)
  writeFileSync(join(directory, 'orders.cedar'), cedar)
  if (tests !== '') writeFileSync(join(directory, 'tests', 'orders.yaml'), tests)
  return directory
}

const apply = (name: string, cedar: string, tests?: string) =>
  ca.agentcaJson<{ version: number; changed: number }>('policy', 'apply', policies(name, cedar, tests))

const call = async (path: string): Promise<number> => {
  const answer = await billing.fetch(`${url}${path}`, { peer: orders })
  await answer.text()
  return answer.status
}
const refund = (amount: number, more = ''): Promise<number> => call(`/refunds?order=17&amount=${amount}${more}`)

beforeAll(async () => {
  ca = await startServedCa()
  await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
  await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
  backend = spawn(
    process.execPath,
    [
      fileURLToPath(new URL('./policy-backend.ts', import.meta.url)),
      ca.urls.api,
      ca.rootFingerprint,
      join(ca.directory, 'orders.token'),
      join(ca.directory, 'state'),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const [port] = (await once(createInterface({ input: backend.stdout! }), 'line')) as [string]
  url = `https://localhost:${port}`
  await ca.agentcaJson('agent', 'create', 'billing', '--owner', 'finance')
  const tokenFile = await tokenOf('billing')
  billing = await agentIdentity({ url: ca.urls.api, caFingerprint: ca.rootFingerprint, tokenFile })
}, 180_000)
afterAll(async () => {
  if (backend?.exitCode === null) {
    backend.stdin?.end()
    await once(backend, 'exit')
  }
  await billing?.[Symbol.asyncDispose]()
  await ca?.[Symbol.asyncDispose]()
})

const tokenOf = async (agent: string): Promise<string> => {
  await ca.agentcaJson('token', 'create', '--agent', agent, '--file', `${agent}.token`)
  return join(ca.directory, `${agent}.token`)
}

describe('policies', () => {
  it('grant nothing until there are some, then act at a verifier elsewhere without a new certificate', async () => {
    expect(await call('/')).toBe(403)
    const { serial } = billing.current().facts
    await apply('first', readers)
    expect(await call('/')).toBe(403)
    await ca.agentcaJson('agent', 'update', 'billing', '--role', 'reader')
    await until('a call with the new scope', async () => (await call('/')) === 200)
    expect(billing.current().facts.serial).toBe(serial)
    const self = await billing.fetch(`${ca.urls.api}/v1/self`, { peer: 'spiffe://agentca.local/service/agentca' })
    expect(await self.json()).toMatchObject({ scopes: ['orders:read'] })
  })

  it('take away as fast as they give, by a rollback too', async () => {
    await apply('stop', `${readers}forbid(principal == Agent::"billing", action, resource);`)
    await until('a refusal', async () => (await call('/')) === 403)
    await ca.agentcaJson('policy', 'rollback')
    await until('a call again', async () => (await call('/')) === 200)
    expect(await ca.agentcaJson('policy', 'list')).toMatchObject([
      { version: 2, state: 'earlier' },
      { version: 1, state: 'active' },
    ])
  })

  it('decide about the call itself where the service asks: by amount, and by the region of the resource', async () => {
    await apply('refunds', readers + refunds(100) + abroad)
    await ca.agentcaJson('agent', 'update', 'billing', '--role', 'reader', '--role', 'clerk')
    await until('a refund', async () => (await refund(100)) === 200)
    expect(await refund(101)).toBe(403)
    expect(await refund(5, '&region=us')).toBe(403)
    await apply('lower', readers + refunds(10) + abroad)
    await until('the lower limit', async () => (await refund(100)) === 403)
    expect(await refund(10)).toBe(200)
  })

  it('are explained, with the smallest change, by one answer that goes over everything', async () => {
    const explained = async (...more: string[]) =>
      JSON.parse((await ca.agentca('policy', 'explain', 'billing', ...more, '-o', 'json')).out)
    expect(await explained('orders:read')).toMatchObject({ decision: 'allow', grant: 'scope', by: [{ id: 'readers' }] })
    const denied = await explained(
      'orders:refund',
      'Resource::17',
      '--context',
      'amount=5',
      '--resource-attribute',
      'region=us',
    )
    expect(denied).toMatchObject({ decision: 'deny', grant: 'conditional', by: [{ id: 'abroad', line: 6 }] })
    await ca.agentcaJson('agent', 'create', 'crawler', '--owner', 'finance')
    const asked = JSON.parse((await ca.agentca('policy', 'explain', 'crawler', 'orders:read', '-o', 'json')).out)
    const [first] = asked.ways as { command: string }[]
    expect(first?.command).toBe('agentca agent update crawler --role reader')
    await ca.agentcaJson(...(first!.command.split(' ').slice(1) as string[]))
    expect((await ca.agentca('policy', 'explain', 'crawler', 'orders:read')).code).toBe(0)

    const may = await ca.agentca('why', 'billing', 'orders', 'read', '-o', 'json')
    expect([may.code, JSON.parse(may.out)]).toMatchObject([
      0,
      {
        verdict: 'allowed',
        checks: ['state', 'chain', 'policy', 'feed', 'freshness'].map(check => ({ check, result: 'ok' })),
      },
    ])
    const not = await ca.agentca('why', 'crawler', 'orders', 'read', '-o', 'json')
    expect([not.code, JSON.parse(not.out).verdict]).toEqual([5, 'refused'])
  })

  it('propose the narrowest statement for what an agent really did, and name what it never used', async () => {
    type Suggestion = { text: string; unused: string[] }
    const suggest = () => ca.agentcaJson<Suggestion>('policy', 'suggest', 'billing', '--days', '1')
    await until('both actions on record', async () => (await suggest()).text.includes('refund'))
    const { text, unused } = await suggest()
    expect(text).toContain(
      'permit(principal == Agent::"billing", action in [Action::"orders:read", Action::"orders:refund"]',
    )
    expect(unused).toEqual([])
    const answered = await ca.agentcaJson<{ differences: { name: string; loses: string[] }[] }>(
      'policy',
      'apply',
      '--dry-run',
      policies('suggested', text),
    )
    expect(answered.differences.map(({ name, loses }) => [name, loses])).not.toContainEqual([
      'billing',
      ['orders:read'],
    ])
  })

  it('with a case that fails, a fault, or another version in force meanwhile are not taken', async () => {
    const failing = await ca.agentca(
      'policy',
      'apply',
      policies('failing', readers, '- {agent: billing, action: orders:refund, expect: allow}'),
    )
    expect([failing.code, failing.err]).toEqual([9, expect.stringContaining('expected allow, got deny')])
    const faulty = await ca.agentca(
      'policy',
      'apply',
      policies('faulty', `${readers}permit(principal, action == Action::"orders:reed", resource);`),
    )
    expect([faulty.code, faulty.err]).toEqual([2, expect.stringContaining('orders.cedar:3')])
    expect(await call('/')).toBe(200)
  })

  it('end a grant at its time, by themselves', async () => {
    const end = new Date(Date.now() + 3000).toISOString()
    await apply('ending', `@until("${end}")\n${readers}`)
    await until('the end of the grant', async () => (await call('/')) === 403)
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(end))
    const tail = await ca.agentcaJson<{ event: string }[]>('audit', 'tail', '-n', '5')
    expect(tail.map(({ event }) => event)).toContain('scopes_changed')
  })

  it('are asked about enrolment once they speak of it: refused without the reason, which is in the audit', async () => {
    await apply(
      'enrolment',
      `${readers}@id("two-at-most") permit(principal, action == Action::"agentca:enroll", resource) when { context.instances < 1 };`,
    )
    const tokenFile = await tokenOf('crawler')
    const first = await agentIdentity({ url: ca.urls.api, caFingerprint: ca.rootFingerprint, tokenFile })
    await first[Symbol.asyncDispose]()
    await ca.agentcaJson('token', 'create', '--agent', 'crawler', '--file', 'again.token')
    const refused = await ca.agentca(
      ...['enroll', '--url', ca.urls.api, '--ca-fingerprint', ca.rootFingerprint],
      ...['--token-file', 'again.token', '--dir', 'again', '-o', 'json'],
    )
    expect([refused.code, refused.err]).toEqual([5, expect.stringContaining('policy_denied')])
    expect(refused.err).not.toContain('two-at-most')
    // Renewal is another action, of which nothing speaks.
    await billing.renew()
  })
})
