// Keeps so many fronts running: starts each with a secret of its own, tells it what to do once it has shown it, starts another when one
// ends, with backoff, and kills one that does not answer. How requests get from a front to the application is front-socket.ts.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createAttention } from '../base/attention.ts'
import { utf8 } from '../base/bytes.ts'
import { followLog } from '../base/child-output.ts'
import type { Clock } from '../base/clock.ts'
import { withoutCoreDumps } from '../base/core-limit.ts'
import type { Log } from '../base/log.ts'
import type { Credentials } from '../http/tls-server.ts'
import type { StartFacts } from './front.ts'
import type { ExpectedFront, FrontChannel } from './front-socket.ts'
import type { FromFront } from './protocol.ts'

export interface FrontReport {
  readonly pid: number | null
  readonly listening: boolean
  readonly starts: number
  readonly connections: number
  readonly rssBytes: number
}

export interface Supervised extends ExpectedFront {
  /** Resolves when it listens the first time. @throws Error with the code of the failure */
  start(): Promise<void>
  setCredentials(credentials: Credentials): void
  /** Resolves when the process is gone. */
  drain(graceMs: number): Promise<void>
  report(): FrontReport
}

export interface SupervisedDeps {
  readonly socket: string
  readonly clock: Clock
  readonly log: Log
  /** As they are when a process starts. */
  readonly facts: () => StartFacts
  /** Whom the socket is to take for which front from now on. */
  readonly announce: (secret: string, front: ExpectedFront) => void
  readonly forget: (secret: string) => void
  /** How long a front that listens may say nothing before it is killed; default 20,000. */
  readonly silentMs?: number | undefined
}

const backoffMs = [50, 100, 250, 500, 1000, 2000, 5000]
/** A front that lived for so long starts again at once. */
const settledMs = 10_000
const pingMs = 2_000
/** Of a machine that is far behind, too. */
const defaultSilentMs = 20_000
/** A process that starts says nothing for as long as the machine takes to load it. */
const startMs = 60_000
/** Beyond the time that it is given, for a process to end. */
const endMs = 3_000

/** The compiled form when this file is compiled, the source when it is not. */
const entryPoint = (): string =>
  fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url))

/** This package's code and what it imports, wherever it is installed; not its directory in a checkout, where a home may lie. */
const codeOf = (entry: string): readonly string[] => {
  const root = dirname(dirname(dirname(entry)))
  const packages = `${sep}node_modules${sep}`
  const at = root.lastIndexOf(packages)
  if (at >= 0) return [root.slice(0, at + packages.length - 1)]
  return ['src', 'dist', 'node_modules', 'package.json'].map(name => join(root, name))
}

/**
 * Node's permission model: whoever takes over a front by what it parses reads no PIN, no token and no ledger of the same user, writes
 * nothing and starts nothing. A front has no native module, which would not be bound by it, and needs no fsync, which it takes away.
 */
export const confinementOf = (entry: string): readonly string[] => [
  '--permission',
  ...codeOf(entry).map(path => `--allow-fs-read=${path}`),
  // Before Node 25 the network is not among what it closes.
  ...(process.allowedNodeEnvironmentFlags.has('--allow-net') ? ['--allow-net'] : []),
  '--disable-warning=ExperimentalWarning',
]

const spawnFront = (): ChildProcess => {
  const { NODE_OPTIONS: _, ...inherited } = process.env
  // Settings are the core's: it tells a front what it has to know.
  const env = Object.fromEntries(Object.entries(inherited).filter(([name]) => !name.startsWith('AGENTCA_')))
  const entry = entryPoint()
  const flags = [
    '--disable-sigusr1',
    '--disallow-code-generation-from-strings',
    '--report-exclude-env',
    ...confinementOf(entry),
  ]
  // Through a shell for one thing only: no core dumps, which would hold the server's key.
  return spawn('/bin/sh', ['-c', withoutCoreDumps, 'sh', process.execPath, ...flags, entry], {
    stdio: ['pipe', 'ignore', 'pipe'],
    env,
  })
}

