// A whole CA behind two fronts, which are killed while a fleet enrols and renews and operators revoke: nobody waits for ever, nothing is
// given twice, and what invariants.ts says of a CA without fronts holds. Then the core itself is killed, and the next one finds the port.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Holder, isType, openReader } from '../feed/world.ts'
import { ask, createKey } from '../http/harness.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, noEvidence, readLedger } from './invariants.ts'
import { createOperator } from './operator.ts'
import { until } from './until.ts'

const rounds = 3
const membersPerRound = 8

let home: StoryHome
let ca: CaProcess
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
const repeated: string[] = []

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_WORKERS: '2' })
  deps = { home, evidence, signal: ending.signal, retryMs: 50, onRetry: error => repeated.push(error.code) }
  ca = await startCa(home, 'serve')
})
afterAll(async () => {
  ending.abort()
  await ca?.stop()
  home?.remove()
})

const commandOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
const parentOf = (pid: string): number => {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return 0
  }
}
const frontsOf = (core: number): readonly number[] =>
  readdirSync('/proc')
    .filter(name => /^\d+$/.test(name) && parentOf(name) === core && commandOf(name).includes('/front/main'))
    .map(Number)

const api = (): number => Number(new URL(home.report.urls.api).port)
const joining = async (agent: string): Promise<Member> => {
  const member = createMember(deps, agent)
  member.join(await createToken(deps, agent))
  return member
}
const judge = (): Promise<readonly string[]> => checkInvariants(home.paths.database, evidence, home.trusted)
const metric = async (name: string): Promise<number> => {
  const text = await (await fetch(`${ca.line.ops}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

const serviceHolder = async (name: string): Promise<Holder> => {
  await home.admin.call('servicesCreate', { body: { name } })
  const key = await createKey()
  const body = { kind: 'service' as const, name, csr: key.csrText }
  const { certificate, chain, serial, instance, notAfter } = await home.admin.call('certificatesIssue', { body })
  const privateKey = key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  return { name, instance, serial, notAfter: Date.parse(notAfter), cert: certificate + chain, key: privateKey }
}

it('shows its fronts to nobody but itself', async () => {
  expect(frontsOf(ca.line.pid)).toHaveLength(2)
  expect(await metric('agentca_fronts_listening')).toBe(2)
  expect(statSync(home.paths.run).mode & 0o777).toBe(0o700)
  expect(statSync(home.paths.frontSocket).mode & 0o777).toBe(0o600)
})

it('gives nothing twice and loses nothing while fronts are killed under load', { timeout: 180_000 }, async () => {
  for (let round = 0; round < rounds; round++) {
    const agent = `killed-${round}`
    await registerAgent(deps, agent)
    const members = await Promise.all(Array.from({ length: membersPerRound }, () => joining(agent)))
    // One token, more callers than uses: whoever asks again through another front is the same caller.
    await registerAgent(deps, `contended-${round}`)
    const contended = await createToken(deps, `contended-${round}`, 3)
    const rivals = Array.from({ length: 6 }, () => createMember(deps, `contended-${round}`))
    for (const rival of rivals) rival.join(contended)
    let answers = 0
    const acting = [...members, ...rivals].map(async member => {
      const outcome = await member.act()
      answers++
      return outcome
    })
    await until('some were answered', () => answers > round)
    for (const pid of frontsOf(ca.line.pid)) process.kill(pid, 'SIGKILL')
    const outcomes = await Promise.all(acting)
    expect(outcomes.slice(0, membersPerRound)).toEqual(members.map(() => 'answered'))
    const won = outcomes.slice(membersPerRound).filter(outcome => outcome === 'answered')
    const lost = outcomes.slice(membersPerRound).filter(outcome => outcome !== 'answered')
    expect([won.length, lost]).toEqual([3, Array(3).fill({ refused: 'token_reuse' })])
    // With certificates, on connections of their own.
    expect(await Promise.all(members.map(member => member.act()))).toEqual(members.map(() => 'answered'))
    await revoke(deps, { by: 'instance', value: members[0]!.current()!.facts.instance })
    expect(await members[0]!.act()).toEqual({ refused: 'instance_revoked' })
    await until('two fronts listen', async () => (await metric('agentca_fronts_listening')) === 2)
  }
  expect(new Set(repeated)).toEqual(new Set(['ca_unreachable']))
  expect(await metric('agentca_front_starts')).toBe(2 + 2 * rounds)
  expect(await judge()).toEqual([])
})

describe('what is not hot', () => {
  it('a feed goes through, and whoever waits for a revocation is told that it was applied', async () => {
    const watcher = await serviceHolder('watcher')
    const reader = await openReader(api(), watcher, {})
    await reader.until(isType('heartbeat'))
    await registerAgent(deps, 'followed')
    const member = await joining('followed')
    expect(await member.act()).toBe('answered')
    const { serial } = member.current()!.facts
    const operator = createOperator(home.env, home.paths.home)
    const waiting = operator.run(`revoke --serial ${serial} --reason keyCompromise --yes --wait 60s`)
    const { position } = await reader.until(
      event => event.type === 'revoke' && event.changes.some(change => change.serial === serial),
    )
    const id = `${position.epoch}.${position.n}`
    expect((await ask(api(), '/v1/feed/ack', { shown: watcher, body: { id } })).status).toBe(204)
    const { code, out } = await waiting
    expect([code, out]).toEqual([0, expect.stringMatching(/^verifiers +applied at 1 of 1 after \d+ ms$/m)])
    reader.close()
    const { subscribers } = await home.admin.call('feedStatus')
    expect(subscribers.map(({ subscriber }) => subscriber)).toEqual([`watcher/${watcher.instance}`])
    await until('its end is noticed', async () =>
      (await home.admin.call('feedStatus')).subscribers.every(({ state }) => state !== 'live'),
    )
  })

  it('is recorded under the address that the caller has, whatever headers say', async () => {
    const headers = { 'X-Forwarded-For': '10.1.2.3', 'X-Real-IP': '10.1.2.3' }
    const body = { csr: (await createKey()).csrText, evidence: { type: 'token', token: 'nobody-made-this' } }
    const hot = await ask(api(), '/v1/enroll', { body, headers })
    const other = await ask(api(), '/v1/enroll', { body, headers: { ...headers, Expect: '100-continue' } })
    for (const reply of [hot, other]) {
      expect([reply.status, reply.body.code]).toEqual([401, 'token_unknown'])
      const { leaves } = readLedger(home.paths.database)
      const found = leaves.filter(leaf => Buffer.from(leaf.bytes).includes(reply.body.requestId))
      expect(found.map(leaf => JSON.parse(Buffer.from(leaf.bytes).toString('utf8')).src)).toEqual(['127.0.0.1'])
    }
  })
})

it('a core that is killed takes its fronts with it, and the next one serves at the same place', async () => {
  const fronts = frontsOf(ca.line.pid)
  expect(fronts).toHaveLength(2)
  process.kill(ca.line.pid, 'SIGKILL')
  await ca.ended
  ca = await startCa(home, 'serve')
  for (const pid of fronts) await until('it is gone', () => !commandOf(String(pid)).includes('/front/main'))
  const member = await joining('followed')
  expect(await member.act()).toBe('answered')
  // A stop in good order takes the fronts with it as well.
  const last = frontsOf(ca.line.pid)
  expect(last).toHaveLength(2)
  expect(await ca.stop()).toEqual({ code: 0, signal: null })
  expect(last.filter(pid => commandOf(String(pid)).includes('/front/main'))).toEqual([])
  expect(await judge()).toEqual([])
})
