// What a lineage goes through at a running CA: answers that get lost after the commit, keys that somebody else has too, and what
// operators change while agents renew. The SDK on one side, `agentca serve` in a process of its own on the other.
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import type { AgentError } from '../../src/agent/errors.ts'
import { packageRoot } from '../../src/cli/home.ts'
import type { CertificateAnswer, InstanceAnswer, LeafAnswer, ProfileAnswer } from '../../src/schema/admin-answers.ts'
import { createAnswerCutter } from './answer-cutter.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createCandidate, type Holder, outcomeOf } from './holder.ts'
import { createOperator, type Operator } from './operator.ts'
import { until } from './until.ts'

let home: StoryHome
let profiles: string
let server: CaProcess
let operator: Operator
beforeAll(async () => {
  home = await createStoryHome()
  const directory = dirname(home.paths.home)
  profiles = join(directory, 'profiles')
  cpSync(join(packageRoot, 'ca-config', 'profiles'), profiles, { recursive: true })
  server = await startCa(home, 'serve', { AGENTCA_PROFILES: profiles })
  operator = createOperator(home.env, directory)
}, 180_000)
afterAll(async () => {
  await server?.stop()
  home?.remove()
})

const candidate = async (agent: string) => {
  const { token } = await operator.json<{ token: string }>(`token create --agent ${agent}`)
  return createCandidate({ url: server.line.api, rootFile: home.rootFile, token })
}
/** Instances of a new agent, enrolled one after the other. */
const enrolled = async <N extends number>(agent: string, count: N, owner = 'stories'): Promise<readonly Holder[]> => {
  await operator.json(`agent create ${agent} --owner ${owner}`)
  const holders: Holder[] = []
  for (let i = 0; i < count; i++) holders.push(await (await candidate(agent)).enrol())
  return holders
}

const instanceOf = (holder: Holder): string => holder.credential().facts.instance
const stateOf = async (holder: Holder): Promise<string> =>
  (await operator.json<InstanceAnswer>(`instance show ${instanceOf(holder)}`)).state
const certificatesOf = (agent: string) => operator.json<CertificateAnswer[]>(`cert list --agent ${agent} --all`)
const leavesOf = (event: string, subject: string) =>
  operator.json<LeafAnswer[]>(`audit tail --event ${event} --subject ${subject} -n 1000`)

describe('an answer that is lost after the commit', () => {
  it('costs nothing, 100 times: the same certificate on the next attempt, and no lock', async () => {
    const agents = Array.from({ length: 10 }, (_, i) => `loses-${i}`)
    let cuts = 0
    await Promise.all(
      agents.map(async agent => {
        await using way = await createAnswerCutter(server.line.api)
        await operator.json(`agent create ${agent} --owner stories`)
        const joining = await candidate(agent)
        /** Twice without an answer, then with: the ledger has one certificate more, and it is that one. */
        const repeated = async <T>(attempt: () => Promise<T>, serialOf: (done: T) => string): Promise<T> => {
          const before = await certificatesOf(agent)
          for (const cut of ['reset', 'torn'] as const) {
            way.cutNext(cut)
            expect(await outcomeOf(attempt())).toBe('ca_unreachable')
            const [newest, ...older] = await certificatesOf(agent)
            expect([newest?.state, older]).toEqual(['issued', before])
          }
          const [recorded] = await certificatesOf(agent)
          const done = await attempt()
          expect(serialOf(done)).toBe(recorded?.serial)
          expect(await certificatesOf(agent)).toEqual([recorded, ...before])
          return done
        }
        const holder = (
          await repeated(
            () => joining.enrol(way.url),
            each => each.credential().facts.serial,
          )
        ).by(way)
        for (let renewal = 0; renewal < 4; renewal++) await repeated(holder.renew, each => each.facts.serial)
        cuts += way.cuts
        expect(await leavesOf('lineage_locked', `instance:${instanceOf(holder)}`)).toEqual([])
      }),
    )
    expect(cuts).toBe(100)
    expect(await operator.json<InstanceAnswer[]>('instance list --state locked')).toEqual([])
  }, 180_000)

  it('costs nothing either when it was a recovery’s', async () => {
    await using way = await createAnswerCutter(server.line.api)
    const [holder] = (await enrolled('recovers', 1)) as [Holder]
    way.cutNext('reset')
    expect(await outcomeOf(holder.by(way).recover())).toBe('ca_unreachable')
    expect((await holder.recover()).facts.instance).toBe(instanceOf(holder))
    expect((await holder.renew()).facts.instance).toBe(instanceOf(holder))
  })
})

