// The way out to one reader: what its connection takes, and since when it takes nothing.
import type { Writable } from 'node:stream'

export interface Outlet {
  /** Written as one, whether there is room or not. @returns bytes */
  write(...pieces: readonly Uint8Array[]): number
  /** What `work` writes goes out together. */
  together(work: () => void): void
  end(last: Uint8Array): void
  destroy(): void
  /** The connection has more than it can take at once. */
  readonly full: boolean
  /** For so long; 0: it takes what it is given. */
  stalledMs(): number
}

/** @param onDrain there is room again */
export const createOutlet = (out: Writable, monotonic: () => number, onDrain: () => void): Outlet => {
  let fullAt: number | null = null
  out.on('drain', () => {
    fullAt = null
    onDrain()
  })
  return {
    write: (...pieces) => {
      let room = true
      let size = 0
      for (const piece of pieces) {
        room = out.write(piece)
        size += piece.length
      }
      if (!room) fullAt ??= monotonic()
      return size
    },
    together: work => {
      out.cork()
      try {
        work()
      } finally {
        out.uncork()
      }
    },
    end: last => {
      out.end(last)
    },
    destroy: () => {
      out.destroy()
    },
    get full() {
      return fullAt !== null
    },
    stalledMs: () => (fullAt === null ? 0 : monotonic() - fullAt),
  }
}
