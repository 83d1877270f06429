// What stories of a CA in a process of its own share that spoil something under it and let it start again: its home, agents that enrol and
// renew and note why they were turned away, and a relying party.
import { expect } from 'vitest'
import type { AgentError } from '../../src/agent/errors.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent } from './fleet.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'

export interface FleetStory extends AsyncDisposable {
  readonly home: StoryHome
  readonly party: RelyingParty
  readonly deps: FleetDeps
  /** Each attempt that an agent repeats; whoever looks at it empties it before. */
  readonly turnedAway: AgentError[]
  /** The one that was started last. */
  readonly ca: CaProcess
  start(env?: Readonly<Record<string, string>>): Promise<CaProcess>
  /** Registered, with a token to enrol with. */
  newcomer(name: string): Promise<Member>
  /** And enrolled. */
  joined(name: string): Promise<Member>
  /** What must hold of the ledger whatever happened. */
  checkLedger(): Promise<void>
}

export const serialOf = (member: Member): string => member.current()!.facts.serial

/** With a CA that has started. */
export const startFleetStory = async (): Promise<FleetStory> => {
  const home = await createStoryHome()
  const party = createRelyingParty(home)
  const ending = new AbortController()
  const turnedAway: AgentError[] = []
  const evidence = noEvidence()
  const onRetry = (error: AgentError): void => {
    turnedAway.push(error)
  }
  const deps = { home, evidence, signal: ending.signal, retryMs: 200, onRetry }
  let ca: CaProcess | undefined
  const newcomer = async (name: string): Promise<Member> => {
    await registerAgent(deps, name)
    const member = createMember(deps, name)
    member.join(await createToken(deps, name))
    return member
  }
  const story: FleetStory = {
    ...{ home, party, deps, turnedAway },
    get ca() {
      return ca as CaProcess
    },
    start: async env => {
      ca = await startCa(home, 'serve', env)
      return ca
    },
    newcomer,
    joined: async name => {
      const member = await newcomer(name)
      expect(await member.act()).toBe('answered')
      return member
    },
    checkLedger: async () => {
      expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
    },
    [Symbol.asyncDispose]: async () => {
      ending.abort()
      await ca?.stop()
      await party.close()
      home.remove()
    },
  }
  try {
    await story.start()
  } catch (error) {
    await story[Symbol.asyncDispose]()
    throw error
  }
  return story
}