/** The refusal itself, for its hint. */
const refusalOf = (attempt: Promise<unknown>): Promise<AgentError> =>
  attempt.then(
    () => {
      throw new Error('expected a refusal')
    },
    (error: AgentError) => error,
  )

describe('a key that two have', () => {
  /** Both renewed from the same certificate; who came first got a certificate that the other one's replaced. */
  const split = async (agent: string, first: 'thief' | 'owner') => {
    const [owner, bystander] = (await enrolled(agent, 2)) as [Holder, Holder]
    const thief = owner.steal()
    const order = first === 'thief' ? [thief, owner] : [owner, thief]
    const serials: string[] = []
    for (const holder of order) serials.push((await holder.renew()).facts.serial)
    expect(await operator.json(`cert show ${serials[0]}`)).toMatchObject({ state: 'revoked', reason: 'superseded' })
    return { owner, thief, bystander }
  }

  const expectLocked = async (agent: string, { owner, thief, bystander }: Awaited<ReturnType<typeof split>>) => {
    const locks = await leavesOf('lineage_locked', `instance:${instanceOf(owner)}`)
    expect([await stateOf(owner), locks.length]).toEqual(['locked', 1])
    for (const holder of [owner, thief]) {
      const { code, status, hint } = await refusalOf(holder.renew())
      expect([code, status, hint]).toEqual(['instance_locked', 403, `agentca instance unlock ${instanceOf(owner)}`])
      expect(await outcomeOf(holder.recover())).toBe('instance_locked')
    }
    // Nothing of this instance is good for anybody, whoever holds it.
    const own = (await certificatesOf(agent)).filter(each => each.instance === instanceOf(owner))
    const held = Array.from(own.slice(1), () => 'held')
    expect(own.map(each => each.state).toSorted()).toEqual([...held, 'revoked'])
    expect(await outcomeOf(bystander.renew())).toBe('ok')
    expect(await stateOf(bystander)).toBe('active')
  }

  it.each([
    ['thief', 'thief'],
    ['thief', 'owner'],
    ['owner', 'thief'],
    ['owner', 'owner'],
  ] as const)(
    'locks that instance and no other within one cycle: the %s renewed first, then the %s',
    async (first, next) => {
      const agent = `stolen-${first}-${next}`
      const cast = await split(agent, first)
      const { owner, thief } = cast
      const outcomes: string[] = []
      for (const holder of next === 'thief' ? [thief, owner] : [owner, thief])
        outcomes.push(await outcomeOf(holder.renew()))
      // Whoever renewed last holds what counts, and goes on until the other one comes.
      expect(outcomes).toEqual(first === next ? ['lineage_conflict', 'instance_locked'] : ['ok', 'lineage_conflict'])
      await expectLocked(agent, cast)
    },
  )

  it('is unlocked by the command that the refusal names, and goes on with the last registered key', async () => {
    const { owner, thief } = await split('unlocked', 'thief')
    expect(await outcomeOf(thief.renew())).toBe('lineage_conflict')
    const { hint } = await refusalOf(owner.renew())
    expect((await operator.run(hint?.replace(/^agentca /, '') ?? '')).code).toBe(0)
    // The thief's key was replaced before: it proves nothing any more, and asking with it locks nothing.
    expect(await outcomeOf(thief.recover())).toBe('recovery_not_allowed')
    expect(await outcomeOf(owner.recover())).toBe('ok')
    expect(await outcomeOf(owner.renew())).toBe('ok')
    expect(await outcomeOf(thief.recover())).toBe('recovery_not_allowed')
    expect(await stateOf(owner)).toBe('active')
  })

  it('is unlocked and then replaced where the thief holds the last registered key', async () => {
    const { owner, thief } = await split('thief-last', 'owner')
    expect(await outcomeOf(owner.renew())).toBe('lineage_conflict')
    await operator.json(`instance unlock ${instanceOf(owner)}`)
    // The SDK recovers after a lock, because renewing with what it has would lock again.
    expect(await outcomeOf(owner.recover())).toBe('recovery_not_allowed')
    expect(await stateOf(owner)).toBe('active')
    await operator.json(`instance revoke ${instanceOf(owner)} --reason keyCompromise --confirm 2`)
    expect([await outcomeOf(thief.renew()), await outcomeOf(thief.recover())]).toEqual([
      'instance_revoked',
      'instance_revoked',
    ])
    expect(await outcomeOf((await candidate('thief-last')).enrol())).toBe('ok')
  })

  it('recovers as often as its profile allows, and each time is written down', async () => {
    const [holder] = (await enrolled('often', 1)) as [Holder]
    const outcomes: string[] = []
    for (let i = 0; i < 4; i++) outcomes.push(await outcomeOf(holder.recover()))
    expect(outcomes).toEqual(['ok', 'ok', 'ok', 'recovery_limit_reached'])
    expect(await outcomeOf(holder.renew())).toBe('ok')
    const intents = await leavesOf('intent_recorded', 'agent:often')
    expect(intents.filter(({ content }) => content?.op === 'recover')).toHaveLength(3)
  })
})

