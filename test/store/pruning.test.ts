// What expired long ago goes, and nothing is told differently of anything else: certificates, lineages, keys, tokens, counts.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { verifyChain } from '../../src/audit/chain.ts'
import { createExpiredPruner } from '../../src/ca/prune-expired.ts'
import type { IntentRecord, IssuanceFacts, IssuanceQuery } from '../../src/store/ports.ts'
import * as w from './make-ledger.ts'

const day = 86_400_000
const keepMs = 90 * day
const shortId = (n: number): string => n.toString(16).padStart(16, '0')
const longId = (n: number): string => n.toString(16).padStart(32, '0')

interface Step {
  readonly agent: number
  /** Which of the lineages so far goes on; the others begin one. */
  readonly renews: number | null
  readonly endsIn: number
  readonly fate: 'issued' | 'revoked' | 'void' | 'orphaned' | 'locked'
  readonly token: boolean
}

interface Played {
  readonly world: w.World
  readonly intents: readonly IntentRecord[]
  readonly tokens: readonly string[]
}

const end = async (world: w.World, intent: IntentRecord, fate: Step['fate']): Promise<void> => {
  const { ledger } = world
  const { serial } = intent
  if (fate === 'void') return ledger.issuance.recordVoid([{ serial, leaf: w.leaf('certificate_void') }])
  if (fate === 'orphaned')
    return ledger.issuance.recordOrphaned([{ serial, at: w.now, leaf: w.leaf('certificate_orphaned') }])
  await w.recordIssued(world, intent)
  if (fate === 'locked') await w.lock(world, intent.instanceId)
  if (fate === 'revoked')
    await ledger.revocations.revoke({
      ...{ selector: { by: 'serial', value: serial }, reason: 'superseded', at: w.now, expected: null },
      leaf: () => w.leaf('revoked'),
    })
}

const play = async (steps: readonly Step[]): Promise<Played> => {
  const world = await w.makeWorld()
  const agents = [world.agent, await w.addAgent(world.ledger, 'second')]
  const intents: IntentRecord[] = []
  const tokens: string[] = []
  for (const [i, { agent: which, renews, endsIn, fate, token }] of steps.entries()) {
    const agent = agents[which]!
    const of = { ...world, agent }
    const notAfter = w.now + endsIn
    const more = { notAfter, notBefore: notAfter - 400 * day, createdAt: w.now - 400 * day }
    const before = renews === null ? undefined : intents.findLast(({ instanceId }) => instanceId === longId(renews))
    const goesOn = before !== undefined && w.instanceOf(world, before.instanceId).state === 'active'
    const headless = goesOn && w.instanceOf(world, before.instanceId).headSerial === null
    if (goesOn && !headless && before.registrationId === agent.id)
      intents.push(w.renewalOf(of, { ...before, serial: w.instanceOf(world, before.instanceId).headSerial! }, more))
    else {
      const tokenId = token ? shortId(1000 + i) : null
      if (tokenId !== null) {
        await w.addToken(of, tokenId, 2, { expiresAt: notAfter, createdAt: w.now - 400 * day })
        tokens.push(tokenId)
      }
      intents.push(w.intentOf(of, { ...more, instanceId: longId(i), tokenId }))
    }
    await w.recordIntent(of, intents.at(-1)!)
    await end(of, intents.at(-1)!, fate)
  }
  return { world, intents, tokens }
}

/** What ended long ago and is kept, as the head of a lineage whose next attempt failed, may have lost what came before it. */
const withoutPast = <T extends IssuanceFacts['head']>(record: T): T =>
  record === null || record.notAfter >= w.now - keepMs ? record : { ...record, predecessor: null }

/** Without what is counted only when it is asked for. */
const plain = ({ liveInstances, liveInstancesBefore, ...facts }: IssuanceFacts) => ({
  ...facts,
  head: withoutPast(facts.head),
  counted: [liveInstances, liveInstancesBefore],
})

