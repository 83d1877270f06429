// One command line from its arguments to its exit code: everything a command throws is reported here, and nowhere else.
import { CommanderError } from 'commander'
import { CliError, exitCodeOfError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { createProgram } from './program.ts'
import { reportError, wantsJson } from './report.ts'
import { systemError } from './system-error.ts'

/** Commander's own message without its prefix, its suggestion as the hint. */
const usageError = (error: CommanderError): CliError => {
  const [what = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  const path = (error as { path?: string }).path ?? 'agentca'
  return new CliError('usage', what.trim(), {
    hint: suggestion === undefined ? `${path} --help` : suggestion.replace(/^\((.*)\)$/, '$1').toLowerCase(),
  })
}

/** @param argv without the program's name @returns the exit code; never throws */
export const runCli = async (argv: readonly string[], io: CommandIo): Promise<number> => {
  let exitCode = 0
  const setExitCode = (code: number): void => {
    exitCode = code
  }
  try {
    const program = await createProgram({ ...io, setExitCode }, argv[0])
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (thrown) {
    const isHelp = thrown instanceof CommanderError && /^commander\.(?:help|helpDisplayed|version)$/.test(thrown.code)
    if (isHelp) return thrown.exitCode === 0 ? 0 : 2
    const error = thrown instanceof CommanderError ? usageError(thrown) : (systemError(thrown) ?? thrown)
    reportError(io, error, wantsJson(argv) ? 'json' : 'text')
    return exitCodeOfError(error)
  }
}
