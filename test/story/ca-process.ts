// A CA of its own for a story: a home made by `agentca init`, and the processes that serve it, one after the other, at the same URLs.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { originOf } from '../../src/audit/checkpoint.ts'
import { type AdminClient, createAdminClient } from '../../src/cli/admin-client.ts'
import { openConnection } from '../../src/cli/connection.ts'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import type { InitReport } from '../../src/server/init.ts'
import { onlineKeyFile } from '../../src/server/online-keys.ts'
import type { ReadyLine } from '../../src/server/serve.ts'
import { runCommand, silentIo } from '../cli/command.ts'
import type { Ambush, Told } from './crash-server.ts'
import type { Trusted } from './invariants.ts'

type Environment = Readonly<Record<string, string>>

export interface StoryHome {
  readonly paths: HomePaths
  readonly env: Environment
  readonly report: InitReport
  /** PEM of the root, as a file. */
  readonly rootFile: string
  readonly trusted: Trusted
  /** Over the admin socket. */
  readonly admin: AdminClient
  readonly logFile: string
  log(): string
  remove(): void
}

const isFree = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })

/** Below the range that connections take their own ports from: one of them must not have it when a server comes back. */
const freePort = async (): Promise<number> => {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    if (await isFree(port)) return port
  }
}

const readPem = (file: string, label: 'CERTIFICATE' | 'PUBLIC KEY'): Uint8Array =>
  parseOnePem(readFileSync(file, 'utf8'), label)

/** @param more further configuration, as AGENTCA_* */
export const createStoryHome = async (more: Environment = {}): Promise<StoryHome> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-story-'))
  const paths = homePaths(join(directory, 'home'))
  const [api, status] = [await freePort(), await freePort()]
  const env: Environment = {
    PATH: process.env.PATH ?? '',
    AGENTCA_HOME: paths.home,
    AGENTCA_LISTEN_API: `127.0.0.1:${api}`,
    AGENTCA_LISTEN_STATUS: `127.0.0.1:${status}`,
    AGENTCA_LISTEN_OPS: '127.0.0.1:0',
    AGENTCA_PUBLICURL_API: `https://127.0.0.1:${api}`,
    AGENTCA_PUBLICURL_STATUS: `http://127.0.0.1:${status}`,
    AGENTCA_LIMITS_ANONYMOUSPERMINUTE: '10000000',
    AGENTCA_LIMITS_IDENTITYPERMINUTE: '10000000',
    AGENTCA_ISSUANCE_PERINSTANCE_BURST: '10000000',
    AGENTCA_ISSUANCE_PERREGISTRATION_BURST: '10000000',
    AGENTCA_OCSP_UNKNOWNBUDGET: '100000',
    AGENTCA_AUDIT_CHECKPOINTEVERY: '1s',
    NODE_COMPILE_CACHE: join(directory, 'compiled'),
    // Any story, behind so many fronts.
    AGENTCA_WORKERS: process.env.AGENTCA_STORY_WORKERS ?? '0',
    ...more,
  }
  const { code, out, err } = await runCommand(['init', '-o', 'json'], { env, cwd: directory })
  if (code !== 0) throw new Error(`agentca init: ${err}`)
  const report = JSON.parse(out) as InitReport
  const rootFile = join(paths.issuers, 'root-1.pem')
  const logFile = join(directory, 'serve.log')
  return {
    paths,
    env,
    report,
    rootFile,
    trusted: {
      issuing: parseCertificate(readPem(join(paths.issuers, 'issuing-1.pem'), 'CERTIFICATE')),
      log: { origin: originOf(report.caId), spki: readPem(onlineKeyFile(paths, 'log-1'), 'PUBLIC KEY') },
    },
    admin: createAdminClient(openConnection({ ...silentIo, env, cwd: directory }, {})),
    logFile,
    log: () => readFileSync(logFile, 'utf8'),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface CaProcess {
  readonly child: ChildProcess
  readonly line: ReadyLine
  readonly ended: Promise<Ended>
  /** Resolves when the process waits for its step. Only for `crash`. */
  arm(ambush: Ambush): Promise<void>
  /** Resolves when the ambush that was armed has killed the signer, or rejects when the process ends before. */
  sprung(): Promise<void>
  /** Keys whose signatures the signer and the ledger count differently. Only for `crash`. */
  reconcile(): Promise<readonly string[]>
  /** SIGTERM. */
  stop(): Promise<Ended>
}

const entries = {
  /** The command itself. */
  serve: { file: '../../src/cli/main.ts', args: ['serve'] },
  crash: { file: './crash-server.ts', args: [] },
} as const

/** A process that may end before it is ready. */
export const spawnCa = (
  home: StoryHome,
  entry: keyof typeof entries,
  more: Environment = {},
): { readonly ended: Promise<Ended>; readonly ready: Promise<CaProcess> } => {
  const { file, args } = entries[entry]
  const log = openSync(home.logFile, 'a', 0o600)
  const child = spawn(process.execPath, [fileURLToPath(new URL(file, import.meta.url)), ...args], {
    stdio: ['ignore', 'pipe', log, 'ipc'],
    env: { ...home.env, ...more },
  })
  closeSync(log)
  const ended = new Promise<Ended>(resolve => child.once('exit', (code, signal) => resolve({ code, signal })))
  const failed = ended.then(({ code, signal }): never => {
    throw new Error(`the server ended with ${signal ?? code}:\n${home.log().slice(-2000)}`)
  })
  // Whoever waits for something else must not make an expected end an unhandled rejection.
  failed.catch(() => {})
  const told = <T extends Told>(wanted: (each: Told) => each is T): Promise<T> =>
    Promise.race([
      failed,
      new Promise<T>(resolve => {
        const take = (each: Told): void => {
          if (!wanted(each)) return
          child.off('message', take)
          resolve(each)
        }
        child.on('message', take)
      }),
    ])
  const said = new Promise<ReadyLine>(resolve => {
    let text = ''
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      const line = text.split('\n').find(each => each.startsWith('{"ready":true'))
      if (line?.endsWith('}')) resolve(JSON.parse(line) as ReadyLine)
    })
  })
  let sprung: Promise<unknown> = Promise.reject(new Error('no ambush was armed'))
  sprung.catch(() => {})
  const line = Promise.race([said, told((each): each is ReadyLine => 'ready' in each)])
  const ready = Promise.race([line, failed]).then(
    (line): CaProcess => ({
      child,
      line,
      ended,
      arm: async ambush => {
        const armed = told((each): each is { armed: Ambush } => 'armed' in each)
        sprung = told((each): each is { sprung: Ambush } => 'sprung' in each)
        sprung.catch(() => {})
        child.send(ambush)
        await armed
      },
      sprung: async () => void (await sprung),
      reconcile: async () => {
        const answer = told((each): each is { reconciled: readonly string[] } => 'reconciled' in each)
        child.send('reconcile')
        return (await answer).reconciled
      },
      stop: () => {
        child.kill('SIGTERM')
        return ended
      },
    }),
  )
  ready.catch(() => {})
  return { ended, ready }
}

/** @throws Error with the end of the server's log when it ends before it is ready */
export const startCa = (home: StoryHome, entry: keyof typeof entries, more: Environment = {}): Promise<CaProcess> =>
  spawnCa(home, entry, more).ready
