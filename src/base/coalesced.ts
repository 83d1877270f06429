// Work that many may ask for and that is worth doing once for all of them: one run at a time, and one more for whoever asked while it
// went on.

/**
 * @returns the asking. A call gets the result of a run that began after the call, never of one that was already going on, and
 * shares it with every other call of that time.
 */
export const coalesced = <T>(work: () => Promise<T>): (() => Promise<T>) => {
  let running: Promise<T> | null = null
  let next: Promise<T> | null = null
  const start = (): Promise<T> => {
    next = null
    const run = Promise.resolve()
      .then(work)
      .finally(() => {
        if (running === run) running = null
      })
    running = run
    return run
  }
  return () => {
    if (next !== null) return next
    if (running === null) return start()
    next = running.then(start, start)
    return next
  }
}
