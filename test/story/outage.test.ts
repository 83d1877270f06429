// Fifty agents renew without a pause while the signer is killed, while the HSM hangs, and when it comes back: nobody gets a wrong
// answer, everybody is served in the end, nobody is locked, and status is there all the time.
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildPkcs11Shim, type Pkcs11Shim } from '../signer/shim.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { checkInvariants, noEvidence, readLedger } from './invariants.ts'
import { createRelyingParty, type OcspWord, type RelyingParty, type Watch, watchStatus } from './relying-party.ts'
import { until } from './until.ts'

const agents = 50
const pauseMs = 500

let shim: Pkcs11Shim
let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let watch: Watch
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()
/** Attempts that had to be repeated, by what was answered. */
const repeated = new Map<string, number>()

const serialOf = (member: Member): string => {
  const facts = member.current()?.facts
  if (facts === undefined) throw new Error(`${member.agent} has no certificate`)
  return facts.serial
}

const enrolled = async (agent: string): Promise<Member> => {
  await registerAgent(deps, agent)
  const member = createMember(deps, agent)
  member.join(await createToken(deps, agent))
  expect(await member.act()).toBe('answered')
  return member
}

/** The online token through a module that a test can make hang. */
const shimmed = (): Readonly<Record<string, string>> => ({
  AGENTCA_HSM_URI: home.report.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`),
  AGENTCA_HSM_SOFTHSMCONF: home.report.confPath ?? '',
})

beforeAll(async () => {
  shim = buildPkcs11Shim()
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '1s' })
  ca = await startCa(home, 'crash', shimmed())
  party = createRelyingParty(home)
  deps = {
    home,
    evidence,
    signal: ending.signal,
    retryMs: pauseMs,
    onRetry: error => repeated.set(error.code, (repeated.get(error.code) ?? 0) + 1),
  }
})
afterAll(async () => {
  ending.abort()
  shim?.set({})
  await watch?.stop()
  await ca?.stop()
  await party?.close()
  home?.remove()
  shim?.remove()
})

describe('fifty agents that renew without a pause', () => {
  const members: Member[] = []
  const answers: number[] = []
  const wrong: unknown[] = []
  let stopped = false
  let renewing: Promise<unknown>

  const keepRenewing = async (member: Member, at: number): Promise<void> => {
    while (!stopped) {
      const outcome = await member.act()
      if (outcome !== 'answered') wrong.push([member.agent, outcome])
      answers[at]!++
      await delay(pauseMs)
    }
  }
  /** Each one twice: the first answer may be to a request from before. */
  const everyoneIsServed = async (): Promise<void> => {
    const before = [...answers]
    await until('everybody is served', () => answers.every((count, at) => count >= before[at]! + 2))
  }
  const refusedForNow = (): number => repeated.get('signer_unavailable') ?? 0
  const intents = (): number =>
    readLedger(home.paths.database).leaves.filter(leaf => leaf.event === 'intent_recorded').length

  beforeAll(async () => {
    members.push(...(await Promise.all(Array.from({ length: agents }, (_, i) => enrolled(`renewing-${i}`)))))
    const victim = await enrolled('revoked')
    await revoke(deps, { by: 'agent', value: 'revoked' })
    // What is known stays known; what was never issued has to be signed, which may not be possible now.
    const right = new Map<string, readonly OcspWord[]>([
      ...members.slice(0, 3).map(member => [serialOf(member), ['good']] as const),
      [serialOf(victim), ['revoked']],
      [`01${'00'.repeat(15)}`, ['unknown', 'unavailable']],
    ])
    for (const [serial, words] of right) expect(words).toContain(await party.ocsp(serial))
    watch = watchStatus(party, evidence, right)
    answers.push(...members.map(() => 0))
    renewing = Promise.all(members.map(keepRenewing))
    await everyoneIsServed()
  })

  it.each(['issuance 4', 'issuance 5', 'crl 2'] as const)('go on when the signer is killed at %s', async step => {
    const rounds = watch.rounds()
    await ca.arm({ step, nth: step === 'crl 2' ? 1 : 5, kill: 'signer' })
    const published = step === 'crl 2' ? home.admin.call('crlPublish', { body: {} }) : null
    // Refused perhaps before the news of the kill is here.
    published?.catch(() => {})
    await ca.sprung()
    // The list that was being signed is lost, its number burnt; the next one is made.
    if (published !== null) await expect(published).rejects.toMatchObject({ problem: { status: 503 } })
    await everyoneIsServed()
    await until('status was asked', () => watch.rounds() > rounds + 5)
    expect(watch.failures()).toEqual([])
  })

  it('go on when the HSM has hung and comes back', { timeout: 180_000 }, async () => {
    const { restarts } = await home.admin.call('hsmStatus')
    shim.set({ hold: 1 })
    await until('the signer that hung was killed', async () => (await home.admin.call('hsmStatus')).restarts > restarts)
    // While everything hangs: status answers, and nobody's request makes an intent that cannot be signed.
    const [rounds, refused] = [watch.rounds(), refusedForNow()]
    await until('everybody was turned away', () => refusedForNow() >= refused + agents)
    const recorded = intents()
    await until('everybody was turned away again', () => refusedForNow() >= refused + 3 * agents)
    expect(intents()).toBe(recorded)
    await until('status was asked', () => watch.rounds() > rounds + 10)
    expect(watch.failures()).toEqual([])

    shim.set({})
    await everyoneIsServed()
    expect(watch.failures()).toEqual([])
  })

  it('were told nothing wrong, lost nothing and are not locked', { timeout: 180_000 }, async () => {
    stopped = true
    await renewing
    expect(wrong).toEqual([])
    expect([...repeated.keys()].toSorted()).toEqual(['signer_unavailable'])
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
    for (const member of members)
      expect([member.agent, await party.ocsp(serialOf(member))]).toEqual([member.agent, 'good'])
    await watch.stop()
    expect(watch.failures()).toEqual([])
  })
})
