// `agentca-agent exec -- CMD`: runs a program with an identity of its own in a directory that is in memory and gone when it ends, and
// ends the program when the CA takes the identity back or locks it. Signals and the exit code pass through.
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemTiming } from '../backoff.ts'
import { AgentError } from '../errors.ts'
import { type AgentIdentity, agentIdentity } from '../identity.ts'
import { afterChange, hooksOf } from './after-change.ts'
import type { DaemonIo } from './io.ts'
import { logOf } from './log.ts'
import { createMemoryDirectory, type MemoryDirectory } from './memory-directory.ts'
import { changeOptions, identityCommand, identityOptionsOf, invalid, oneOf, secondsOf, type Values } from './options.ts'

const { 'on-revoked': _, ...hookOptions } = changeOptions

export const execOptions = identityCommand({
  dir: { value: 'DIR', help: 'keep the identity in this directory instead of one in memory' },
  ...hookOptions,
  grace: {
    value: 'DURATION',
    help: 'from SIGTERM to SIGKILL when the identity is revoked or locked, 10s unless given',
  },
  storage: { value: 'KIND', help: 'memory: refuse to run where none is found; any (default): warn' },
})

const forwarded = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGCONT'] as const

/** What enrolment is done with is nothing for the program. */
const evidenceVariables = [
  'AGENTCA_TOKEN_FILE',
  'AGENTCA_TOKEN_FD',
  'AGENTCA_JWT_FILE',
  'AGENTCA_EVIDENCE_CERTIFICATE',
  'AGENTCA_EVIDENCE_KEY',
]

/**
 * A program is often a shell around the real one, which has to end with the identity as well: a process group of its own. Not at a terminal:
 * a group apart is not in its foreground, so Ctrl-C and job control would be lost.
 */
const hasOwnGroup = (): boolean => process.stdin.isTTY !== true

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

const start = (io: DaemonIo, [program, ...args]: readonly string[], directory: string): Promise<ChildProcess> =>
  new Promise((resolve, reject) => {
    const env = Object.fromEntries(Object.entries(io.env).filter(([name]) => !evidenceVariables.includes(name)))
    const child = spawn(program as string, args, {
      stdio: 'inherit',
      cwd: io.cwd,
      detached: hasOwnGroup(),
      env: { ...env, AGENTCA_DIR: directory },
    })
    child.once('spawn', () => resolve(child))
    child.once('error', error => {
      const { code } = error as NodeJS.ErrnoException
      reject(
        AgentError.of(
          'option_invalid',
          `cannot run ${program}: ${code === 'ENOENT' ? 'there is no such program' : error.message}`,
          {
            hint: 'agentca-agent exec [options] -- PROGRAM [ARGUMENTS]',
            facts: { exitCode: code === 'ENOENT' ? 127 : 126 },
          },
        ),
      )
    })
  })

interface Forwarding {
  /** What came before there was a program is told to it now. */
  to(child: ChildProcess): void
  end(): void
}

/** From before the program is started: it may be up and signalled before its start is known here. */
const forwardSignals = (): Forwarding => {
  let child: ChildProcess | null = null
  const early: NodeJS.Signals[] = []
  const handlers = forwarded.map(signal => {
    const handler = (): void => {
      // A terminal sends these to the whole group: the program has them already.
      const toGroup = ['SIGINT', 'SIGQUIT', 'SIGWINCH'].includes(signal)
      if (toGroup && process.stdin.isTTY === true) return
      if (child === null) early.push(signal)
      else child.kill(signal)
    }
    process.on(signal, handler)
    return [signal, handler] as const
  })
  return {
    to: started => {
      child = started
      for (const signal of early) started.kill(signal)
    },
    end: () => {
      for (const [signal, handler] of handlers) process.off(signal, handler)
    },
  }
}

/** Where an identity in memory may lie, best first. */
const memoryPlaces = (io: DaemonIo): readonly string[] =>
  ['/dev/shm', io.env.XDG_RUNTIME_DIR ?? ''].filter(each => each.startsWith('/'))

const directoryFor = async (io: DaemonIo, log: ReturnType<typeof logOf>, values: Values): Promise<MemoryDirectory> => {
  const storage = oneOf(values, 'storage', ['any', 'memory'])
  const directory = await createMemoryDirectory(memoryPlaces(io))
  if (directory.kept === 'in memory') return directory
  const hint = 'mount a tmpfs at /dev/shm (docker run --shm-size), or set XDG_RUNTIME_DIR to one'
  if (storage === 'memory') {
    await directory[Symbol.asyncDispose]()
    throw AgentError.of('directory_unwritable', 'there is no memory-backed file system for the key', { hint })
  }
  log.warn(
    { directory: directory.path, hint },
    'THE PRIVATE KEY LIES ON A DISK: no memory-backed file system was found',
  )
  return directory
}

