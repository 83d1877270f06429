// Calls of nobody that the CA knows, by where they came from: an address without an identity is all there is of them. Bounded.

const maxStrangers = 1000
const forgottenAfterMs = 3_600_000

export interface Stranger {
  readonly source: string
  /** Of the one that was asked last. */
  readonly service: string
  readonly calls: number
  readonly first: number
  readonly last: number
}

export interface Strangers {
  add(source: string, service: string, count: number, at: number): void
  /** Of the last hour, most calls first. */
  list(now: number): readonly Stranger[]
}

export const createStrangers = (): Strangers => {
  // Owned by this closure; in the order of their last call.
  const strangers = new Map<string, Stranger>()
  return {
    add: (source, service, count, at) => {
      const known = strangers.get(source)
      strangers.delete(source)
      strangers.set(source, {
        source,
        service,
        calls: (known?.calls ?? 0) + count,
        first: known?.first ?? at,
        last: at,
      })
      if (strangers.size > maxStrangers) strangers.delete(strangers.keys().next().value as string)
    },
    list: now =>
      [...strangers.values()].filter(({ last }) => last > now - forgottenAfterMs).sort((a, b) => b.calls - a.calls),
  }
}
