// A server for the command line's tests: real HTTP on a real unix socket, routed by the contract's own table, bodies and queries checked
// by its schemas, answers typed. What it answers is told by fixtures, so that every answer a command may meet can be given.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { HttpError } from '../../src/http/errors.ts'
import { problemOf } from '../../src/http/problem.ts'
import {
  type AdminAnswers,
  type AdminBody,
  type AdminParams,
  type AdminQuery,
  type AdminRoute,
  type AdminRouteName,
  adminRoutes,
} from '../../src/schema/admin-api.ts'
import { parseWith } from '../../src/schema/api-bodies.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { fixtures } from './fixtures.ts'

export interface AdminCall<N extends AdminRouteName> {
  readonly params: AdminParams<N>
  readonly body: AdminBody<N>
  readonly query: AdminQuery<N>
}

export type Handler<N extends AdminRouteName> = (call: AdminCall<N>) => AdminAnswers[N]
export type Handlers = { readonly [N in AdminRouteName]: Handler<N> }

export interface Recorded {
  readonly name: AdminRouteName
  readonly params: Readonly<Record<string, string>>
  readonly body: unknown
  readonly query: unknown
}

const names = Object.keys(adminRoutes) as AdminRouteName[]

/** Literal paths before those with parameters. */
const patterns = names
  .map(name => {
    const { method, path } = adminRoutes[name]
    const keys = [...path.matchAll(/:([a-z]+)/g)].map(match => match[1] as string)
    return { name, method, keys, form: new RegExp(`^/v1/admin${path.replace(/:[a-z]+/g, '([^/]+)')}$`) }
  })
  .sort((a, b) => a.keys.length - b.keys.length)

const matchRoute = (method: string, path: string) => {
  for (const pattern of patterns) {
    const found = pattern.method === method ? pattern.form.exec(path) : null
    if (found === null) continue
    const params = Object.fromEntries(pattern.keys.map((key, at) => [key, decodeURIComponent(found[at + 1] as string)]))
    return { name: pattern.name, params }
  }
  throw new HttpError('route_not_found', `no route ${method} ${path}`)
}

export interface TestServer extends AsyncDisposable {
  readonly paths: HomePaths
  /** Environment of a command that talks to it. */
  readonly env: Readonly<Record<string, string>>
  readonly directory: string
  /** What was asked since `reset`, in its order. */
  readonly calls: readonly Recorded[]
  /** The bodies given to one route. */
  bodiesOf(name: AdminRouteName): readonly unknown[]
  answer<N extends AdminRouteName>(name: N, handler: Handler<N>): void
  /** The fixtures' answers again, and nothing asked. */
  reset(): void
  /** The same routes for a server of another kind. */
  readonly listener: RequestListener
}

export const startServer = async (): Promise<TestServer> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-cli-'))
  const paths = homePaths(join(directory, 'home'))
  mkdirSync(paths.run, { recursive: true, mode: 0o700 })
  const overrides = new Map<AdminRouteName, Handler<AdminRouteName>>()
  const calls: Recorded[] = []

  const answerOf = async (request: IncomingMessage): Promise<unknown> => {
    const url = new URL(request.url ?? '', 'http://server')
    const { name, params } = matchRoute(request.method ?? '', url.pathname)
    const route: AdminRoute = adminRoutes[name]
    const sent = await text(request)
    const body = route.body === null ? undefined : parseWith(route.body, JSON.parse(sent), 'body')
    const asked = Object.fromEntries(url.searchParams)
    if (route.query === null && Object.keys(asked).length > 0) throw new HttpError('body_malformed', 'no query here')
    const query = route.query === null ? undefined : parseWith(route.query, asked, 'query')
    calls.push({ name, params, body, query })
    const handler = overrides.get(name) ?? (fixtures[name] as unknown as Handler<AdminRouteName>)
    return handler({ params, body, query } as AdminCall<AdminRouteName>)
  }
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      const answer = await answerOf(request)
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    } catch (error) {
      const problem = problemOf(error, 'request-1')
      response.writeHead(problem.status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem))
    }
  }
  const listener: RequestListener = (request, response) => void respond(request, response)
  const server = createServer(listener)
  await new Promise<void>(resolve => server.listen(paths.adminSocket, resolve))
  return {
    paths,
    env: { AGENTCA_HOME: paths.home },
    directory,
    calls,
    bodiesOf: name => calls.filter(call => call.name === name).map(call => call.body),
    answer: (name, handler) => {
      overrides.set(name, handler as unknown as Handler<AdminRouteName>)
    },
    reset: () => {
      overrides.clear()
      calls.length = 0
    },
    listener,
    [Symbol.asyncDispose]: async () => {
      await new Promise(resolve => server.close(resolve))
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
