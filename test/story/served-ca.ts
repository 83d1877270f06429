// A whole CA for stories: made by `agentca init` and run by `agentca serve`, as processes, in a home and on ports of its own.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root as checkout } from '../../scripts/bootstrap.mjs'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface RunOptions {
  readonly cwd: string
  readonly env?: NodeJS.ProcessEnv
  /** Written to its standard input, which stays open until it ends: a TLS client that sees an end hangs up before it has its answer. */
  readonly says?: string
}

/** A program to its end; never rejects for an exit code, -1 where it was not started or ended by a signal. */
export const runProgram = (program: string, args: readonly string[], options: RunOptions): Promise<Ran> =>
  new Promise(resolve => {
    const { cwd, env, says } = options
    const child = execFile(program, args, { cwd, env: env ?? process.env, encoding: 'utf8' }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, out, err: code === -1 ? `${err}${error}` : err })
    })
    // Whoever ends before it has read everything is judged by its exit code.
    child.stdin?.on('error', () => {})
    if (says === undefined) child.stdin?.end()
    else child.stdin?.write(says)
  })

/** Exit code 0, or the test ends here with what the program said. @returns stdout */
export const mustRun = async (program: string, args: readonly string[], options: RunOptions): Promise<string> => {
  const { code, out, err } = await runProgram(program, args, options)
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${code}\n${out}${err}`)
  return out
}

export interface ServedCa extends AsyncDisposable {
  /** Scratch space, and where its commands run. */
  readonly directory: string
  readonly home: string
  readonly urls: { readonly api: string; readonly status: string }
  /** What `agentca serve` printed when it was ready. */
  readonly line: { readonly ops: string; readonly pid: number }
  readonly rootFingerprint: string
  /** In which `agentca` means this CA. */
  readonly env: NodeJS.ProcessEnv
  agentca(...args: readonly string[]): Promise<Ran>
  /** @throws where the exit code is not 0 */
  agentcaJson<T>(...args: readonly string[]): Promise<T>
  /** Registers an agent and writes a join token for it. @returns the token's file */
  agentToken(name: string): Promise<string>
  /** Ends the server, in good order. */
  stop(): Promise<void>
  /** Starts it again, on the same ports. */
  start(env?: NodeJS.ProcessEnv): Promise<void>
  /** @returns the directory of its files */
  enrolled(name: string): Promise<string>
}

interface InitFacts {
  readonly urls: ServedCa['urls']
  readonly rootFingerprint: string
}

export interface ServedFrom {
  /** The launcher: this checkout's, or an installed package's. */
  readonly agentca?: string
  readonly env?: NodeJS.ProcessEnv
}

export const startServedCa = async (from: ServedFrom = {}): Promise<ServedCa> => {
  const agentca = from.agentca ?? join(checkout, 'bin/agentca')
  const directory = mkdtempSync(join(tmpdir(), 'agentca-served-'))
  const home = join(directory, 'home')
  const env: NodeJS.ProcessEnv = {
    ...(from.env ?? process.env),
    AGENTCA_HOME: home,
    AGENTCA_LISTEN_API: '127.0.0.1:0',
    AGENTCA_LISTEN_STATUS: '127.0.0.1:0',
    AGENTCA_LISTEN_OPS: '127.0.0.1:0',
  }
  const json = async <T>(...args: readonly string[]): Promise<T> =>
    JSON.parse(await mustRun(agentca, [...args, '-o', 'json'], { cwd: directory, env })) as T

  // `init` takes free ports and writes them into certificates; the server listens where they point, or not at all.
  const { urls, rootFingerprint } = await json<InitFacts>('init')
  env.AGENTCA_LISTEN_API = new URL(urls.api).host
  env.AGENTCA_LISTEN_STATUS = new URL(urls.status).host
  const serve = () => spawn(agentca, ['serve'], { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let server = serve()
  const line = await readiness(server)
  const stop = async (): Promise<void> => {
    if (server.exitCode === null && server.signalCode === null && server.kill('SIGTERM')) await once(server, 'exit')
  }

  const agentToken = async (name: string): Promise<string> => {
    await json('agent', 'create', name, '--owner', 'finance')
    await json('token', 'create', '--agent', name, '--file', `${name}.token`)
    return join(directory, `${name}.token`)
  }
  return {
    directory,
    home,
    urls,
    line,
    rootFingerprint,
    env,
    agentca: (...args) => runProgram(agentca, args, { cwd: directory, env }),
    agentcaJson: json,
    agentToken,
    enrolled: async name => {
      const evidence = ['--ca-fingerprint', rootFingerprint, '--token-file', await agentToken(name)]
      await json('enroll', '--url', urls.api, ...evidence, '--dir', name)
      return join(directory, name)
    },
    stop,
    start: async (changed = {}) => {
      Object.assign(env, changed)
      server = serve()
      await readiness(server)
    },
    [Symbol.asyncDispose]: async () => {
      await stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const readiness = async (server: ChildProcess): Promise<ServedCa['line']> => {
  let log = ''
  server.stderr?.on('data', chunk => {
    log += chunk
  })
  const ready = once(createInterface({ input: server.stdout! }), 'line') as Promise<[string]>
  const ended = once(server, 'exit').then(([code]) => {
    throw new Error(`agentca serve ended with ${code} before it was ready\n${log}`)
  }) as Promise<never>
  ended.catch(() => {})
  const [line] = await Promise.race([ready, ended])
  return JSON.parse(line) as ServedCa['line']
}
