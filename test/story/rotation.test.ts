// A new issuing CA takes over while twenty agents enrol and renew: ceremony, prepare, activate, retire, each as an operator types it
// beside a running `agentca serve`. Nobody waits for longer than a retry, old leaves stay valid, and OpenSSL is the judge.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import type { AgentError } from '../../src/agent/errors.ts'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { nameToString, parseName } from '../../src/pki/names.ts'
import type { CertificateAnswer, CrlAnswer, IssuerAnswer } from '../../src/schema/admin-answers.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, type Evidence, noEvidence } from './invariants.ts'
import { createOperator, type Operator } from './operator.ts'
import { createRelyingParty, type RelyingParty, type Watch, watchStatus } from './relying-party.ts'
import { until } from './until.ts'

const agents = 20

let home: StoryHome
let directory: string
let server: CaProcess
let operator: Operator
let party: RelyingParty
let watch: Watch
/** Of the twenty, who end at some time, and of those who stand aside. */
let deps: FleetDeps
let aside: FleetDeps
const evidence: Evidence = noEvidence()
const ending = new AbortController()
/** Attempts that were repeated: status and code of each. */
const retries: string[] = []
const refusals: string[] = []
const members: Member[] = []
let running: Promise<unknown> = Promise.resolve()

/** Every other one enrols anew each time instead of renewing. */
const live = async (member: Member, i: number): Promise<void> => {
  member.join(await createToken(deps, member.agent, 100_000))
  while (!ending.signal.aborted) {
    const outcome = await member.act()
    if (outcome !== 'answered') refusals.push(outcome.refused)
    if (i % 2 === 1) member.leave()
    await delay(20)
  }
}

/** Somebody who stands aside: enrols once and keeps that certificate. */
const enrolAside = async (agent: string): Promise<Member> => {
  await registerAgent(aside, agent)
  const member = createMember(aside, agent)
  member.join(await createToken(aside, agent))
  await member.act()
  return member
}
const credentialOf = (member: Member): Credential => {
  const credential = member.current()
  if (credential === null) throw new Error(`${member.agent} has no identity`)
  return credential
}

beforeAll(async () => {
  home = await createStoryHome()
  directory = dirname(home.paths.home)
  server = await startCa(home, 'serve')
  operator = createOperator(home.env, directory)
  party = createRelyingParty(home)
  const onRetry = ({ status, code }: AgentError): void => void retries.push(`${status} ${code}`)
  deps = { home, evidence, signal: ending.signal, retryMs: 50, onRetry }
  aside = { ...deps, signal: new AbortController().signal }
  for (let i = 0; i < agents; i++) {
    await registerAgent(deps, `agent-${i}`)
    members.push(createMember(deps, `agent-${i}`))
  }
}, 180_000)
afterAll(async () => {
  ending.abort()
  await running.catch(() => {})
  await watch?.stop()
  await party?.close()
  await server?.stop()
  home?.remove()
})

/** Many more certificates than can have been in work. @returns the issuers of the last ones */
const goesOn = async (): Promise<ReadonlySet<string>> => {
  const before = evidence.received.length
  await until('more certificates', () => evidence.received.length >= before + 3 * agents)
  return new Set(evidence.received.slice(before + agents).map(each => issuerOf(each.der)))
}
const issuerOf = (der: Uint8Array): string => nameToString(parseName(parseCertificate(der).issuerDer))
const [first, second] = ['CN=agentca issuing 1,O=agentca.local', 'CN=agentca issuing 2,O=agentca.local']

const fetchText = async (path: string): Promise<string> => (await fetch(`${server.line.status}${path}`)).text()

/** `openssl verify` with what is published, and nothing else but the chain that came with the certificate. */
const judge = async ({ certificatePem, chainPem }: Credential): Promise<string> => {
  const files = {
    'roots.pem': await fetchText('/bundle'),
    'crls.pem': await fetchText('/crl/bundle.pem'),
    'chain.pem': chainPem,
    'leaf.pem': certificatePem,
  }
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
  const published = ['-CAfile', 'roots.pem', '-CRLfile', 'crls.pem', '-untrusted', 'chain.pem']
  const args = ['verify', '-x509_strict', '-crl_check_all', ...published, 'leaf.pem']
  try {
    return execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: 'pipe' })
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}
const askOcsp = async ({ certificatePem, chainPem }: Credential): Promise<string> => {
  writeFileSync(join(directory, 'asked.pem'), certificatePem + chainPem)
  return (await operator.run('ocsp check asked.pem -o name')).out.trim()
}
const expectGood = async (credential: Credential): Promise<void> => {
  expect([await judge(credential), await askOcsp(credential)]).toEqual(['leaf.pem: OK\n', 'good'])
}
const listOf = async (issuer: string): Promise<CrlAnswer> => {
  const lists = await operator.json<CrlAnswer[]>('crl status')
  return lists.find(each => each.issuer === issuer) as CrlAnswer
}