/** Everything that anybody is told of what has not ended, and of whom it belongs to. */
const told = ({ world, intents, tokens }: Played) => {
  const { ledger, issuer } = world
  const young = intents.filter(({ notAfter }) => notAfter >= w.now - keepMs)
  const facts = (evidence: IssuanceQuery['evidence'], keyHash = w.hashOf('new')) =>
    plain(ledger.issuance.facts({ evidence, keyHash, now: w.now }))
  return {
    certificates: young.map(({ serial }) => ledger.certificates.get(serial)),
    instances: young.map(({ instanceId }) => ledger.instances.get(instanceId)),
    states: ledger.status.states(
      issuer.id,
      young.map(({ serial }) => serial),
    ),
    renewals: young.map(({ serial }) => facts({ kind: 'renewal', presentedSerial: serial })),
    recoveries: young.map(({ keyHash }) => facts({ kind: 'recovery', provedKeyHash: keyHash, tokenHash: null })),
    counts: ledger.certificates.counts(w.now),
    live: ledger.instances.list({ liveAt: w.now, limit: 1000 }),
    lists: ledger.certificates.list({ liveAt: w.now, limit: 1000 }),
    entries: ledger.revocations.entries({ issuerId: issuer.id, since: w.now, after: null, limit: 1000 }),
    orphans: ledger.orphans.registrations({ after: 0, limit: 100 }),
    signatures: ledger.issuance.signatures(issuer.id),
    radius: tokens.map(value => {
      try {
        return ledger.revocations.blastRadius({ by: 'token', value }, w.now)
      } catch {
        return null
      }
    }),
    keyRadius: intents.map(({ keyHash: value }) => ledger.revocations.blastRadius({ by: 'key', value }, w.now)),
  }
}

const hitsOnly = (radius: ReturnType<typeof told>['radius']) =>
  radius.map(each =>
    each === null || each.certificates + each.intents === 0 ? null : { ...each, tokens: 0, instances: 0 },
  )

const prune = async ({ world }: Played, keep = keepMs): Promise<number> => {
  const clock = { now: () => w.now, monotonic: () => 0 }
  return createExpiredPruner({ clock, pruning: world.ledger.pruning, keepMs: keep }).turn()
}

const steps = fc.array(
  fc.record<Step>({
    agent: fc.constantFrom(0, 0, 1),
    renews: fc.option(fc.nat(6)),
    endsIn: fc.oneof(fc.integer({ min: -300 * day, max: -91 * day }), fc.integer({ min: -100 * day, max: 20 * day })),
    fate: fc.constantFrom<Step['fate']>('issued', 'issued', 'issued', 'revoked', 'void', 'orphaned', 'locked'),
    token: fc.boolean(),
  }),
  { minLength: 1, maxLength: 25 },
)

