// The process around the command line: real streams, real terminal, exit code. bin/agentca starts it under the pinned runtime.
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import type { CommandIo } from './io.ts'
import { runCli } from './run.ts'

const confirm = async (question: string): Promise<boolean> => {
  // `terminal: false` leaves the line editing to the terminal, so that Ctrl-C stays a signal.
  const prompt = createInterface({ input: process.stdin, output: process.stderr, terminal: false })
  try {
    // Ctrl-D closes the prompt and leaves its question without an answer: that is no.
    const closed = new Promise<string>(resolve => prompt.once('close', () => resolve('')))
    return /^y(?:es)?$/i.test((await Promise.race([prompt.question(`${question} [y/N] `), closed])).trim())
  } finally {
    prompt.close()
  }
}

const askSecret = async (question: string): Promise<string> => {
  // What is typed goes to the prompt's output, which is nowhere.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const prompt = createInterface({ input: process.stdin, output: nowhere, terminal: true })
  // In raw mode Ctrl-C is a key, and no signal.
  prompt.once('SIGINT', () => process.exit(130))
  // Only now: before, the terminal itself would show what is typed.
  process.stderr.write(`${question}: `)
  try {
    const closed = new Promise<string>(resolve => prompt.once('close', () => resolve('')))
    return await Promise.race([prompt.question(''), closed])
  } finally {
    prompt.close()
    process.stderr.write('\n')
  }
}

const io: CommandIo = {
  out: chunk => void process.stdout.write(chunk),
  err: chunk => void process.stderr.write(chunk),
  env: process.env,
  cwd: process.cwd(),
  isTerminal: process.stdin.isTTY === true && process.stderr.isTTY === true,
  colours: process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb',
  readStdin: () => text(process.stdin),
  confirm,
  askSecret,
  setExitCode: code => {
    process.exitCode = code
  },
}

// `agentca … | head` closes the pipe early: that is the reader's choice and no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
// A command that has something to finish (serve, enroll) listens for itself and ends the process.
process.on('SIGINT', () => {
  if (process.listenerCount('SIGINT') === 1) process.exit(130)
})

process.exitCode = await runCli(process.argv.slice(2), io)
