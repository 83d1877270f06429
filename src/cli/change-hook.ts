// The command that runs after an identity changed. No shell: what a credential says must never become part of a command.
import { spawn } from 'node:child_process'
import { type CommandWords, commandWords } from '../base/command-words.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'

/** Longer than any reload; a hook that hangs must not hang the command for ever. */
const hookDeadlineMs = 60_000

/** @throws CliError `usage` for what is no command */
export const wordsOf = (text: string): CommandWords => {
  const words = commandWords(text)
  if (words === null)
    throw new CliError('usage', `--on-change is no command: ${text}`, {
      hint: "for example --on-change 'systemctl reload nginx'; a pipe needs sh -c '…'",
    })
  return words
}

/** What it writes goes to standard error: standard output is the command's own data. @returns whether it ended well */
export const runChangeHook = (io: CommandIo, words: CommandWords, dir: string): Promise<boolean> =>
  new Promise(fulfil => {
    const [program, ...args] = words
    const child = spawn(program, args, {
      cwd: io.cwd,
      env: { ...io.env, AGENTCA_DIR: dir },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: hookDeadlineMs,
    })
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', io.err)
    const failed = (why: string): void => {
      io.err(`the identity is in place, but ${program} ${why}\n`)
      fulfil(false)
    }
    child.on('error', error => failed(`could not be started: ${error.message}`))
    child.on('close', (code, signal) => {
      if (code === 0) fulfil(true)
      else if (code !== null || signal !== null)
        failed(signal === null ? `ended with code ${code}` : `was ended by ${signal}`)
    })
  })
