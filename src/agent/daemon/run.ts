// `agentca-agent run`: keeps the identity of a directory alive for programs in any language, until it is stopped or the CA takes the
// identity back.
import { systemTiming } from '../backoff.ts'
import { createBootClock } from '../boot-clock.ts'
import { presentGeneration } from '../credential-directory.ts'
import { AgentError } from '../errors.ts'
import { type AgentIdentity, agentIdentity } from '../identity.ts'
import { afterChange, afterRevocation, hooksOf } from './after-change.ts'
import { relative } from './facts.ts'
import { type DaemonIo, exitCodeOf } from './io.ts'
import { logOf } from './log.ts'
import { changeOptions, directoryOptions, identityCommand, identityOptionsOf, invalid, type Values } from './options.ts'
import { createServiceManager } from './service-manager.ts'

export const runOptions = identityCommand({ ...directoryOptions, ...changeOptions })

/** The event loop of this process and the identity's own schedule stand still no longer than this before the watchdog is left alone. */
const stuckMs = 15_000

/** Resolves with the signal that ends the process. */
const stopped = (): Promise<NodeJS.Signals> =>
  new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
  })

const statusLine = (id: AgentIdentity): string => {
  const { state, expiresInSeconds } = id.status()
  const { spiffeId, facts } = id.current()
  return `${state}: ${spiffeId}, generation ${facts.generation}, ends ${relative(expiresInSeconds * 1000, 0)}`
}

/** @returns the exit code */
export const run = async (io: DaemonIo, values: Values): Promise<number> => {
  const options = await identityOptionsOf(io, values)
  const dir = options.dir ?? io.env.AGENTCA_DIR
  if (dir === undefined || dir === '')
    throw invalid('--dir is missing (or AGENTCA_DIR)', 'agentca-agent run --dir DIR …; agentca-agent exec needs none')
  const hooks = hooksOf(io, values)
  const log = logOf(io, values)
  const end = stopped()
  const ending = new AbortController()
  end.then(() => ending.abort(AgentError.of('identity_closed', 'stopped')))

  // The files can be there, and with them somebody who asks for others, before what answers it is.
  let early = false
  const tooEarly = (): void => {
    early = true
  }
  process.on('SIGHUP', tooEarly)
  const before = await presentGeneration(dir).catch(() => null)
  let id: AgentIdentity
  try {
    id = await agentIdentity({ ...options, dir, log, signal: ending.signal }, { env: io.env, timing: systemTiming })
  } catch (error) {
    process.off('SIGHUP', tooEarly)
    if (ending.signal.aborted) return 0
    throw error
  }
  // One hook at a time, in the order of the changes: two reloads at once are one too many.
  let hooking: Promise<unknown> = Promise.resolve()
  const changed = (): void => {
    hooking = hooking.then(() => afterChange(io, log, hooks, dir))
  }
  const clock = createBootClock()
  let seenAt = clock()
  const heart = setInterval(() => {
    seenAt = clock()
  }, 1000)
  const manager = createServiceManager(io, log, () => clock() - seenAt < stuckMs)
  const revoked = new Promise<AgentError>(resolve => id.on('revoked', resolve))
  if (id.signal.aborted) return exitCodeOf(id.signal.reason)
  id.on('renewed', changed)
  id.on('crls', path => {
    log.info({ path }, 'other revocation lists are in place')
    changed()
  })
  // Asked for while another process renewed here, and not forgotten.
  let owed = false
  const hup = (): void => {
    owed = id.status().state === 'following'
    log.info({}, owed ? 'SIGHUP: another process renews here; noted' : 'SIGHUP: renewing now')
    if (!owed) id.renew().catch(() => {})
  }
  id.on('status', ({ state }) => {
    manager.status(statusLine(id))
    if (owed && state === 'ok') hup()
  })
  process.on('SIGHUP', hup).off('SIGHUP', tooEarly)
  if (early) hup()
  try {
    if ((await presentGeneration(dir).catch(() => null)) !== before) changed()
    const { spiffeId, facts } = id.current()
    log.info({ serial: facts.serial, generation: facts.generation, dir }, `${spiffeId} is kept alive`)
    await hooking
    await manager.ready(statusLine(id))
    const over = await Promise.race([end, revoked])
    await manager.stopping()
    if (typeof over === 'string') return 0
    await hooking
    await afterRevocation(io, log, hooks, dir)
    throw over
  } finally {
    manager.end()
    clearInterval(heart)
    process.off('SIGHUP', hup)
    await id[Symbol.asyncDispose]()
    await hooking
  }
}
