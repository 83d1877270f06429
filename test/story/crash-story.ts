// A CA whose processes are killed while forty agents and some ACME clients enrol, renew and order and operators revoke; started again each
// time, asked again by all, and judged from outside by invariants.ts. What is killed when is the caller's (crash-plan.ts); a round throws
// with what was not as it must be.
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { parseCrl } from '../../src/pki/crl.ts'
import { type CaProcess, createStoryHome, type StoryHome, spawnCa, startCa } from './ca-process.ts'
import { createOrderClient, type OrderClient } from './crash-orders.ts'
import { below, orderClients, ordersPerClient, type PlannedKill, type Random } from './crash-plan.ts'
import type { Ambush } from './crash-server.ts'
import { createMember, createToken, type FleetDeps, type Member, type Outcome, registerAgent, revoke } from './fleet.ts'
import { type Acknowledged, checkInvariants, type Evidence, noEvidence } from './invariants.ts'
import { createRelyingParty, type OcspWord, type RelyingParty, type Watch, watchStatus } from './relying-party.ts'
import { until } from './until.ts'

const agentNames = Array.from({ length: 10 }, (_, i) => `fleet-${i}`)
const membersPerAgent = 4
const contenders = 10
const contendedUses = 7
const orderAgent = 'orders'

type Victim = Pick<Acknowledged, 'by' | 'value'>

export interface CrashStory {
  readonly home: StoryHome
  readonly evidence: Evidence
  readonly party: RelyingParty
  readonly watch: Watch
  ca(): CaProcess
  /** One kill and everything around it, judged. @throws AssertionError, or Error for what never came */
  playRound(planned: PlannedKill): Promise<void>
  /** @returns every violation of an invariant */
  judge(): Promise<readonly string[]>
  /** The home is left: whoever wants to look into it removes it afterwards. */
  end(): Promise<void>
}

/** Nobody there, nobody who could sign, or a revocation that came in between. */
const passing = ['ca_unreachable', 'signer_unavailable', 'not_released']

/** Whoever was told that something is revoked is never shown an answer from before. */
const askAtOnce = async (party: RelyingParty, serials: readonly string[]): Promise<void> => {
  for (const serial of serials) {
    let word: OcspWord = 'unavailable'
    while (word === 'unavailable') {
      word = await party.ocsp(serial).catch((): OcspWord => 'unavailable')
      if (word === 'unavailable') await delay(20)
    }
    assert.deepEqual([serial, word], [serial, 'revoked'])
  }
}

/** Whether the list that relying parties got last has them all. */
const listShows = ({ crls }: Evidence, serials: readonly string[]) => {
  let looked: Uint8Array | undefined
  let missing = true
  return () => {
    const newest = crls.at(-1)
    if (newest !== undefined && newest !== looked) {
      const crl = parseCrl(newest)
      missing = serials.some(serial => crl.findRevoked(new Uint8Array(Buffer.from(serial, 'hex'))) === undefined)
      looked = newest
    }
    return !missing
  }
}

interface Held {
  readonly agent: string
  readonly instance: string | undefined
  readonly serial: string | undefined
}

const isHit = (held: Held, hit: readonly Victim[]): boolean => hit.some(({ by, value }) => value === held[by])

/** Refusals that a revocation of this round explains. */
const isExplained = (outcome: Outcome, held: Held, hit: readonly Victim[]): boolean =>
  outcome === 'answered' ||
  (['certificate_revoked', 'instance_revoked', 'token_revoked', 'unauthorized'].includes(outcome.refused) &&
    isHit(held, hit))

const heldBy = (member: Member): Held => {
  const facts = member.current()?.facts
  return { agent: member.agent, instance: facts?.instance, serial: facts?.serial }
}

const heldByClient = (client: OrderClient): Held => ({
  agent: orderAgent,
  instance: client.account() ?? undefined,
  serial: undefined,
})

/** Three in each round: an instance, a serial, a whole agent; at times also an ACME account. Before anybody has one, agents only. */
const victimsOf = (random: Random, members: readonly Member[], clients: readonly OrderClient[]): readonly Victim[] => {
  const holders = members.flatMap(member => member.current()?.facts ?? [])
  const agent = (): Victim => ({ by: 'agent', value: agentNames[below(random, agentNames.length)]! })
  const held = (by: 'instance' | 'serial'): Victim =>
    holders.length === 0 ? agent() : { by, value: holders[below(random, holders.length)]![by] }
  const client = clients[below(random, clients.length * 2)]
  const account = client?.account() ?? null
  return [
    held('instance'),
    held('serial'),
    agent(),
    ...(account === null ? [] : [{ by: 'instance', value: account } as const]),
  ]
}

/** After so many answers each revocation begins: at once, after the first ones, and when half of them are there. */
const afterAnswers = [0, 3, 20, 10]

/** How long a step may still come when everybody was answered. */
const afterEverybodyMs = 5_000

/**
 * A step that a refusal kept from being reached often enough is not waited for when everybody was answered: the kill comes then. Lists are
 * made after everybody, and each round makes some.
 * @returns the process that serves from now on
 */
