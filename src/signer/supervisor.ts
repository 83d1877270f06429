// Keeps one signer process alive: starts it, restarts it with backoff, kills it when it hangs, never restarts it into a wrong PIN. The
// cure for everything PKCS#11 does badly is a new process. No PKCS#11 in here.
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { createAttention } from '../base/attention.ts'
import { followLog, readLines } from '../base/child-output.ts'
import type { Clock } from '../base/clock.ts'
import { withoutCoreDumps } from '../base/core-limit.ts'
import { AgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { SignerClient } from './client.ts'
import type { SignerState } from './port.ts'

export interface SupervisorDeps {
  /** Path of the signer's JSON configuration. */
  readonly configFile: string
  /** Sessions in that configuration: sizes the thread pool of the process. */
  readonly sessions: number
  readonly client: SignerClient
  readonly clock: Clock
  readonly log: Log
  /** Starts allowed in any minute; default 10. */
  readonly maxStartsPerMinute?: number
  /** How often the process is asked whether it lives; default 500. */
  readonly probeMs?: number
  /** How long calls may hang past their deadline, or the process may say nothing, before it is killed; default 2000. */
  readonly hangMs?: number
  /** Added to the environment of the process: paths for vendor libraries, never secrets. */
  readonly env?: Readonly<Record<string, string>>
}

export interface SupervisorState {
  readonly state: SignerState | 'starting' | 'stopped'
  readonly pid: number | null
  readonly starts: number
  readonly kills: number
  readonly sinceMs: number
  readonly detail: string
}

export interface SignerSupervisor {
  state(): SupervisorState
  /**
   * Resolves once the signer is ready.
   * @param patience whether a start that failed, and will be repeated, is waited out
   * @throws AgentCaError `signer_not_ready` when it is locked, or after the timeout, with what it said
   */
  ready(timeoutMs: number, patience?: 'every start' | 'one start'): Promise<void>
  /** A new process, for a changed configuration. What was asked of the present one is answered before it ends. */
  restart(): Promise<void>
  close(): Promise<void>
}

/** As long as a signature may take that is asked for now; what takes longer has passed its deadline. */
const drainMs = 5000

const backoffMs = [50, 100, 250, 500, 1000, 2000, 5000]

/** The compiled form when this file is compiled, the source when it is not. */
const entryPoint = (): string =>
  fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url))

const spawnSigner = (deps: SupervisorDeps): ChildProcess => {
  const { NODE_OPTIONS: _, ...inherited } = process.env
  const flags = ['--disable-sigusr1', '--disallow-code-generation-from-strings', '--report-exclude-env']
  const command = [process.execPath, ...flags, entryPoint(), '--config', deps.configFile, '--exit-with-stdin']
  // Through a shell for one thing only: no core dumps, which would hold the PIN.
  return spawn('/bin/sh', ['-c', withoutCoreDumps, 'sh', ...command], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...inherited, ...deps.env, UV_THREADPOOL_SIZE: String(deps.sessions + 4) },
  })
}

