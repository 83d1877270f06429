// Who was told of lately: the same rule says nothing again of the same agent or instance for a time. Bounded.

const maxKept = 20_000

export interface CoolDown {
  /** @returns whether it may be said at `at`; then it is quiet for `forMs` */
  take(key: string, at: number, forMs: number): boolean
  /** It may be said again at once. */
  end(key: string): void
}

export const createCoolDown = (): CoolDown => {
  // Owned by this closure; the longest untouched leaves first.
  const quietUntil = new Map<string, number>()
  return {
    take: (key, at, forMs) => {
      if ((quietUntil.get(key) ?? Number.NEGATIVE_INFINITY) > at) return false
      quietUntil.delete(key)
      quietUntil.set(key, at + forMs)
      if (quietUntil.size > maxKept) quietUntil.delete(quietUntil.keys().next().value as string)
      return true
    },
    end: key => {
      quietUntil.delete(key)
    },
  }
}
