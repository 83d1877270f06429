// Where an example plays: the CA of this checkout, names that were not used before, programs of `examples/` in processes of their own, and
// the operator's commands. What an example does on it stands in a file of its name.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Ca, home, tokenFile } from '../demo/authority.ts'
import { agentca, agentcaJson, CommandFailed, root, type Speaker, speak } from '../demo/processes.ts'

/** Who takes part, and the file with the join token for it. */
export interface Participant {
  readonly name: string
  readonly spiffeId: string
  readonly tokenFile: string
}

export interface Stage extends AsyncDisposable {
  /** Scratch space of this run. */
  readonly directory: string
  readonly caFile: string
  readonly api: string
  readonly status: string
  step(text: string): void
  /** Registered before or now; its name is fixed, since backends say theirs in their code. */
  service(name: string): Promise<Participant>
  /** A new one each time: a revoked name is never used again. */
  agent(prefix: string, ...flags: readonly string[]): Promise<Participant>
  /** `agentca ARGS…`. @throws CommandFailed */
  operator(...args: readonly string[]): Promise<void>
  /** A TypeScript program of `examples/`, enrolling with this participant's token. */
  typescript(file: string, participant: Participant, ...args: readonly string[]): Speaker
  /** Any other program that speaks in JSON lines. */
  program(name: string, command: readonly [string, ...string[]], env?: Readonly<Record<string, string>>): Speaker
}

const startedAt = Date.now()

export const step = (text: string): void => {
  process.stdout.write(`${((Date.now() - startedAt) / 1000).toFixed(2).padStart(7)} s  ${text}\n`)
}

export const createStage = (ca: Ca, example: string): Stage => {
  const run = startedAt.toString(36)
  const directory = join(home, 'examples', `${example}-${run}`)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const caFile = join(home, 'issuers/root-1.pem')
  const { trustDomain, urls } = ca.status
  const speakers: Speaker[] = []
  const started = (speaker: Speaker): Speaker => {
    speakers.push(speaker)
    return speaker
  }
  const participant = async (kind: 'agent' | 'service', name: string): Promise<Participant> => ({
    name,
    spiffeId: `spiffe://${trustDomain}/${kind}/${name}`,
    tokenFile: await tokenFile(kind, name, join(directory, `${name}.token`)),
  })
  const program: Stage['program'] = (name, command, env = {}) =>
    started(speak(command, { env, logFile: join(directory, `${name}.log`) }))
  return {
    directory,
    caFile,
    api: urls.api,
    status: urls.status,
    step,
    service: async name => {
      const created = await agentca('service', 'create', name, '--dns', 'localhost')
      // 6: it is there since the last run.
      if (created.code !== 0 && created.code !== 6) throw new CommandFailed(created, ['service', 'create', name])
      return participant('service', name)
    },
    agent: async (prefix, ...flags) => {
      const name = `${prefix}-${run}`
      await agentcaJson('agent', 'create', name, '--owner', 'examples', ...flags)
      return participant('agent', name)
    },
    operator: async (...args) => {
      const ran = await agentca(...args)
      if (ran.code !== 0) throw new CommandFailed(ran, args)
      step(`the operator: agentca ${args.join(' ')}`)
    },
    typescript: (file, { tokenFile: token, name }, ...args) =>
      // The condition lets `agentca/agent` mean the sources of this checkout instead of the built package.
      program(name, [process.execPath, '--conditions=agentca-source', join(root, 'examples', file), ...args], {
        AGENTCA_URL: urls.api,
        AGENTCA_CA_FILE: caFile,
        AGENTCA_TOKEN_FILE: token,
      }),
    program,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(speakers.toReversed().map(speaker => speaker.stop()))
    },
  }
}
