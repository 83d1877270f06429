// An operator of a story at the command line: every word as it would be typed, run inside the test against a real server.
import { type Ran, runCommand } from '../cli/command.ts'

export interface Operator {
  /** Words are separated by spaces; whoever needs a space in one gives the list. */
  run(line: string | readonly string[]): Promise<Ran>
  /** @returns its JSON @throws Error with what it said when it did not end with 0 */
  json<T>(line: string): Promise<T>
}

/** @param connection added to each command: `--url`, `--credential` */
export const createOperator = (
  env: Readonly<Record<string, string>>,
  cwd: string,
  connection: readonly string[] = [],
): Operator => {
  const run: Operator['run'] = line =>
    runCommand([...(typeof line === 'string' ? line.split(' ') : line), ...connection], { env, cwd })
  return {
    run,
    json: async <T>(line: string) => {
      const { code, out, err } = await run(`${line} -o json`)
      if (code !== 0) throw new Error(`agentca ${line} ended with ${code}: ${err}`)
      return JSON.parse(out) as T
    },
  }
}