interface Group {
  /** The program and whatever it started that stayed in its group. @returns false: none of them is left */
  kill(signal: NodeJS.Signals | 0): boolean
}

const groupOf = (child: ChildProcess): Group => {
  const pid = child.pid as number
  const isGroup = hasOwnGroup()
  return {
    kill: signal => {
      // A pid that is nobody's any more may be somebody else's; a group's stays taken while one of it lives.
      if (!isGroup) return child.exitCode === null && child.signalCode === null && child.kill(signal)
      try {
        return process.kill(-pid, signal)
      } catch (error) {
        // EPERM: another user's by now (setuid), out of reach.
        if (['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
        throw error
      }
    },
  }
}

const lookMs = 20

/** Ends the program when its identity may not be used any more. @returns why, once that has happened */
const endWith = (
  id: AgentIdentity,
  child: ChildProcess,
  graceMs: number,
): { because: () => AgentError | null; stop: () => Promise<void> } => {
  const group = groupOf(child)
  let because: AgentError | null = null
  let timer: NodeJS.Timeout | undefined
  let killed = false
  const end = (error: AgentError): void => {
    if (because !== null) return
    because = error
    group.kill('SIGTERM')
    // A stopped program takes its SIGTERM only when it goes on.
    group.kill('SIGCONT')
    timer = setTimeout(() => {
      group.kill('SIGKILL')
      killed = true
    }, graceMs)
  }
  const endings = [id.on('revoked', end), id.on('locked', end)]
  if (id.signal.aborted) end(id.signal.reason as AgentError)
  return {
    because: () => because,
    stop: async () => {
      for (const forget of endings) forget()
      // The program is gone; what it started has its grace too.
      while (because !== null && !killed && group.kill(0)) await sleep(lookMs)
      clearTimeout(timer)
    },
  }
}

/** @param command behind `--` @returns the exit code; the process ends by the program's own signal where that ended it */
export const exec = async (io: DaemonIo, values: Values, command: readonly string[]): Promise<number> => {
  if (command.length === 0)
    throw invalid('there is no command behind --', 'agentca-agent exec [options] -- PROGRAM [ARGUMENTS]')
  const options = await identityOptionsOf(io, values)
  const hooks = hooksOf(io, values)
  const graceMs = (secondsOf(values, 'grace') ?? 10) * 1000
  const log = logOf(io, values)
  await using memory = options.dir === undefined ? await directoryFor(io, log, values) : null
  const dir = options.dir ?? (memory?.path as string)
  const ended = await supervise(
    io,
    { ...options, dir, log },
    { command, graceMs, changed: () => afterChange(io, log, hooks, dir) },
  )
  await memory?.[Symbol.asyncDispose]()
  if (ended.code !== null) return ended.code
  const signal = ended.signal as NodeJS.Signals
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
  // Where the signal does not end this process, its number tells, as shells have it.
  return 128 + (constants.signals[signal] ?? 0)
}

interface Supervised {
  readonly command: readonly string[]
  readonly graceMs: number
  readonly changed: () => Promise<unknown>
}

const supervise = async (
  io: DaemonIo,
  options: Parameters<typeof agentIdentity>[0] & { readonly dir: string },
  { command, graceMs, changed }: Supervised,
): Promise<Ended> => {
  const early = new AbortController()
  const giveUp = (signal: NodeJS.Signals): void =>
    early.abort(AgentError.of('identity_closed', `${signal} before the start`))
  const endings = ['SIGTERM', 'SIGINT'] as const
  for (const signal of endings) process.on(signal, giveUp)
  await using id = await agentIdentity({ ...options, signal: early.signal }, { env: io.env, timing: systemTiming })
  let hooking: Promise<unknown> = Promise.resolve()
  id.on('renewed', () => {
    hooking = hooking.then(changed)
  })
  for (const signal of endings) process.off(signal, giveUp)
  const forwarding = forwardSignals()
  const child = await start(io, command, options.dir).catch(error => {
    forwarding.end()
    throw error
  })
  forwarding.to(child)
  const over = new Promise<Ended>(resolve => child.once('exit', (code, signal) => resolve({ code, signal })))
  const watch = endWith(id, child, graceMs)
  const ended = await over
  await watch.stop()
  forwarding.end()
  await hooking
  const because = watch.because()
  if (because !== null) throw because
  return ended
}
