// What happens after the files changed: a command, a signal, or both. No shell: what a credential says must never become part of a
// command. A hook that fails or hangs is told and does not stop the renewals.
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import { type CommandWords, commandWords } from '../../base/command-words.ts'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import type { DaemonIo } from './io.ts'
import { invalid, textOf, type Values } from './options.ts'

/** Longer than any reload. */
const hookDeadlineMs = 60_000

/** @throws AgentError `option_invalid` */
export const wordsOf = (option: string, text: string): CommandWords => {
  const words = commandWords(text)
  if (words === null)
    throw invalid(`--${option} is no command: ${text}`, `--${option} 'systemctl reload nginx'; a pipe needs sh -c '…'`)
  return words
}

interface SignalTo {
  readonly signal: NodeJS.Signals
  readonly pidFile: string
}

export interface Hooks {
  readonly onChange: CommandWords | null
  readonly onRevoked: CommandWords | null
  readonly signalTo: SignalTo | null
}

/** @throws AgentError `option_invalid` */
export const hooksOf = (io: DaemonIo, values: Values): Hooks => {
  const command = (option: string): CommandWords | null => {
    const text = textOf(values, option)
    return text === undefined ? null : wordsOf(option, text)
  }
  const [signal, pidFile] = [textOf(values, 'signal'), textOf(values, 'pid-file')]
  if ((signal === undefined) !== (pidFile === undefined))
    throw invalid('--signal and --pid-file belong together', '--signal HUP --pid-file /run/nginx.pid')
  const name = signal?.replace(/^(?:SIG)?/, 'SIG') as NodeJS.Signals | undefined
  if (name !== undefined && !Object.hasOwn(constants.signals, name))
    throw invalid(`--signal: there is no signal ${signal}`, 'for example --signal HUP; kill -l lists them')
  return {
    onChange: command('on-change'),
    onRevoked: command('on-revoked'),
    signalTo: name === undefined || pidFile === undefined ? null : { signal: name, pidFile: resolve(io.cwd, pidFile) },
  }
}

const runCommand = (io: DaemonIo, log: Log, [program, ...args]: CommandWords, directory: string): Promise<boolean> =>
  new Promise(fulfil => {
    const child = spawn(program, args, {
      cwd: io.cwd,
      env: { ...io.env, AGENTCA_DIR: directory },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: hookDeadlineMs,
      killSignal: 'SIGKILL',
    })
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', io.err)
    const failed = (why: string): void => {
      log.error({ program, hint: 'the files are in place; run it by hand to see' }, `the hook ${why}`)
      fulfil(false)
    }
    child.on('error', error => failed(`could not be started: ${error.message}`))
    child.on('close', (code, signal) => {
      if (code === 0) fulfil(true)
      else failed(code === null ? `was ended by ${signal}` : `ended with code ${code}`)
    })
  })

const sendSignal = async (log: Log, { signal, pidFile }: SignalTo): Promise<boolean> => {
  try {
    const text = (await readFile(pidFile, 'utf8')).trim()
    // 0, 1 and what is no number would reach whole groups, or the init process.
    if (!/^[1-9]\d{0,9}$/.test(text) || text === '1') throw new Error(`expected a process id, got ${text.slice(0, 40)}`)
    process.kill(Number(text), signal)
    return true
  } catch (error) {
    log.error({ pidFile, signal }, `nobody was told of the change: ${messageOf(error)}`)
    return false
  }
}

/** @returns whether everybody was told */
export const afterChange = async (io: DaemonIo, log: Log, hooks: Hooks, directory: string): Promise<boolean> => {
  const ran = hooks.onChange === null || (await runCommand(io, log, hooks.onChange, directory))
  const sent = hooks.signalTo === null || (await sendSignal(log, hooks.signalTo))
  return ran && sent
}

export const afterRevocation = async (io: DaemonIo, log: Log, hooks: Hooks, directory: string): Promise<void> => {
  if (hooks.onRevoked !== null) await runCommand(io, log, hooks.onRevoked, directory)
}