const survive = async (
  home: StoryHome,
  ca: CaProcess,
  ambush: Ambush,
  everybody: Promise<void>,
): Promise<CaProcess> => {
  const isCertain = 'step' in ambush && ambush.step.startsWith('crl')
  const missed = isCertain ? new Promise<never>(() => {}) : everybody.then(() => delay(afterEverybodyMs))
  if (ambush.kill === 'signer') {
    await Promise.race([ca.sprung(), missed])
    return ca
  }
  const killed = { code: null, signal: 'SIGKILL' }
  void missed.then(() => ca.child.kill('SIGKILL'))
  assert.deepEqual(await ca.ended, killed)
  // Every start makes a list too: here the first one does not survive it.
  if (ambush.kill === 'both' && 'step' in ambush && ambush.step.startsWith('crl')) {
    const again: Ambush = { ...ambush, kill: 'core' }
    assert.deepEqual(await spawnCa(home, 'crash', { STORY_AMBUSH: JSON.stringify(again) }).ended, killed)
  }
  return startCa(home, 'crash')
}

export const createCrashStory = async (random: Random): Promise<CrashStory> => {
  const home = await createStoryHome({ AGENTCA_ACME_ORDERS_BURST: '10000000', AGENTCA_ACME_MAXOPENORDERS: '100000' })
  let ca = await startCa(home, 'crash')
  const evidence = noEvidence()
  const party = createRelyingParty(home)
  const watch = watchStatus(party, evidence)
  const ending = new AbortController()
  /** Answers after which somebody asked again. */
  const repeated = new Set<string>()
  const deps: FleetDeps = {
    ...{ home, evidence, signal: ending.signal, retryMs: 100 },
    onRetry: error => repeated.add(error.code),
  }
  for (const name of [...agentNames, 'contended', orderAgent]) await registerAgent(deps, name)
  const members = agentNames.flatMap(name => Array.from({ length: membersPerAgent }, () => createMember(deps, name)))
  const clients = await Promise.all(Array.from({ length: orderClients }, () => createOrderClient(deps, orderAgent)))
  const judge = () => checkInvariants(home.paths.database, evidence, home.trusted)

  /** Whose identity ended enrols anew in the next round. */
  const leaveRevoked = (outcomes: readonly Outcome[], hit: readonly Victim[]): void => {
    for (const [i, member] of members.entries())
      if (isHit(heldBy(member), hit) || outcomes[i] !== 'answered') member.leave()
    for (const client of clients) if (isHit(heldByClient(client), hit)) client.leave()
  }

  const prepare = async (): Promise<readonly Member[]> => {
    for (const member of members) if (member.current() === null) member.join(await createToken(deps, member.agent))
    const contended = await createToken(deps, 'contended', contendedUses)
    const rivals = Array.from({ length: contenders }, () => createMember(deps, 'contended'))
    for (const rival of rivals) rival.join(contended)
    return rivals
  }

  let round = 0
  const playRound: CrashStory['playRound'] = async ({ ambush, ordersFirst }) => {
    round++
    const rivals = await prepare()
    for (const [i, client] of clients.entries()) if ((i + round) % 2 === 0) client.leave()
    const hit = victimsOf(random, members, clients)
    await ca.arm(ambush)
    const everybody = Promise.withResolvers<void>()
    const surviving = survive(home, ca, ambush, everybody.promise).then(next => {
      ca = next
    })
    const held = [...members.map(heldBy), ...clients.map(heldByClient)]
    let answers = 0
    const answered = async (count: number): Promise<void> => {
      while (answers < count) await delay(5)
    }
    const count = () => answers++
    const ordering = clients.map(client => client.act(ordersPerClient))
    // Orders that are refused, after a revocation, do not reach the step: then the others do.
    const othersBegin = ordersFirst ? Promise.race([surviving, Promise.allSettled(ordering)]) : Promise.resolve()
    const acting = [...members, ...rivals].map(async member => {
      await othersBegin
      return member.act().finally(count)
    })
    const revoking = hit.map(async (victim, i) => {
      await othersBegin
      await answered(afterAnswers[i]!)
      const { serials } = await revoke(deps, victim)
      await askAtOnce(party, serials)
      return serials
    })
    void Promise.allSettled([...acting, ...ordering, ...revoking]).then(() => everybody.resolve())
    const [acted, ordered, serials] = await Promise.all([
      Promise.all(acting),
      Promise.all(ordering),
      Promise.all(revoking),
      surviving,
    ])
    await until('the revocations of this round are published', listShows(evidence, serials.flat()))

    const outcomes = [...acted.slice(0, members.length), ...ordered]
    const unexplained = outcomes.flatMap((outcome, i) =>
      isExplained(outcome, held[i]!, hit) ? [] : [[held[i]!.agent, outcome]],
    )
    assert.deepEqual(unexplained, [])
    const contended = acted.slice(members.length)
    const lost = contended.filter(outcome => outcome !== 'answered')
    assert.deepEqual(lost, Array(contenders - contendedUses).fill({ refused: 'token_reuse' }))
    leaveRevoked(outcomes, hit)
    assert.deepEqual(await judge(), [])
    // What a crash or a failed signature left is decided when the next request comes: nobody waits for a deadline.
    assert.deepEqual(
      [...repeated].filter(code => !passing.includes(code)),
      [],
    )
  }

  return {
    home,
    evidence,
    party,
    watch,
    ca: () => ca,
    playRound,
    judge,
    end: async () => {
      ending.abort()
      for (const client of clients) client.close()
      await watch.stop()
      await ca.stop()
      await party.close()
    },
  }
}