describe('what expired long ago', () => {
  it('goes without anybody being told otherwise of what has not, and its keys stay whose they were', async () => {
    let pruned = 0
    await fc.assert(
      fc.asyncProperty(steps, async all => {
        const played = await play(all)
        const { ledger } = played.world
        const before = told(played)
        const keys = () =>
          played.intents.map(({ keyHash }) => {
            const evidence = { kind: 'registration', subject: 'agent', name: 'crawler' } as const
            const { keySeenWith: seen } = ledger.issuance.facts({ evidence, keyHash, now: w.now })
            return seen === null || seen === 'issuer' ? seen : { of: seen.registrationId, released: seen.released }
          })
        const seen = keys()
        const leaves = ledger.audit.read(0, 1000).map(({ bytes, head }) => ({ bytes, head }))
        pruned += await prune(played)
        const after = told(played)
        expect({ ...after, radius: hitsOnly(after.radius), keyRadius: hitsOnly(after.keyRadius) }).toEqual({
          ...before,
          ...{ radius: hitsOnly(before.radius), keyRadius: hitsOnly(before.keyRadius) },
        })
        expect(keys()).toEqual(seen)
        expect(ledger.audit.read(0, 1000).map(({ bytes, head }) => ({ bytes, head }))).toEqual(leaves)
        // A second walk finds no more than heads that had to wait for the rest of their lineage.
        await prune(played)
        expect(await prune(played)).toBe(0)
        await ledger.close()
      }),
      { numRuns: 60 },
    )
    // About 130, by chance 100 or fewer.
    expect(pruned).toBeGreaterThan(40)
  }, 120_000)

  it('leaves of a fleet the newest certificate of each registration, and no lineage and no token of the others', async () => {
    const old = -200 * day
    const played = await play(
      Array.from({ length: 120 }, (_, i) => ({
        ...({ agent: i % 2, renews: i < 60 ? null : i - 60, endsIn: old + i, fate: 'issued', token: true } as const),
      })),
    )
    const { ledger } = played.world
    expect(await prune(played)).toBeGreaterThanOrEqual(118)
    await prune(played)
    const left = ledger.certificates.list({ limit: 1000 }).rows
    expect(left.map(({ serial }) => serial)).toEqual(
      [played.intents[119]!, played.intents[118]!].map(({ serial }) => serial),
    )
    expect(ledger.instances.list({ limit: 1000 })).toHaveLength(2)
    expect(ledger.tokens.list({ limit: 1000 }).length).toBeLessThanOrEqual(3)
    expect(verifyChain(ledger.audit.read(0, 1000)).findings.filter(({ kind }) => kind === 'leaf_changed')).toEqual([])
    // Rows of what went are nobody else's.
    const next = await w.issue(played.world, { instanceId: longId(900) })
    expect(ledger.certificates.get(next.serial)).toMatchObject({ instanceId: longId(900), predecessor: null })
    await ledger.close()
  })

  it('is no token’s holder any more, by either way of pruning it', async () => {
    const world = await w.makeWorld()
    const { ledger } = world
    const times = { createdAt: w.now - 400 * day, expiresAt: w.now - 300 * day }
    const evidence = { issuer: 'https://issuer.example', claims: {} } as never
    await w.addToken(world, shortId(1), 1, times)
    await w.addToken(world, shortId(2), 1, { ...times, evidence })
    await w.addToken(world, shortId(3))
    const held = () => [1, 2, 3].map(i => ledger.tokens.holderOf(w.hashOf(shortId(i)))?.id ?? null)
    expect(held()).toEqual([1, 2, 3].map(shortId))
    expect(await ledger.tokens.pruneEvidence({ before: w.now, limit: 10 })).toBe(1)
    expect(held()).toEqual([shortId(1), null, shortId(3)])
    expect(await ledger.pruning.tokens({ before: w.now, after: -1, limit: 10 })).toMatchObject({ removed: 1 })
    expect(held()).toEqual([null, null, shortId(3)])
    await ledger.close()
  })

  it('stays while it is an intent, whoever forgot it', async () => {
    const played = await play([{ agent: 0, renews: null, endsIn: day, fate: 'issued', token: false }])
    const { world } = played
    const forgotten = w.intentOf(world, { notAfter: w.now - 200 * day })
    await w.recordIntent(world, forgotten)
    await w.issue(world)
    expect(await prune(played)).toBe(0)
    expect(w.stateOf(world, forgotten.serial)).toBe('intent')
    await world.ledger.close()
  })

  it('is walked through again only after a rest, and from where the last turn ended', async () => {
    const played = await play(
      Array.from(
        { length: 60 },
        () => ({ agent: 0, renews: null, endsIn: -200 * day, fate: 'issued', token: false }) as const,
      ),
    )
    let now = 0
    let calls = 0
    const { pruning } = played.world.ledger
    const counted = {
      ...pruning,
      certificates: (step: Parameters<typeof pruning.certificates>[0]) => {
        calls++
        return pruning.certificates(step)
      },
    }
    // Every step takes longer than a turn.
    const clock = { now: () => w.now, monotonic: () => (now += 200) }
    const pruner = createExpiredPruner({ clock, pruning: counted, keepMs })
    const turns: number[] = []
    for (let i = 0; i < 8; i++) turns.push(await pruner.turn())
    expect(turns.reduce((sum, each) => sum + each, 0)).toBe(59)
    expect(turns.filter(each => each > 0).length).toBeGreaterThan(2)
    const soFar = calls
    expect(await pruner.turn()).toBe(0)
    expect(calls).toBe(soFar)
    now += 3_600_000
    for (let i = 0; i < 2; i++) await pruner.turn()
    expect(calls).toBeGreaterThan(soFar)
    await played.world.ledger.close()
  })
})
