// A foreign server as a process of a check: started with the texts of its page, waited for, ended.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { blockWith } from '../setup/documents.ts'
import { mustRun } from '../story/served-ca.ts'
import type { RunningServer, Scene } from './relying-party.ts'

export interface Places {
  readonly port: number
  readonly backendPort?: number
  /** Further places of the page, by their text. */
  readonly more?: Readonly<Record<string, string>>
}

/** A text of a page with the paths and ports of this check, and nothing else changed. */
export const placed = ({ world, etc }: Scene, text: string, { port, backendPort, more = {} }: Places): string => {
  let result = text
    .replaceAll('/etc/agentca', etc)
    .replaceAll('9443', String(port))
    .replaceAll('127.0.0.1:8081', new URL(world.ca.urls.status).host)
    .replaceAll('127.0.0.1:9080', `127.0.0.1:${backendPort}`)
  for (const [place, own] of Object.entries(more)) result = result.replaceAll(place, own)
  return result
}

/** @returns the one block of docs/integrations/PAGE.md with these words, placed */
export const fromPage = (scene: Scene, page: string, language: string, words: string, places: Places): string =>
  placed(scene, blockWith(`docs/integrations/${page}.md`, language, words).text, places)

export interface Started extends AsyncDisposable {
  readonly child: ChildProcess
  /** What it said so far, on both streams. */
  log(): string
}

export interface StartOptions {
  readonly cwd: string
  readonly env?: NodeJS.ProcessEnv
  /** What ends it; SIGTERM unless given. */
  readonly end?: NodeJS.Signals
  readonly uid?: number
  readonly gid?: number
}

export const startServer = (
  program: string,
  args: readonly string[],
  { end = 'SIGTERM', env = process.env, ...how }: StartOptions,
): Started => {
  let log = ''
  const child = spawn(program, args, { ...how, env, stdio: ['ignore', 'pipe', 'pipe'] })
  child.once('error', error => {
    log += String(error)
  })
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      log += chunk
    })
  return {
    child,
    log: () => log,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null && child.kill(end)) await once(child, 'exit')
    },
  }
}

/** @throws Error with what it said, where it ends before it listens */
export const untilListening = async (port: number, server: Started): Promise<void> => {
  for (;;) {
    if (server.child.exitCode !== null || server.child.signalCode !== null)
      throw new Error(`it ended with ${server.child.exitCode ?? server.child.signalCode}\n${server.log()}`)
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await delay(50)
    } finally {
      socket.destroy()
    }
  }
}

/** For a server that reads its files only when it starts: a reload is an end and a start. */
export const restarting = async (port: number, start: () => Started): Promise<RunningServer> => {
  let running = start()
  await untilListening(port, running)
  return {
    port,
    reload: async () => {
      await running[Symbol.asyncDispose]()
      running = start()
      await untilListening(port, running)
    },
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  }
}

/** Runs a command of a page to its end. */
export const runShell = (scene: Scene, command: string): Promise<string> =>
  mustRun('bash', ['-ec', command], { cwd: scene.scratch })

export interface Backend extends AsyncDisposable {
  readonly port: number
}

/** Says whom the proxy in front of it named. */
export const startBackend = async (): Promise<Backend> => {
  const server = createServer((request, response) => response.end(`for ${request.headers['x-agent']}`))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

export const inScratch = ({ scratch }: Scene, name: string): string => join(scratch, name)
