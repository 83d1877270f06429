// OCSP answers that are signed before somebody waits for them: a bounded queue behind everything else the signer has to do. What does
// not fit, or fails, is signed when it is asked for.
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { AskedCertificate } from './ocsp-cache.ts'

export interface BackgroundDeps {
  readonly log: Log
  readonly sign: (asked: AskedCertificate) => Promise<void>
}

export interface Background {
  /** Does nothing when it is queued or being signed already. Returns at once. */
  add(key: string, asked: AskedCertificate): void
  readonly size: number
  /** Forgets what waits, and waits for what is being signed. */
  close(): Promise<void>
}

const slots = 16
const maxQueued = 20_000

export const createBackground = ({ log, sign }: BackgroundDeps): Background => {
  // Owned by this closure, changed only synchronously.
  const queue = new Map<string, AskedCertificate>()
  const running = new Map<string, Promise<void>>()
  let closed = false

  const signNext = ([key, asked]: readonly [string, AskedCertificate]): void => {
    queue.delete(key)
    const { serial } = asked
    const work = sign(asked)
      .catch((error: unknown) => log.debug({ serial, reason: messageOf(error) }, 'no OCSP answer signed ahead'))
      .finally(() => {
        running.delete(key)
        pump()
      })
    running.set(key, work)
  }

  const pump = (): void => {
    for (const next of queue) {
      if (running.size >= slots) return
      signNext(next)
    }
  }

  return {
    add: (key, asked) => {
      if (closed || queue.size >= maxQueued || queue.has(key) || running.has(key)) return
      queue.set(key, asked)
      pump()
    },
    get size() {
      return queue.size
    },
    close: async () => {
      closed = true
      queue.clear()
      await Promise.all(running.values())
    },
  }
}