export const createSupervised = (deps: SupervisedDeps): Supervised => {
  const { clock, log, silentMs = defaultSilentMs } = deps
  const attention = createAttention(clock)
  let child: ChildProcess | null = null
  let secret = ''
  let channel: FrontChannel | null = null
  let closed = false
  let failures = 0
  let startedAt = 0
  /** By `attention`. */
  let heardAt = 0
  let restartTimer: NodeJS.Timeout | null = null
  let current: FrontReport = { pid: null, listening: false, starts: 0, connections: 0, rssBytes: 0 }
  /** Of the first start only. */
  let first: { resolve(): void; reject(error: Error): void } | null = null

  const start = (): void => {
    restartTimer = null
    if (closed) return
    deps.forget(secret)
    secret = randomBytes(32).toString('hex')
    deps.announce(secret, front)
    startedAt = clock.monotonic()
    heardAt = attention.now()
    let started: ChildProcess
    try {
      started = spawnFront()
    } catch (error) {
      ended(null, `not started: ${(error as Error).message}`)
      return
    }
    child = started
    current = { ...current, pid: started.pid ?? null, listening: false, starts: current.starts + 1, connections: 0 }
    followLog(started.stderr, log, 'a front')
    started.stdin?.on('error', () => {})
    started.stdin?.write(`${JSON.stringify({ socket: deps.socket, secret })}\n`)
    // Without a process there is no exit either.
    started.once('error', error => {
      if (started.pid === undefined) ended(started, `not started: ${error.message}`)
    })
    started.once('exit', (code, signal) => ended(started, signal ?? `exit code ${code}`))
  }

  const ended = (which: ChildProcess | null, how: string): void => {
    if (which !== child) return
    child = null
    channel = null
    current = { ...current, pid: null, listening: false, connections: 0 }
    deps.forget(secret)
    if (first !== null) failFirst('unknown', `the front ended: ${how}`)
    if (closed) return
    if (clock.monotonic() - startedAt > settledMs) failures = 0
    const delay = failures === 0 ? 0 : backoffMs[Math.min(failures - 1, backoffMs.length - 1)]!
    failures++
    log.warn({ how, restartInMs: delay }, 'a front ended')
    restartTimer = setTimeout(start, delay)
  }

  const failFirst = (code: string, message: string): void => {
    const failing = first
    first = null
    closed = true
    child?.kill('SIGKILL')
    failing?.reject(Object.assign(new Error(message), { code }))
  }

  const watch = setInterval(
    () => {
      if (channel?.isOpen()) channel.tell({ t: 'ping' })
      const patience = current.listening ? silentMs : startMs
      if (child === null || attention.now() - heardAt < patience) return
      log.error({ pid: child.pid }, 'killing a front that does not answer')
      child.kill('SIGKILL')
    },
    Math.min(pingMs, silentMs / 4),
  )
  watch.unref()

  const front: Supervised = {
    start: () =>
      new Promise((resolve, reject) => {
        first = { resolve, reject }
        start()
      }),
    onOpen: opened => {
      // The secret is spent: one process, one connection for calls. Streams go on showing it.
      if (channel !== null) return opened.destroy()
      channel = opened
      channel.tell({ t: 'start' }, utf8(JSON.stringify(deps.facts())))
    },
    onMessage: (message: FromFront) => {
      heardAt = attention.now()
      if (message.t === 'pong') {
        const { connections, rssBytes } = message
        current = { ...current, connections, rssBytes }
      } else if (message.t === 'listening') {
        current = { ...current, listening: true }
        first?.resolve()
        first = null
      } else if (message.t === 'failed') {
        log.error({ code: message.code, reason: message.message }, 'a front cannot listen')
        if (first !== null) failFirst(message.code, message.message)
        else child?.kill('SIGKILL')
      }
    },
    // A front without its channel ends by itself; one that does not is silent.
    onEnd: () => {},
    setCredentials: credentials => channel?.tell({ t: 'credentials' }, utf8(JSON.stringify(credentials))),
    drain: async graceMs => {
      closed = true
      clearInterval(watch)
      attention.close()
      if (restartTimer !== null) clearTimeout(restartTimer)
      const ending = child
      if (ending === null || ending.pid === undefined) return
      const gone = new Promise<void>(resolve => ending.once('exit', () => resolve()))
      if (channel?.isOpen()) channel.tell({ t: 'drain', graceMs })
      else ending.kill('SIGTERM')
      const force = setTimeout(() => ending.kill('SIGKILL'), graceMs + endMs)
      await gone
      clearTimeout(force)
    },
    report: () => current,
  }
  return front
}
