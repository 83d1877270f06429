// A CA of a benchmark's own: a home in a temporary directory, `agentca init` and `agentca serve` as processes on free ports, with limits
// that a load from one address does not reach. Everything else is as it comes: fsync, audit, verification before release.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type AdminClient, createAdminClient } from '../../src/cli/admin-client.ts'
import { openConnection } from '../../src/cli/connection.ts'
import type { CommandIo } from '../../src/cli/io.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { root, speak } from '../demo/processes.ts'
import type { Target } from './exchange.ts'
import { childrenOf } from './programs.ts'

const agentca = join(root, 'bin/agentca')

/** A home with a CA in it, not running. */
export interface CaHome {
  readonly paths: HomePaths
  readonly env: Readonly<Record<string, string>>
  /** Of the token that serves (RFC 7512). */
  readonly tokenUri: string
  /** Of SoftHSM2. */
  readonly softhsmConf: string
}

export interface RunningCa extends AsyncDisposable {
  readonly paths: HomePaths
  readonly api: Target
  readonly status: Target
  readonly ops: Target
  /** Roots, PEM. */
  readonly bundlePem: string
  readonly admin: AdminClient
  readonly corePid: number
  readonly signerPid: number
  /** From the start of the process to its ready line. */
  readonly readySeconds: number
}

/** Held together until all are found, so that they differ. */
const freePorts = async (count: number): Promise<readonly number[]> => {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map(server => once(server, 'listening')))
  const ports = servers.map(server => (server.address() as { readonly port: number }).port)
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return ports
}

const noRateLimit = '10000000'

export const makeHome = async (directory: string): Promise<CaHome> => {
  const [api, status, ops] = await freePorts(3)
  const env = {
    AGENTCA_HOME: directory,
    AGENTCA_LISTEN_API: `127.0.0.1:${api}`,
    AGENTCA_LISTEN_STATUS: `127.0.0.1:${status}`,
    AGENTCA_LISTEN_OPS: `127.0.0.1:${ops}`,
    AGENTCA_PUBLICURL_API: `https://127.0.0.1:${api}`,
    AGENTCA_PUBLICURL_STATUS: `http://127.0.0.1:${status}`,
    AGENTCA_LIMITS_ANONYMOUSPERMINUTE: noRateLimit,
    AGENTCA_LIMITS_IDENTITYPERMINUTE: noRateLimit,
    AGENTCA_ISSUANCE_PERINSTANCE_BURST: noRateLimit,
    AGENTCA_ISSUANCE_PERREGISTRATION_BURST: noRateLimit,
  }
  const { stdout } = await promisify(execFile)(agentca, ['init', '-o', 'json'], { env: { ...process.env, ...env } })
  const { tokenUri, confPath } = JSON.parse(stdout) as { readonly tokenUri: string; readonly confPath: string }
  return { paths: homePaths(directory), env, tokenUri, softhsmConf: confPath }
}

const targetOf = (url: unknown, ca: string | null): Target => {
  const { hostname, port } = new URL(String(url))
  return { host: hostname, port: Number(port), ca }
}

const io = (home: string): CommandIo => ({
  out: () => {},
  err: () => {},
  env: { AGENTCA_HOME: home },
  cwd: home,
  isTerminal: false,
  colours: false,
  readStdin: async () => '',
  confirm: async () => false,
  setExitCode: () => {},
})

/** @param env for the server's process, beside the home's own */
export const serve = async (
  { paths, env }: CaHome,
  more: Readonly<Record<string, string>> = {},
): Promise<RunningCa> => {
  mkdirSync(paths.log, { recursive: true, mode: 0o700 })
  const begun = performance.now()
  const server = speak([process.execPath, agentca, 'serve'], {
    env: { ...env, ...more },
    logFile: join(paths.log, 'serve.log'),
  })
  const ready = await server.next(line => line.ready === true)
  const readySeconds = (performance.now() - begun) / 1000
  const corePid = Number(ready.pid)
  const [signerPid] = childrenOf(corePid)
  if (signerPid === undefined) throw new Error(`${agentca} serve runs without a signer`)
  const bundlePem = readFileSync(join(paths.issuers, 'root-1.pem'), 'utf8')
  return {
    paths,
    api: targetOf(ready.api, bundlePem),
    status: targetOf(ready.status, null),
    ops: targetOf(ready.ops, null),
    bundlePem,
    admin: createAdminClient(openConnection(io(paths.home), {})),
    corePid,
    signerPid,
    readySeconds,
    [Symbol.asyncDispose]: () => server.stop(),
  }
}
