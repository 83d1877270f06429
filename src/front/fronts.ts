// All fronts of one core, as the listener that they stand for: it listens when each of them does, swaps its key in each, and is closed when
// the last one has answered what it took.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { LimitRates } from '../http/limits.ts'
import { type ListenAddress, maxConnections } from '../http/listener.ts'
import type { Credentials, TlsServer } from '../http/tls-server.ts'
import { createFrontSocket, type ExpectedFront } from './front-socket.ts'
import { createSupervised, type FrontReport } from './supervisor.ts'

export interface FrontsOptions {
  /** At least 1. */
  readonly count: number
  /** Path of the unix socket. */
  readonly socket: string
  readonly credentials: Credentials
  readonly handler: RequestListener
  readonly rates: LimitRates
  readonly clock: Clock
  readonly log: Log
  /** @see SupervisedDeps */
  readonly silentMs?: number
}

export interface Fronts extends Pick<TlsServer, 'listen' | 'close' | 'setCredentials'> {
  reports(): readonly FrontReport[]
}

/** Fronts of a core that was killed end by themselves; a busy machine takes its time. */
const leftoverMs = 10_000
const leftoverEveryMs = 50

const tryAddress = ({ host, port }: ListenAddress): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port }, () => {
      const { port: taken } = server.address() as AddressInfo
      server.close(() => resolve(taken))
    })
  })

/**
 * A port that nobody listens on: fronts share it among themselves, and would with any other program of this user that offers to share.
 * @param patient whether fronts of an earlier core may be there still
 */
const freePort = async (address: ListenAddress, patient: boolean): Promise<number> => {
  for (let waited = 0; ; waited += leftoverEveryMs) {
    try {
      return await tryAddress(address)
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (!taken || !patient || waited >= leftoverMs) throw error
    }
    await delay(leftoverEveryMs)
  }
}

/** What a secret is looked up by: comparing hashes tells nothing about a secret. */
const nameOf = (secret: string): string => createHash('sha256').update(secret).digest('hex')

export const createFronts = (options: FrontsOptions): Fronts => {
  const { count, clock, log, handler, rates } = options
  let { credentials } = options
  let address: ListenAddress & { readonly reusePort: boolean } = { host: '', port: 0, reusePort: false }
  let ending = false
  // A socket is left behind by a core that was killed, and by no other.
  const patient = existsSync(options.socket)
  // By the hash of its secret. Owned by this closure.
  const expected = new Map<string, ExpectedFront>()
  const socket = createFrontSocket({ handler, log, expected: secret => expected.get(nameOf(secret)) ?? null })
  const listening = { socket: false }
  const make = (index: number) =>
    createSupervised({
      socket: options.socket,
      silentMs: options.silentMs,
      clock,
      log: log.child({ front: index }),
      facts: () => ({ address, credentials, rates, maxConnections: Math.ceil(maxConnections / count) }),
      announce: (secret, front) => expected.set(nameOf(secret), front),
      forget: secret => expected.delete(nameOf(secret)),
    })
  let fronts: ReturnType<typeof make>[] = []

  return {
    listen: async asked => {
      const port = await freePort(asked, patient)
      address = { host: asked.host, port, reusePort: count > 1 }
      if (!listening.socket) await socket.listen(options.socket)
      listening.socket = true
      fronts = Array.from({ length: count }, (_, index) => make(index))
      try {
        await Promise.all(fronts.map(front => front.start()))
      } catch (error) {
        await Promise.all(fronts.map(front => front.drain(0)))
        throw error
      }
      return port
    },
    setCredentials: next => {
      // Throws where it does not fit, as each front would for itself, and none starts with it.
      createSecureContext({ key: next.key, cert: next.chain })
      credentials = next
      for (const front of fronts) front.setCredentials(next)
    },
    close: async graceMs => {
      if (ending) return
      ending = true
      await Promise.all(fronts.map(front => front.drain(graceMs)))
      if (listening.socket) await socket.close()
    },
    reports: () => fronts.map(front => front.report()),
  }
}
