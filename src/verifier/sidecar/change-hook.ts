// The command that runs after a file changed: one at a time, once for however many changes came meanwhile, and again until it succeeds. No
// shell: nothing that was fetched becomes part of a command.
import { spawn } from 'node:child_process'
import type { Timing } from '../../agent/backoff.ts'
import { type CommandWords, commandWords } from '../../base/command-words.ts'
import { messageOf } from '../../base/errors.ts'
import type { Log } from '../../base/log.ts'
import { usage } from './errors.ts'

/** Longer than any reload; one that hangs must not be the last. */
const deadlineMs = 60_000
const retryMs = [1000, 2000, 5000, 10_000, 30_000]
const maxOutput = 2000

/** @throws SidecarError `usage` */
export const wordsOf = (text: string): CommandWords => {
  const words = commandWords(text)
  if (words === null)
    throw usage(`--on-change is no command: ${text}`, "for example 'nginx -s reload'; a pipe needs sh -c '…'")
  return words
}

/** @returns null: it ended well; else why not */
const runOnce = ([program, ...args]: CommandWords, signal: AbortSignal): Promise<string | null> =>
  new Promise(resolve => {
    let said = ''
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: deadlineMs, signal })
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        said = `${said}${chunk}`.slice(-maxOutput)
      })
    child.once('error', error => resolve(messageOf(error)))
    child.once('close', (code, killed) =>
      resolve(code === 0 ? null : `${killed === null ? `exit code ${code}` : `ended by ${killed}`}: ${said.trim()}`),
    )
  })

export interface ChangeHook extends AsyncDisposable {
  /** After a change. */
  changed(): void
}

export const createChangeHook = (words: CommandWords, timing: Pick<Timing, 'idle'>, log: Log): ChangeHook => {
  const ended = new AbortController()
  const { signal } = ended
  // Owned by this closure: changes since the last good run began, and the loop that works them off.
  let due = false
  let working: Promise<void> | null = null

  const work = async (): Promise<void> => {
    for (let failures = 0; due && !signal.aborted; ) {
      due = false
      const fault = await runOnce(words, signal)
      if (fault === null || signal.aborted) {
        failures = 0
        continue
      }
      due = true
      const wait = retryMs[Math.min(failures++, retryMs.length - 1)] as number
      log.error({ command: words.join(' '), reason: fault, againInMs: wait }, 'the command after a change failed')
      await timing.idle(wait, signal).catch(() => {})
    }
    // In the same turn as the look at `due`: a change after it begins anew.
    working = null
  }
  return {
    changed: () => {
      due = true
      if (working === null && !signal.aborted) working = work()
    },
    [Symbol.asyncDispose]: async () => {
      ended.abort()
      await working
    },
  }
}
