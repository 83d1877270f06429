// What the recipes in docs/integrations are tried in: a CA, a backend that reads assertions as they say, the sidecar and a proxy by exactly the
// commands and configurations of a page, on paths and ports of the test.
import { type ChildProcess, spawn } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { Agent, request } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { jwtVerify } from 'jose'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { uriHashOf } from '../../src/verifier/sidecar/assertion.ts'
import { blockWith } from '../setup/documents.ts'
import { freePort } from '../setup/free-port.ts'
import type { ServedCa } from './served-ca.ts'

// Where distributions put servers; a user's PATH may lack it.
process.env.PATH = `${process.env.PATH ?? ''}:/usr/sbin`

export const orders = 'spiffe://agentca.local/service/orders'

export const serviceOf = async (ca: ServedCa, name: string, ...dns: string[]): Promise<string> => {
  await ca.agentcaJson('service', 'create', name, ...dns.flatMap(each => ['--dns', each]))
  await ca.agentcaJson('token', 'create', '--service', name, '--file', `${name}.token`)
  const directory = join(ca.directory, 'etc', name)
  const evidence = ['--ca-fingerprint', ca.rootFingerprint, '--token-file', `${name}.token`]
  await ca.agentcaJson('enroll', '--url', ca.urls.api, ...evidence, '--dir', directory)
  return directory
}

export interface Backend extends AsyncDisposable {
  readonly port: number
  /** Of the last request. */
  seen(): IncomingMessage | null
}

/** Says who called by a verified assertion, and refuses to believe any other. */
export const startBackend = async (publicKeyFile: () => string): Promise<Backend> => {
  let seen: IncomingMessage | null = null
  const server: Server = createServer(async (asked, answer) => {
    seen = asked
    try {
      const key = createPublicKey(readFileSync(publicKeyFile(), 'utf8'))
      const { payload } = await jwtVerify(String(asked.headers['agentca-assertion']), key, {
        algorithms: ['ES256'],
        typ: 'agentca-assertion+jwt',
        issuer: orders,
        audience: orders,
        maxTokenAge: '30s',
      })
      if (payload.method !== asked.method || payload.uriHash !== uriHashOf(asked.url ?? ''))
        throw new Error(`for ${payload.method}, not ${asked.method} ${asked.url}`)
      answer.end(`for ${payload.agent}`)
    } catch (error) {
      answer.writeHead(500).end(String(error))
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    seen: () => seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

export interface Recipe {
  readonly page: string
  readonly directory: string
  readonly listenPort: number
  readonly backendPort: number
}

/** A text of the page, with this test's places in it. */
export const placed = ({ page, directory, listenPort, backendPort }: Recipe, text: string): string =>
  text
    .replaceAll('/etc/agentca', join(directory, 'etc'))
    .replaceAll('/etc/haproxy', join(directory, 'etc'))
    .replaceAll('/run/agentca-verify', join(directory, 'run', basename(page, '.md')))
    .replaceAll('/var/lib/agentca-verify', join(directory, 'state', basename(page, '.md')))
    .replaceAll('9443', String(listenPort))
    .replaceAll('127.0.0.1:9080', `127.0.0.1:${backendPort}`)

export const recipeOf = async (ca: ServedCa, page: string, backend: { readonly port: number }): Promise<Recipe> => ({
  page: `docs/integrations/${page}.md`,
  directory: ca.directory,
  listenPort: await freePort(),
  backendPort: backend.port,
})

export interface Running extends AsyncDisposable {
  readonly child: ChildProcess
  log(): string
}

export const startProgram = (program: string, args: readonly string[], cwd: string, env = process.env): Running => {
  let log = ''
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr])
    stream!.on('data', (chunk: Buffer) => {
      log += chunk
    })
  return {
    child,
    log: () => log,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null && child.kill('SIGTERM')) await once(child, 'exit')
    },
  }
}

/** Until its ready line. @param command as a page shows it, or a whole command line */
export const startSidecar = async (
  ca: ServedCa,
  command: string,
): Promise<Running & { readonly line: SidecarLine }> => {
  for (const [, socket] of command.matchAll(/unix:(\S+)/g)) mkdirSync(dirname(socket as string), { recursive: true })
  const line = command.trim().replace(/^agentca-verify/, `exec ${join(checkout, 'bin/agentca-verify')}`)
  const running = startProgram('bash', ['-c', line], ca.directory, ca.env)
  const lines = createInterface({ input: running.child.stdout! })
  const ended = once(running.child, 'exit').then(([code]) => {
    throw new Error(`agentca-verify ended with ${code}\n${running.log()}`)
  }) as Promise<never>
  ended.catch(() => {})
  const [ready] = (await Promise.race([once(lines, 'line'), ended])) as [string]
  return { ...running, line: JSON.parse(ready) as SidecarLine }
}

export interface SidecarLine {
  readonly ready: true
  readonly listen: string | null
  readonly pid: number
}

/** The command of a page that has these words. */
export const commandOf = (recipe: Recipe, words: string): string =>
  placed(recipe, blockWith(recipe.page, 'sh', words).text)

export const untilListening = async (port: number, program: Running): Promise<void> => {
  for (;;) {
    if (program.child.exitCode !== null) throw new Error(`it ended\n${program.log()}`)
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await sleep(50)
    } finally {
      socket.destroy()
    }
  }
}

export interface Answer {
  readonly status: number
  readonly body: string
}

export interface Caller {
  /** Over a connection that is kept open between calls. A connection that the other side ends is status 0. */
  call(path?: string, headers?: Readonly<Record<string, string | string[]>>, method?: string): Promise<Answer>
  close(): void
}

/** @param identity directory of files; null: no certificate */
export const callerOf = (identity: string | null, roots: string, port: number): Caller => {
  const agent = new Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: readFileSync(roots),
    servername: 'orders.internal',
    ...(identity === null
      ? {}
      : { cert: readFileSync(join(identity, 'tls.crt')), key: readFileSync(join(identity, 'tls.key')) }),
  })
  return {
    call: (path = '/', headers = {}, method = 'GET') =>
      new Promise(resolve => {
        const host = `orders.internal:${port}`
        const asking = request(
          { agent, host: '127.0.0.1', port, path, method, headers: { host, ...headers } },
          answer => {
            let body = ''
            answer.on('data', (chunk: Buffer) => {
              body += chunk
            })
            answer.once('close', () => resolve({ status: answer.complete ? (answer.statusCode ?? 0) : 0, body }))
          },
        )
        asking.once('error', error => resolve({ status: 0, body: String(error) }))
        asking.end()
      }),
    close: () => agent.destroy(),
  }
}

/** @param identity directory of files */
export const connected = (port: number, identity: string, roots: string): Promise<TLSSocket> =>
  new Promise((resolve, reject) => {
    const socket = tlsConnect({
      ca: readFileSync(roots),
      cert: readFileSync(join(identity, 'tls.crt')),
      key: readFileSync(join(identity, 'tls.key')),
      host: '127.0.0.1',
      port,
      servername: 'orders.internal',
    })
    socket.once('secureConnect', () => resolve(socket)).once('error', reject)
  })

export const firstData = (socket: TLSSocket): Promise<string> =>
  new Promise(resolve => socket.once('data', (chunk: Buffer) => resolve(chunk.toString())))

/** Resolves when the other side has ended the connection; never by itself. */
export const cut = (socket: TLSSocket): Promise<void> =>
  new Promise(resolve => {
    socket.on('error', () => {})
    socket.once('close', () => resolve())
  })