describe('what an operator changes', () => {
  it('by holding and releasing an agent is felt at the very next renewal, and costs nothing', async () => {
    const [holder] = (await enrolled('held', 1)) as [Holder]
    await operator.json('agent hold held')
    const { code, hint } = await refusalOf(holder.renew())
    expect([code, hint]).toEqual(['registration_held', 'agentca agent release held'])
    expect((await operator.run('agent release held')).code).toBe(0)
    expect((await holder.renew()).facts.generation).toBe(2)
  })

  it('by lowering a quota is felt at the very next renewal by those who came last', async () => {
    const holders = await enrolled('fleet', 3)
    const renewals = async () => {
      const outcomes: string[] = []
      for (const holder of holders) outcomes.push(await outcomeOf(holder.renew()))
      return outcomes
    }
    expect(await renewals()).toEqual(['ok', 'ok', 'ok'])
    await operator.json('agent update fleet --instances 2')
    expect(await renewals()).toEqual(['ok', 'ok', 'instance_limit_reached'])
    await operator.json('agent update fleet --instances 1')
    expect(await renewals()).toEqual(['ok', 'instance_limit_reached', 'instance_limit_reached'])
    // A place that becomes free goes to the next one.
    await operator.json(`instance revoke ${instanceOf(holders[0]!)} --reason cessationOfOperation --confirm 4`)
    expect(await renewals()).toEqual(['instance_revoked', 'ok', 'instance_limit_reached'])
    await operator.json('agent update fleet --instances default')
    expect(await renewals()).toEqual(['instance_revoked', 'ok', 'ok'])
  })

  it('by retiring an owner is felt at the very next renewal, until somebody else answers for the agent', async () => {
    const [holder] = (await enrolled('orphaned', 1, 'leaver')) as [Holder]
    await operator.json('owner gone leaver --yes')
    expect(await outcomeOf(holder.renew())).toBe('registration_held')
    const refused = await operator.run('agent release orphaned -o json')
    expect([refused.code, JSON.parse(refused.err)]).toEqual([5, expect.objectContaining({ code: 'owner_gone' })])
    await operator.json('agent update orphaned --owner stories')
    await operator.json('agent release orphaned')
    expect((await holder.renew()).facts.generation).toBe(2)
  })

  it('by retiring an agent ends its renewals for good', async () => {
    const [holder] = (await enrolled('ended', 1)) as [Holder]
    await operator.json('agent retire ended --yes')
    expect([await outcomeOf(holder.renew()), await outcomeOf(holder.recover())]).toEqual([
      'registration_retired',
      'registration_retired',
    ])
  })
})

