// The CA, its signer or both are killed with SIGKILL at each numbered step of issuance, revocation and CRL publication, while fifty
// agents enrol and renew and operators revoke; started again each time, asked again by all, and judged from outside by invariants.ts.
// AGENTCA_STORY_KILLS raises the number of kills: npm run torture.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Step } from '../../src/base/steps.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { type CaProcess, createStoryHome, type StoryHome, spawnCa, startCa } from './ca-process.ts'
import type { Ambush } from './crash-server.ts'
import { createMember, createToken, type FleetDeps, type Member, type Outcome, registerAgent, revoke } from './fleet.ts'
import { type Acknowledged, checkInvariants, type Evidence, newestList, noEvidence, readLedger } from './invariants.ts'
import { createRelyingParty, type OcspWord, type RelyingParty, type Watch, watchStatus } from './relying-party.ts'
import { until } from './until.ts'

const kills = Number(process.env.AGENTCA_STORY_KILLS ?? 30)
const agentNames = Array.from({ length: 10 }, (_, i) => `fleet-${i}`)
const membersPerAgent = 4
const contenders = 10
const contendedUses = 7

const allSteps: readonly Step[] = [
  ...([1, 2, 3, 4, 5, 6] as const).map(n => `issuance ${n}` as const),
  ...([1, 2] as const).map(n => `revocation ${n}` as const),
  ...([1, 2, 3, 4, 5] as const).map(n => `crl ${n}` as const),
]

/** How often a step is certain to be reached while everybody is served once: fifty certificates, three revocations, one list. */
const certainTimes = (step: Step): number => (step.startsWith('issuance') ? 30 : step.startsWith('revocation') ? 3 : 1)

/** What is lost when the signer dies alone: signatures that were just asked for, or just made. */
const signerSteps: readonly Step[] = ['issuance 4', 'issuance 5', 'crl 2', 'crl 3']

/** Each step once with the core killed and once with both processes, those around a signature also with the signer alone. */
const cycle = [
  ...allSteps.map(step => ({ step, kill: 'core' as const })),
  ...signerSteps.map(step => ({ step, kill: 'signer' as const })),
  ...allSteps.map(step => ({ step, kill: 'both' as const })),
]
const ambushes: readonly Ambush[] = Array.from({ length: kills }, (_, i) => {
  const { step, kill } = cycle[i % cycle.length]!
  return { step, nth: 1 + ((i * 7) % certainTimes(step)), kill }
})

let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let watch: Watch
let deps: FleetDeps
const evidence: Evidence = noEvidence()
const members: Member[] = []
const ending = new AbortController()
let broken = false
/** Answers after which somebody asked again. */
const repeated = new Set<string>()

beforeAll(async () => {
  home = await createStoryHome()
  ca = await startCa(home, 'crash')
  party = createRelyingParty(home)
  watch = watchStatus(party, evidence)
  deps = { home, evidence, signal: ending.signal, retryMs: 100, onRetry: error => repeated.add(error.code) }
  for (const name of [...agentNames, 'contended']) await registerAgent(deps, name)
  for (const name of agentNames) for (let i = 0; i < membersPerAgent; i++) members.push(createMember(deps, name))
})
afterAll(async () => {
  ending.abort()
  await watch?.stop()
  await ca?.stop()
  await party?.close()
  home?.remove()
})

/** Nobody there, nobody who could sign, or a revocation that came in between. */
const passing = ['ca_unreachable', 'signer_unavailable', 'not_released']

type Victim = Pick<Acknowledged, 'by' | 'value'>

/** Three in each round: an instance, a serial, a whole agent; different ones each time. Before anybody has one, agents only. */
const victimsOf = (round: number): readonly [Victim, Victim, Victim] => {
  const holders = members.flatMap(member => member.current()?.facts ?? [])
  const agent = (at: number): Victim => ({ by: 'agent', value: agentNames[at % agentNames.length]! })
  const held = (by: 'instance' | 'serial', at: number): Victim =>
    holders.length === 0 ? agent(at) : { by, value: holders[at % holders.length]![by] }
  return [held('instance', round * 3), held('serial', round * 3 + 17), agent(round)]
}

