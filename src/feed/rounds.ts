// Visits to streams that are due, in slices of a few milliseconds between which the event loop has its turn: five thousand readers must
// not hold up the one who enrols.
import type { Clock } from '../base/clock.ts'
import type { Stream } from './stream.ts'

export interface Rounds {
  add(stream: Stream): void
  addAll(streams: Iterable<Stream>): void
  remove(stream: Stream): void
}

/** Milliseconds of writing before others have their turn. */
const sliceMs = 4

/** @param visit returns whether there is more to do for this one; never throws */
export const createRounds = ({ monotonic }: Pick<Clock, 'monotonic'>, visit: (stream: Stream) => boolean): Rounds => {
  // Owned by this closure; in the order in which they are visited.
  const due = new Set<Stream>()
  let scheduled = false
  const slice = (): void => {
    scheduled = false
    const end = monotonic() + sliceMs
    for (const stream of due) {
      due.delete(stream)
      if (visit(stream)) due.add(stream)
      if (monotonic() >= end) break
    }
    schedule()
  }
  const schedule = (): void => {
    if (scheduled || due.size === 0) return
    scheduled = true
    setImmediate(slice)
  }
  return {
    add: stream => {
      due.add(stream)
      schedule()
    },
    addAll: streams => {
      for (const stream of streams) due.add(stream)
      schedule()
    },
    remove: stream => {
      due.delete(stream)
    },
  }
}