describe('a profile', () => {
  const write = (name: string, text: string): void => writeFileSync(join(profiles, `${name}.yaml`), text)
  const show = (name: string) => operator.json<ProfileAnswer>(`profile show ${name}`)
  const reload = async (name: string): Promise<void> => {
    const { hash } = await show(name)
    server.child.kill('SIGHUP')
    await until(`another profile ${name}`, async () => (await show(name)).hash !== hash)
  }

  it('that becomes tighter changes the very next renewal', async () => {
    write('tightened', 'kind: agent\nlifetime: 1h\n')
    server.child.kill('SIGHUP')
    await until('a new profile', async () => (await operator.run('profile show tightened')).code === 0)
    await operator.json('agent create tightened --owner stories --profile tightened')
    const holder = await (await candidate('tightened')).enrol()
    const lifeOf = ({ facts }: Credential): number => (Date.parse(facts.notAfter) - Date.parse(facts.notBefore)) / 1000
    expect(lifeOf(await holder.renew())).toBe(3660)

    write('tightened', 'kind: agent\nlifetime: 10m\nkeyAlgorithms: [P-384]\n')
    await reload('tightened')
    const { code, status } = await refusalOf(holder.renew())
    expect([code, status]).toEqual(['key_not_accepted', 403])
    expect(lifeOf(await holder.by({ keyAlgorithm: 'P-384' }).renew())).toBe(660)
    const reloads = await operator.json<LeafAnswer[]>('audit tail --event profile_reloaded')
    expect(reloads.map(({ content }) => content?.profile)).toEqual(['tightened', 'tightened'])
  })

  it('that is gone, or for another kind, while agents use it is refused; it names them, and the old one goes on', async () => {
    write('needed', 'kind: agent\n')
    await until('a new profile', async () => {
      server.child.kill('SIGHUP')
      return (await operator.run('profile show needed')).code === 0
    })
    await operator.json('agent create needy --owner stories --profile needed')
    const holder = await (await candidate('needy')).enrol()
    const refused = async (says: string): Promise<void> => {
      const log = home.log().length
      server.child.kill('SIGHUP')
      await until('a refusal in the log', () => home.log().slice(log).includes('nothing reloaded'))
      for (const part of [says, 'agent needy', 'agentca agent update NAME --profile OTHER'])
        expect(home.log().slice(log)).toContain(part)
    }
    rmSync(join(profiles, 'needed.yaml'))
    await refused('needed.yaml: this profile is gone')
    write('needed', 'kind: service\n')
    await refused('needed.yaml: this profile is for kind service now')
    expect(await outcomeOf(holder.renew())).toBe('ok')
    rmSync(join(profiles, 'needed.yaml'))
    await operator.json('agent update needy --profile agent')
    server.child.kill('SIGHUP')
    await until('the profile is gone', async () => (await operator.run('profile show needed')).code === 3)
  })

  it('that is bad is refused with all its faults, and the old ones go on', async () => {
    const [holder] = (await enrolled('steady', 1)) as [Holder]
    const before = await operator.json<ProfileAnswer[]>('profile list')
    write('agent', 'kind: agent\nlifetime: 3d\nkeyAlgorithms: [P-224]\ncolour: red\n')
    write('worse', 'kind: robot\n')
    const log = home.log().length
    server.child.kill('SIGHUP')
    await until('a refusal in the log', () => home.log().slice(log).includes('nothing reloaded'))
    const said = home.log().slice(log)
    for (const fault of ['agent.yaml:keyAlgorithms', 'agent.yaml:colour', 'worse.yaml:kind'])
      expect(said).toContain(fault)
    expect(await operator.json('profile list')).toEqual(before)
    expect(await outcomeOf(holder.renew())).toBe('ok')

    cpSync(join(packageRoot, 'ca-config', 'profiles', 'agent.yaml'), join(profiles, 'agent.yaml'))
    rmSync(join(profiles, 'worse.yaml'))
    write('better', 'kind: agent\n')
    server.child.kill('SIGHUP')
    await until('a new profile', async () => (await operator.run('profile show better')).code === 0)
    expect(await outcomeOf(holder.renew())).toBe('ok')
  })
})
