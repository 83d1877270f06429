// `agentca-agent` from its arguments to its exit code.
import { readFileSync } from 'node:fs'
import { AgentError } from '../errors.ts'
import { exec, execOptions } from './exec.ts'
import { type DaemonIo, exitCodeOf, reportError } from './io.ts'
import { once, onceOptions } from './once.ts'
import { helpOf, invalid, nearest, type OptionTable, parseOptions, type Values } from './options.ts'
import { run, runOptions } from './run.ts'
import { status, statusOptions } from './status.ts'

interface Command {
  readonly usage: string
  readonly about: string
  readonly more: string
  readonly options: OptionTable
  readonly act: (io: DaemonIo, values: Values, rest: readonly string[]) => Promise<number>
}

const commands: Readonly<Record<string, Command>> = {
  run: {
    usage: 'agentca-agent run --dir DIR [options]',
    about: 'keeps the identity in a directory alive, as files for programs in any language',
    more: `SIGHUP renews now, SIGTERM ends. Under systemd with Type=notify it says when it is ready and feeds the watchdog.
Exit code 4 when the CA took the identity back.`,
    options: runOptions,
    act: run,
  },
  once: {
    usage: 'agentca-agent once --dir DIR [options]',
    about: 'enrols, or renews if it is time, and ends: for timers, cron and init containers',
    more: 'Exit code 8 when the files are in place and the hook failed.',
    options: onceOptions,
    act: once,
  },
  exec: {
    usage: 'agentca-agent exec [options] -- PROGRAM [ARGUMENTS]',
    about: 'runs a program with an identity in memory, and ends it when that is revoked or locked',
    more: `The program finds its files in AGENTCA_DIR: credential-bundle.pem, tls.key, tls.crt, ca.crt, crl.pem, identity.json.
Its signals and its exit code pass through; 4 when it was ended because the identity was revoked or locked.`,
    options: execOptions,
    act: exec,
  },
  status: {
    usage: 'agentca-agent status --dir DIR [-o json]',
    about: 'shows the identity in a directory: who, until when, who renews it, what the CA says',
    more: 'Exit code 0 when all is well, 10 when something is worth a look, 4 when the identity is of no use.',
    options: statusOptions,
    act: status,
  },
}

const overview = (): string => `usage: agentca-agent COMMAND [options]

${Object.entries(commands)
  .map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`)
  .join('\n')}

agentca-agent COMMAND --help tells more. Secrets come from files and descriptors, never from arguments or the environment.
`

const helpFor = ({ usage, about, more, options }: Command): string =>
  `usage: ${usage}\n\n${about}\n\n${helpOf(options)}\n\n${more}\n`

/** Of the package, wherever it lies: sources and compiled files are equally deep. */
const version = (): string =>
  (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { readonly version: string })
    .version

const wantsJson = (argv: readonly string[]): boolean =>
  argv.some(
    (arg, at) => /^(?:-o|--output=)json$/.test(arg) || (arg === 'json' && /^(?:-o|--output)$/.test(argv[at - 1] ?? '')),
  )

const dispatch = async (io: DaemonIo, argv: readonly string[]): Promise<number> => {
  const [name, ...args] = argv
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const text = args[0] !== undefined && Object.hasOwn(commands, args[0]) ? helpFor(commands[args[0]]!) : overview()
    ;(name === undefined ? io.err : io.out)(text)
    return name === undefined ? 2 : 0
  }
  if (name === 'version' || name === '--version') {
    io.out(`agentca-agent ${version()} (Node ${process.versions.node})\n`)
    return 0
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (command === undefined) {
    const meant = nearest(name, Object.keys(commands))
    throw invalid(`there is no command ${name}`, meant === null ? 'agentca-agent --help' : `did you mean ${meant}?`)
  }
  const separator = args.indexOf('--')
  const [own, rest] = separator < 0 ? [args, []] : [args.slice(0, separator), args.slice(separator + 1)]
  const { values, positionals } = parseOptions(name, own, command.options)
  if (values.help === true) {
    io.out(helpFor(command))
    return 0
  }
  const stray = name === 'exec' ? positionals : [...positionals, ...rest]
  if (stray.length > 0)
    throw invalid(
      `${stray[0]} is no option`,
      name === 'exec'
        ? `the program goes behind --: agentca-agent exec -- ${stray[0]}`
        : `agentca-agent ${name} --help`,
    )
  return command.act(io, values, rest)
}

/** @param argv without the program's name @returns the exit code; never throws */
export const runCommandLine = async (argv: readonly string[], io: DaemonIo): Promise<number> => {
  try {
    return await dispatch(io, argv)
  } catch (error) {
    reportError(
      io,
      error,
      wantsJson(argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined)) ? 'json' : 'text',
    )
    const { exitCode } = error instanceof AgentError ? error.facts : {}
    return typeof exitCode === 'number' ? exitCode : exitCodeOf(error)
  }
}
