// The command line's surroundings as one value, so that commands can run in a test without a process: streams, environment,
// terminal. Commands write data to `out` and everything else to `err`; they end by returning or by throwing.

export interface CommandIo {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Never holds secrets; may carry paths. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** Both standard input and error are terminals: only then may a command ask. */
  readonly isTerminal: boolean
  /** Standard output is a terminal and NO_COLOR is not set. */
  readonly colours: boolean
  readonly readStdin: () => Promise<string>
  /** Asks y/N on the terminal. */
  readonly confirm: (question: string) => Promise<boolean>
  /** One line from the terminal, which does not show it. Absent where nobody can be asked. */
  readonly askSecret?: (question: string) => Promise<string>
  /** Exit code of a command that succeeded with something to say: 8 partly done, 10 warnings only. */
  readonly setExitCode: (code: number) => void
}