export const createSignerSupervisor = (deps: SupervisorDeps): SignerSupervisor => {
  const { clock, log, client } = deps
  const { maxStartsPerMinute = 10, probeMs = 500, hangMs = 2000 } = deps
  const attention = createAttention(clock)
  let child: ChildProcess | null = null
  let current: SupervisorState = {
    state: 'starting',
    pid: null,
    starts: 0,
    kills: 0,
    sinceMs: clock.now(),
    detail: 'starting',
  }
  let closed = false
  let restarting = false
  let failures = 0
  let silentSince: number | null = null
  let restartTimer: NodeJS.Timeout | null = null
  const startTimes: number[] = []

  const enter = (state: SupervisorState['state'], detail: string): void => {
    if (state === current.state && detail === current.detail) return
    current = { ...current, state, detail, sinceMs: state === current.state ? current.sinceMs : clock.now() }
  }

  const delayBeforeStart = (): number => {
    const now = clock.monotonic()
    while (startTimes.length > 0 && startTimes[0]! < now - 60_000) startTimes.shift()
    const backoff = failures === 0 ? 0 : backoffMs[Math.min(failures - 1, backoffMs.length - 1)]!
    const quota = startTimes.length < maxStartsPerMinute ? 0 : startTimes[0]! + 60_000 - now
    return Math.max(backoff, quota)
  }

  const start = (): void => {
    restartTimer = null
    if (closed) return
    startTimes.push(clock.monotonic())
    silentSince = attention.now()
    let started: ChildProcess
    try {
      started = spawnSigner(deps)
    } catch (error) {
      ended(null, `not started: ${messageOf(error)}`)
      return
    }
    child = started
    current = { ...current, pid: started.pid ?? null, starts: current.starts + 1 }
    enter('starting', 'starting')
    readLines(started.stdout, said)
    followLog(started.stderr, log, 'the signer process')
    started.stdin?.on('error', () => {})
    // Without a process there is no exit either: no descriptors or processes left now, and some again later.
    started.once('error', error => {
      if (started.pid === undefined) ended(started, `not started: ${error.message}`)
    })
    started.once('exit', (code, signal) => ended(started, signal ?? `exit code ${code}`))
  }

  const said = (text: string): void => {
    try {
      const { signer, detail } = JSON.parse(text) as { signer: string; detail: string }
      if (signer === 'ready') failures = 0
      silentSince = null
      enter(signer === 'ready' || signer === 'locked' ? signer : 'down', detail)
      client.resume()
    } catch {
      log.warn({ text: text.slice(0, 200) }, 'the signer said something unexpected')
    }
  }

  /** @param which null: not even started */
  const ended = (which: ChildProcess | null, how: string): void => {
    if (which !== child) return
    child = null
    current = { ...current, pid: null }
    if (closed) return
    if (!restarting) client.resume()
    if (current.state !== 'down') enter('down', `the signer process ended: ${how}`)
    const delay = delayBeforeStart()
    failures++
    log.warn({ how, restartInMs: Math.round(delay) }, 'the signer process ended')
    restartTimer = setTimeout(start, delay)
  }

  const kill = (reason: string): void => {
    log.error({ reason, pid: current.pid }, 'killing the signer process')
    current = { ...current, kills: current.kills + 1 }
    enter('down', reason)
    child?.kill('SIGKILL')
  }

  /** A hang shows in two ways: calls past their deadline while the process answers, or no answer at all. */
  const probe = async (): Promise<void> => {
    const probed = child
    if (probed === null || probed.pid === undefined) return
    const health = await client.health()
    if (closed || restarting || probed !== child) return
    const now = attention.now()
    const reachable = client.isConnected() && health.detail !== 'the signer did not answer in time'
    if (reachable && health.sessions.stuck === 0) {
      silentSince = null
      if (health.state !== 'down' || current.state !== 'starting') enter(health.state, health.detail)
      return
    }
    silentSince ??= now
    if (health.sessions.stuck > 0) enter('down', health.detail)
    // A start takes its time: module, login, keys, test signatures.
    const patience = current.state === 'starting' ? hangMs + 15_000 : hangMs
    if (now - silentSince > patience) {
      silentSince = now
      kill(health.sessions.stuck > 0 ? health.detail : 'the signer process does not answer')
    }
  }

  let probing = false
  const timer = setInterval(() => {
    if (probing) return
    probing = true
    void probe().finally(() => {
      probing = false
    })
  }, probeMs)
  start()

  const stopChild = async (): Promise<void> => {
    const stopping = child
    if (stopping === null || stopping.pid === undefined) return
    const gone = new Promise(resolve => stopping.once('exit', resolve))
    stopping.kill('SIGTERM')
    const force = setTimeout(() => stopping.kill('SIGKILL'), 3000)
    await gone
    clearTimeout(force)
  }

  return {
    state: () => current,
    async ready(timeoutMs, patience = 'every start') {
      const until = clock.monotonic() + timeoutMs
      while (current.state !== 'ready') {
        const failed = current.state === 'locked' || (current.state === 'down' && patience === 'one start')
        if (failed || clock.monotonic() > until || closed) {
          throw new AgentCaError('signer_not_ready', `the signer is ${current.state}: ${current.detail}`, {
            hint: current.state === 'locked' ? 'agentca hsm unlock' : 'agentca hsm status',
          })
        }
        await new Promise(resolve => setTimeout(resolve, 10))
      }
      while (!client.isConnected() && clock.monotonic() < until) await new Promise(resolve => setTimeout(resolve, 5))
    },
    async restart() {
      failures = 0
      if (child !== null) {
        restarting = true
        enter('starting', 'restarting')
        await client.pause(drainMs)
        await stopChild()
        restarting = false
        if (restartTimer !== null) clearTimeout(restartTimer)
        restartTimer = null
      }
      if (child === null && restartTimer === null) start()
    },
    async close() {
      closed = true
      clearInterval(timer)
      attention.close()
      if (restartTimer !== null) clearTimeout(restartTimer)
      await stopChild()
      enter('stopped', 'stopped')
    },
  }
}
