// Who enrolled when, and by which token: bounded, by what the audit log told since the start.

const maxAgents = 10_000
const maxTimes = 2000
const maxTokens = 20_000

export interface Enrolments {
  add(enrolled: {
    readonly agent: string
    readonly instance: string
    readonly tokenId: string | null
    readonly at: number
  }): void
  count(agent: string, since: number): number
  /** Instances that the token's holders made; newest last. */
  byToken(tokenId: string | null): readonly string[]
}

/** The longest untouched leaves first. */
const touch = <V>(map: Map<string, V>, key: string, make: () => V, bound: number): V => {
  const value = map.get(key) ?? make()
  map.delete(key)
  map.set(key, value)
  if (map.size > bound) map.delete(map.keys().next().value as string)
  return value
}

export const createEnrolments = (): Enrolments => {
  // Owned by this closure.
  const times = new Map<string, number[]>()
  const tokens = new Map<string, string[]>()
  return {
    add: ({ agent, instance, tokenId, at }) => {
      const list = touch(times, agent, () => [], maxAgents)
      list.push(at)
      if (list.length > maxTimes) list.shift()
      if (tokenId === null) return
      const made = touch(tokens, tokenId, () => [], maxTokens)
      if (!made.includes(instance)) made.push(instance)
      if (made.length > 100) made.shift()
    },
    count: (agent, since) => (times.get(agent) ?? []).filter(at => at > since).length,
    byToken: tokenId => (tokenId === null ? [] : (tokens.get(tokenId) ?? [])),
  }
}
