// Runs a command line inside the test: what it wrote, and its exit code.
import type { CommandIo } from '../../src/cli/io.ts'
import { runCli } from '../../src/cli/run.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface Surroundings {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly stdin?: string
  readonly colours?: boolean
  /** The answers a person at a terminal gives, in their order; without them there is no terminal. */
  readonly answers?: readonly boolean[]
  /** What the person types where nothing is shown, in that order. */
  readonly secrets?: readonly string[]
}

export const runCommand = async (argv: readonly string[], around: Surroundings = {}): Promise<Ran> => {
  let out = ''
  let err = ''
  const answers = [...(around.answers ?? [])]
  const secrets = [...(around.secrets ?? [])]
  const io: CommandIo = {
    out: text => {
      out += text
    },
    err: text => {
      err += text
    },
    env: around.env ?? {},
    cwd: around.cwd ?? process.cwd(),
    isTerminal: around.answers !== undefined || around.secrets !== undefined,
    askSecret: async question => {
      err += `${question}\n`
      const secret = secrets.shift()
      if (secret === undefined) throw new Error(`nobody is there to answer: ${question}`)
      return secret
    },
    colours: around.colours ?? false,
    readStdin: async () => around.stdin ?? '',
    confirm: async question => {
      err += `${question}\n`
      const answer = answers.shift()
      if (answer === undefined) throw new Error(`nobody is there to answer: ${question}`)
      return answer
    },
    setExitCode: () => {},
  }
  return { code: await runCli(argv, io), out, err }
}

/** For the tree alone: nothing is written, nobody answers. */
export const silentIo: CommandIo = {
  out: () => {},
  err: () => {},
  env: {},
  cwd: '/',
  isTerminal: false,
  colours: false,
  readStdin: async () => '',
  confirm: async () => false,
  setExitCode: () => {},
}
