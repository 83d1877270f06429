// The process around `agentca-verify`: its commands, streams, signals and exit codes. bin/agentca-verify starts it.
import { isAgentCaError, messageOf } from '../../base/errors.ts'
import { check, checkSpec } from './check.ts'
import { usage } from './errors.ts'
import { type CommandSpec, type GivenOptions, helpOf, parseOptions } from './options.ts'
import { serve } from './serve.ts'
import { serveSpec } from './serve-options.ts'

const out = (text: string): void => void process.stdout.write(text)
const err = (text: string): void => void process.stderr.write(text)

const onSignal = (names: readonly NodeJS.Signals[], listener: () => void): void => {
  for (const name of names) process.on(name, listener)
}

/** What takes longer, a start that waits for the CA for instance, is not waited for. */
const endingMs = 8000

/** Resolves at the first signal; at a second one, or when the end takes long, there is nothing more to wait for. */
const asked = (): Promise<void> =>
  new Promise(resolve => {
    let signals = 0
    onSignal(['SIGTERM', 'SIGINT'], () => {
      if (signals++ > 0) process.exit(130)
      setTimeout(() => process.exit(130), endingMs).unref()
      resolve()
    })
  })

const runServe = async (given: GivenOptions): Promise<number> => {
  const ending = asked()
  // Without a file to read again it is no reason to end.
  onSignal(['SIGHUP'], () => {})
  // Timers of the parts do not keep a process running; being asked to serve does.
  const running = setInterval(() => {}, 60_000)
  try {
    await serve(given, { cwd: process.cwd(), out, err, ending, onReload: listener => onSignal(['SIGHUP'], listener) })
  } finally {
    clearInterval(running)
  }
  // Upgraded and forwarded connections are nobody's to wait for.
  return process.exit(0)
}

interface Command {
  readonly spec: CommandSpec
  readonly run: (given: GivenOptions) => Promise<number>
}

const commands: Readonly<Record<string, Command>> = {
  serve: { spec: serveSpec, run: runServe },
  check: { spec: checkSpec, run: async given => check(given, { cwd: process.cwd(), out, env: process.env }) },
}

const overview = `Usage: agentca-verify COMMAND [options]

Judges agents by their certificates, for backends in any language.

Commands:
  serve   decide on every call: asked by a proxy, or as the proxy itself; keep CRL files new
  check   judge one certificate from a file, and say why

agentca-verify COMMAND --help shows what a command takes.
`

/** By code; the contract's exit codes. What is not listed is unexpected. */
const exitCodes: Readonly<Record<string, number>> = {
  usage: 2,
  option_invalid: 2,
  option_missing: 2,
  file_malformed: 2,
  file_unreadable: 3,
  socket_in_use: 6,
  cannot_listen: 2,
  directory_in_use: 6,
  ca_unreachable: 7,
  ca_not_verified: 9,
  ca_fingerprint_not_found: 9,
  identity_unexpected: 4,
}

const exitCodeOf = (error: unknown): number => {
  if (!isAgentCaError(error)) return (error as NodeJS.ErrnoException).syscall === undefined ? 1 : 2
  const { origin } = error as { readonly origin?: string }
  return origin === 'ca' ? 4 : (exitCodes[error.code] ?? 1)
}

const report = (error: unknown): void => {
  err(`agentca-verify: ${messageOf(error)}\n`)
  if (isAgentCaError(error) && error.hint !== undefined) err(`  hint: ${error.hint}\n`)
}

const run = async ([name, ...argv]: readonly string[]): Promise<number> => {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    out(overview)
    return name === undefined ? 2 : 0
  }
  const command = commands[name]
  if (command === undefined) throw usage(`there is no command ${name}`, 'agentca-verify --help')
  if (argv.includes('--help') || argv.includes('-h')) {
    out(helpOf(command.spec))
    return 0
  }
  return command.run(parseOptions(name, command.spec, argv))
}

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  report(error)
  process.exitCode = exitCodeOf(error)
}