/** Whoever was told that something is revoked is never shown an answer from before. */
const askAtOnce = async (serials: readonly string[]): Promise<void> => {
  for (const serial of serials) {
    let word: OcspWord = 'unavailable'
    while (word === 'unavailable') {
      word = await party.ocsp(serial).catch((): OcspWord => 'unavailable')
      if (word === 'unavailable') await delay(20)
    }
    expect([serial, word]).toEqual([serial, 'revoked'])
  }
}

/** Whether the list that relying parties got last has them all. */
const listShows = (serials: readonly string[]) => {
  let looked: Uint8Array | undefined
  let missing = true
  return () => {
    const newest = evidence.crls.at(-1)
    if (newest !== undefined && newest !== looked) {
      const crl = parseCrl(newest)
      missing = serials.some(serial => crl.findRevoked(new Uint8Array(Buffer.from(serial, 'hex'))) === undefined)
      looked = newest
    }
    return !missing
  }
}

/** Refusals that a revocation of this round explains. */
const explained = (
  member: Member,
  outcome: Outcome,
  before: { instance: string; serial: string } | null,
  hit: readonly Victim[],
) =>
  outcome === 'answered' ||
  (['certificate_revoked', 'instance_revoked', 'token_revoked'].includes(outcome.refused) &&
    hit.some(({ by, value }) => value === (by === 'agent' ? member.agent : before?.[by])))

/** Resolves with the process that serves from now on. */
const survive = async (ambush: Ambush): Promise<CaProcess> => {
  if (ambush.kill === 'signer') {
    await ca.sprung()
    return ca
  }
  const killed = { code: null, signal: 'SIGKILL' }
  expect(await ca.ended).toEqual(killed)
  // Every start makes a list too: here the first one does not survive it.
  if (ambush.kill === 'both' && ambush.step.startsWith('crl')) {
    const again: Ambush = { ...ambush, kill: 'core' }
    expect(await spawnCa(home, 'crash', { STORY_AMBUSH: JSON.stringify(again) }).ended).toEqual(killed)
  }
  return startCa(home, 'crash')
}

const playRound = async (round: number, ambush: Ambush): Promise<void> => {
  for (const member of members) if (member.current() === null) member.join(await createToken(deps, member.agent))
  const contended = await createToken(deps, 'contended', contendedUses)
  const rivals = Array.from({ length: contenders }, () => createMember(deps, 'contended'))
  for (const rival of rivals) rival.join(contended)
  const hit = victimsOf(round)
  await ca.arm(ambush)

  const surviving = survive(ambush).then(next => {
    ca = next
  })
  const before = members.map(member => member.current()?.facts ?? null)
  // Revocations begin at once, after the first answers, and when half of them are there.
  let answers = 0
  const answered = async (count: number): Promise<void> => {
    while (answers < count) await delay(5)
  }
  const acting = [...members, ...rivals].map(member => member.act().finally(() => answers++))
  const revoking = hit.map(async (victim, i) => {
    await answered([0, 3, 20][i]!)
    const { serials } = await revoke(deps, victim)
    await askAtOnce(serials)
    return serials
  })
  const [outcomes, serials] = await Promise.all([Promise.all(acting), Promise.all(revoking), surviving])
  await until('the revocations of this round are published', listShows(serials.flat()))

  const unexplained = members.flatMap((member, i) =>
    explained(member, outcomes[i]!, before[i]!, hit) ? [] : [[member.agent, outcomes[i]]],
  )
  expect(unexplained).toEqual([])
  const won = outcomes.slice(members.length).filter(outcome => outcome === 'answered').length
  expect([won, outcomes.slice(members.length).filter(outcome => outcome !== 'answered')]).toEqual([
    contendedUses,
    Array(contenders - contendedUses).fill({ refused: 'token_reuse' }),
  ])
  leaveRevoked(outcomes, hit)
}

