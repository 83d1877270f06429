// The one line that users' tests begin with: real enrolment, real verification, real revocation, and where it refuses to be.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AgentIdentity } from '../../src/agent/index.ts'
import { checkSurroundings, warnOnce } from '../../src/testing/guard.ts'
import { type TestAuthority, testAuthority } from '../../src/testing/index.ts'
import { agentVerifier } from '../../src/verifier/index.ts'

let ca: TestAuthority
beforeAll(async () => {
  ca = await testAuthority()
})
afterAll(() => ca?.[Symbol.asyncDispose]())

const self = async (identity: AgentIdentity) =>
  (await (
    await identity.fetch(`${ca.url}/v1/self`, { peer: `spiffe://${ca.trustDomain}/service/agentca` })
  ).json()) as {
    readonly agent: string
  }

describe('an authority for tests', () => {
  test('gives agents identities of the SDK, which the CA knows', async () => {
    const agent = await ca.agent('billing', { roles: ['payer'], owner: 'finance' })
    expect(agent.current().spiffeId).toMatch(/^spiffe:\/\/test-only\.invalid\/agent\/billing\/i\/[0-9a-f]{32}$/)
    expect(await self(agent)).toMatchObject({ agent: 'billing' })
    const next = await agent.renew()
    expect(next.facts.generation).toBe(2)
    expect(ca.audit().map(({ event }) => event)).toEqual(
      expect.arrayContaining(['ca_initialised', 'registration_created', 'token_created', 'certificate_issued']),
    )
  })

  test('says in its certificates what it is, and openssl verifies them with its lists', async () => {
    const agent = await ca.agent('openssl')
    const { certificatePem, chainPem } = agent.current()
    const directory = mkdtempSync(join(tmpdir(), 'agentca-testing-test-'))
    try {
      const file = (name: string, text: string): string => {
        writeFileSync(join(directory, name), text)
        return join(directory, name)
      }
      const lists = file('crls.pem', await (await fetch(`${ca.statusUrl}/crl/bundle.pem`)).text())
      const [leaf, chain] = [file('leaf.pem', certificatePem), file('chain.pem', chainPem)]
      const verify = [
        'verify',
        '-x509_strict',
        '-crl_check_all',
        '-CRLfile',
        lists,
        '-CAfile',
        ca.caFile,
        '-untrusted',
        chain,
        leaf,
      ]
      expect(execFileSync('openssl', verify, { encoding: 'utf8' })).toContain('OK')
      const names = execFileSync('openssl', ['x509', '-noout', '-subject', '-in', ca.caFile], { encoding: 'utf8' })
      expect(names).toContain('TEST ONLY')
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  test('lets a backend verify agents, hold, release and revoke them, each on the next call', async () => {
    await using identity = await ca.service('orders')
    await using verifier = await agentVerifier({ identity, kinds: ['agent'], onStale: 'refuse', maxStaleness: '5m' })
    await verifier.ready()
    const handle = verifier.express()
    const server = verifier.createServer((request, response) => {
      handle(request as never, response as never, () => response.end('hello'))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    try {
      const agent = await ca.agent('caller')
      const call = async () => {
        const peer = `spiffe://${ca.trustDomain}/service/orders`
        const answer = await agent.fetch(`https://localhost:${port}/`, { peer })
        await answer.text()
        return answer.status
      }
      expect(await call()).toBe(200)
      expect(await ca.hold('caller')).toEqual({ of: 1, applied: 1 })
      expect(await call().catch(() => 403)).toBe(403)
      await ca.release('caller')
      expect(await call()).toBe(200)
      expect(await ca.revoke('caller')).toEqual({ of: 1, applied: 1 })
      expect(await call().catch(() => 403)).toBe(403)
    } finally {
      server.close()
    }
  })

  test('can be several at once, and strangers to each other', async () => {
    await using other = await testAuthority({ trustDomain: 'other.test' })
    const theirs = await other.agent('billing')
    expect(theirs.current().spiffeId).toContain('spiffe://other.test/agent/billing/')
    const peer = `spiffe://${ca.trustDomain}/service/agentca`
    await expect(theirs.fetch(`${ca.url}/v1/self`, { peer })).rejects.toMatchObject({
      cause: { code: 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY' },
    })
  })

  test('leaves nothing behind', async () => {
    const one = await testAuthority()
    const { caFile } = one
    await one.agent('billing')
    expect(existsSync(caFile)).toBe(true)
    await one[Symbol.asyncDispose]()
    expect(existsSync(dirname(caFile))).toBe(false)
  })
})

describe('outside of tests', () => {
  test('it refuses production, and a home in which a real CA lives', () => {
    const home = mkdtempSync(join(tmpdir(), 'agentca-testing-home-'))
    try {
      expect(() => checkSurroundings({ NODE_ENV: 'production' })).toThrow(/NODE_ENV=production/)
      expect(() => checkSurroundings({ AGENTCA_HOME: home })).not.toThrow()
      writeFileSync(join(home, 'init.json'), '{}')
      expect(() => checkSurroundings({ AGENTCA_HOME: home })).toThrow(/a real CA lives/)
    } finally {
      rmSync(home, { recursive: true, force: true })
    }
  })

  test('and says once what it is', () => {
    const said: string[] = []
    // The authority of this file has said it.
    warnOnce(text => said.push(text))
    expect(said).toEqual([])
  })
})