const ceremonyInput = (statusUrl: string): string => `ceremony: issuing
name: issuing-2
issuer:
  name: root-1
subject:
  organization: agentca.local
  commonName: agentca issuing 2
trustDomain: agentca.local
statusUrl: ${statusUrl}
`

describe('a rotation of the issuing CA under load', { timeout: 180_000 }, () => {
  let old: Member
  let oldToRevoke: Member

  it('begins with a ceremony beside the running CA, which nobody notices', async () => {
    old = await enrolAside('old')
    oldToRevoke = await enrolAside('old-to-revoke')
    watch = watchStatus(party, evidence, new Map([[credentialOf(old).facts.serial, ['good']]]))
    running = Promise.all(members.map(live))
    expect(await goesOn()).toEqual(new Set([first]))
    writeFileSync(join(directory, 'issuing-2.yaml'), ceremonyInput(home.report.urls.status))
    const made = await operator.run('ceremony issuing --input issuing-2.yaml')
    expect([made.code, made.err]).toEqual([0, expect.stringContaining('next, while the CA runs: agentca ca prepare')])
    await goesOn()
    expect(retries).toEqual([])
  })

  it('prepares the new CA: it has its list before it issues anything', async () => {
    const file = join(home.paths.issuers, 'issuing-2.pem')
    const prepared = await operator.json<IssuerAnswer>(`ca prepare issuing-2 --certificate ${file} --confirm issuing-2`)
    expect(prepared).toMatchObject({ name: 'issuing-2', state: 'prepared', parent: 'root-1' })
    expect(await listOf('issuing-2')).toMatchObject({ entries: 0 })
    expect(await goesOn()).toEqual(new Set([first]))
    // The signer starts again with the new key: what that met was repeated, and nothing was signed that nobody got.
    for (const retry of retries) expect(retry).toMatch(/^(?:503 signer_unavailable|409 issuance_in_progress)$/)
    expect(await operator.json<CertificateAnswer[]>('cert list --state orphaned --all')).toEqual([])
  })

  it('activates it without a single attempt to repeat', async () => {
    const before = retries.length
    expect(await operator.json('ca activate issuing-2 --confirm issuing-2')).toMatchObject({ state: 'active' })
    expect(await goesOn()).toEqual(new Set([second]))
    expect(retries.slice(before)).toEqual([])
  })

  it('leaves old leaves valid beside new ones, each under its own issuer', async () => {
    const fresh = await enrolAside('fresh')
    await expectGood(credentialOf(old))
    await expectGood(credentialOf(fresh))
    expect((await fetchText('/crl/bundle.pem')).match(/BEGIN X509 CRL/g)).toHaveLength(3)
    const states = (await operator.json<IssuerAnswer[]>('ca list')).map(({ name, state }) => [name, state])
    expect(Object.fromEntries(states)).toEqual({ 'root-1': 'active', 'issuing-1': 'retired', 'issuing-2': 'active' })
  })

  it('revokes leaves of both, each on the list of its issuer and by its OCSP answers', async () => {
    const freshToRevoke = await enrolAside('fresh-to-revoke')
    for (const member of [oldToRevoke, freshToRevoke]) await revoke(aside, { by: 'agent', value: member.agent })
    for (const issuer of ['issuing-1', 'issuing-2'])
      await until(`the list of ${issuer}`, async () => (await listOf(issuer)).entries === 1)
    for (const member of [oldToRevoke, freshToRevoke]) {
      expect(await judge(credentialOf(member))).toContain('certificate revoked')
      expect(await askOcsp(credentialOf(member))).toBe('revoked')
    }
    await expectGood(credentialOf(old))
  })

  it('retires the old CA, which goes on answering for its leaves until they have ended', async () => {
    const retired = await operator.json<{ liveLeaves: number }>('ca retire issuing-1 --confirm issuing-1')
    expect(retired).toMatchObject({ name: 'issuing-1', state: 'retired', liveLeaves: expect.any(Number) })
    expect(retired.liveLeaves).toBeGreaterThan(agents)
    const { number } = await listOf('issuing-1')
    await operator.json('crl publish')
    expect(BigInt((await listOf('issuing-1')).number)).toBeGreaterThan(BigInt(number))
    await expectGood(credentialOf(old))
  })

  it('gives an old leaf its next generation under the new CA, also after the server started anew', async () => {
    ending.abort()
    await running.catch(() => {})
    await watch.stop()
    expect(watch.failures()).toEqual([])
    expect(await server.stop()).toEqual({ code: 0, signal: null })
    server = await startCa(home, 'serve')
    await expectGood(credentialOf(old))
    const before = credentialOf(old)
    expect(await old.act()).toBe('answered')
    expect(credentialOf(old).facts).toMatchObject({ instance: before.facts.instance, generation: 2 })
    expect(issuerOf(evidence.received.at(-1)?.der as Uint8Array)).toBe(second)
    await expectGood(credentialOf(old))
    await expectGood(before)
  })

  it('ends with a whole ledger, and with nobody refused', async () => {
    expect(await server.stop()).toEqual({ code: 0, signal: null })
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
    expect(refusals).toEqual([])
  })
})