/** Whose identity ended enrols anew in the next round. */
const leaveRevoked = (outcomes: readonly Outcome[], hit: readonly Victim[]): void => {
  for (const [i, member] of members.entries()) {
    const facts = member.current()?.facts
    const ended = hit.some(({ by, value }) => value === (by === 'agent' ? member.agent : facts?.[by]))
    if (ended || outcomes[i] !== 'answered') member.leave()
  }
}

const judge = (): Promise<readonly string[]> => checkInvariants(home.paths.database, evidence, home.trusted)

describe(`${kills} kills`, () => {
  it.for(ambushes.map((ambush, i) => ({ ...ambush, round: i + 1 })))(
    'round $round: $kill killed at $step, time $nth',
    { timeout: 180_000 },
    async ({ round, ...ambush }, { skip }) => {
      // What comes after a failed round would tell of that round only.
      skip(broken, 'an earlier round failed')
      broken = true
      await playRound(round, ambush)
      expect(await judge()).toEqual([])
      // What a crash or a failed signature left is decided when the next request comes: nobody waits for a deadline.
      expect([...repeated].filter(code => !passing.includes(code))).toEqual([])
      broken = false
    },
  )
})

describe('after all of them', () => {
  it('OCSP says of each serial what the ledger has, and of nothing else than released ones that it is good', {
    timeout: 180_000,
  }, async () => {
    const { certificates } = readLedger(home.paths.database)
    const right = {
      issued: 'good',
      held: 'revoked',
      revoked: 'revoked',
      orphaned: 'revoked',
      void: 'unknown',
      intent: 'unknown',
    }
    const wrong: unknown[] = []
    const queue = [...certificates]
    const ask = async (): Promise<void> => {
      for (let row = queue.pop(); row !== undefined; row = queue.pop()) {
        const word = await party.ocsp(row.serial)
        if (word !== right[row.state]) wrong.push([row.serial, row.state, word])
      }
    }
    await Promise.all(Array.from({ length: 8 }, ask))
    expect(wrong).toEqual([])
    expect(certificates.length).toBeGreaterThan(kills * 40)
    // Otherwise the kills met nothing.
    expect(certificates.some(row => row.state === 'orphaned')).toBe(true)
  })

  it('OpenSSL accepts the newest list, which shows what the ledger lists', { timeout: 180_000 }, async () => {
    await home.admin.call('crlPublish', { body: {} })
    const der = await party.crl()
    expect([...newestList(readLedger(home.paths.database), der, Date.now())]).toEqual([])
    const directory = home.paths.home
    writeFileSync(join(directory, 'newest.crl'), der)
    writeFileSync(join(directory, 'issuing.pem'), encodePem('CERTIFICATE', home.trusted.issuing.der))
    const args = ['crl', '-inform', 'DER', '-in', 'newest.crl', '-CAfile', 'issuing.pem', '-noout', '-text']
    const { stdout, stderr } = spawnSync('openssl', args, { cwd: directory, encoding: 'utf8', maxBuffer: 2 ** 28 })
    expect(stderr).toBe('verify OK\n')
    const shown = new Set(
      [...stdout.matchAll(/Serial Number: ([0-9A-F]+)/g)].map(([, serial]) => serial!.toLowerCase()),
    )
    const revoked = evidence.acknowledged.flatMap(({ serials }) => serials)
    expect(revoked.filter(serial => !shown.has(serial))).toEqual([])
  })

  it('the signer counts no signature that the ledger does not know of', async () => {
    expect(await ca.reconcile()).toEqual([])
  })

  it('the server ends when it is asked to, and its ledger is whole', { timeout: 180_000 }, async () => {
    await watch.stop()
    expect(await ca.stop()).toEqual({ code: 0, signal: null })
    expect(await judge()).toEqual([])
    // Each round had a list of its own.
    expect(evidence.crls.length).toBeGreaterThanOrEqual(kills)
    expect(evidence.checkpoints.size).toBeGreaterThan(1)
  })
})
