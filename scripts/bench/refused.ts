// How long a revoked agent can go on, by what stands in front of the backend: an agent calls over and over through each of them at once, over
// connections that stay open, while it is revoked. The proxies run as their pages in docs/integrations say.
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentIdentity } from '../../src/agent/index.ts'
import { createAdminClient } from '../../src/cli/admin-client.ts'
import { openConnection } from '../../src/cli/connection.ts'
import { agentVerifier } from '../../src/verifier/index.ts'
import { blockWith } from '../../test/setup/documents.ts'
import { freePort } from '../../test/setup/free-port.ts'
import { installed, proxies } from '../../test/story/forward-auth-proxies.ts'
import {
  type Caller,
  callerOf,
  commandOf,
  connected,
  type Running,
  recipeOf,
  serviceOf,
  startProgram,
  startSidecar,
  untilListening,
} from '../../test/story/forward-auth-world.ts'
import { type ServedCa, startServedCa } from '../../test/story/served-ca.ts'
import type { Bench } from './bench.ts'
import type { Run } from './figure.ts'

/** One thing in front of a backend. */
interface Way {
  readonly metric: string
  /** Starts to call as this agent. @returns the function that waits for the first refusal and says when it came */
  readonly call: (identity: string) => Promise<() => Promise<number>>
}

interface World {
  readonly ca: ServedCa
  readonly orders: string
  readonly ends: AsyncDisposableStack
  readonly backend: { readonly port: number }
}

const now = (): number => performance.now()
const pauseMs = 2
const boundMs = 60_000

/** Calls until it is refused. It must have been let in before. */
const callingBy = async (callers: () => Caller, expected: number): Promise<() => Promise<number>> => {
  const first = await callers().call('/')
  if (first.status !== expected)
    throw new Error(`expected ${expected} before the revocation, got ${first.status} ${first.body}`)
  const refused = (async () => {
    const end = now() + boundMs
    while (now() < end) {
      const { status } = await callers().call('/')
      if (status !== expected) return now()
      await sleep(pauseMs)
    }
    throw new Error('never refused')
  })()
  return () => refused
}

const overOneConnection =
  (world: World, port: number, expected = 200) =>
  (identity: string) => {
    const caller = callerOf(identity, join(world.orders, 'ca.crt'), port)
    return callingBy(() => caller, expected)
  }

const listening = async ({ ends }: World, server: Server): Promise<number> => {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  ends.defer(() => void server.close())
  return (server.address() as AddressInfo).port
}

const portOf = ({ line }: { readonly line: { readonly listen: string | null } }): number =>
  Number(line.listen?.split(':').at(-1))

const libraryWay = async (world: World): Promise<Way> => {
  const { ends, orders } = world
  const identity = ends.use(await agentIdentity({ dir: orders }))
  const verifier = ends.use(await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' }))
  await verifier.ready()
  const anybody = verifier.express()
  const server = verifier.createServer((asked, answer) => anybody(asked, answer, () => answer.end('ok')))
  const port = await listening(world, server)
  return { metric: 'nodeLibraryMs', call: overOneConnection(world, port) }
}

const sidecarFor = async ({ ca, orders, ends }: World, name: string, words: string) => {
  const command = `agentca-verify serve --dir ${orders} --state ${join(ca.directory, 'state', name)} ${words}`
  return ends.use(await startSidecar(ca, command))
}

const httpWay = async (world: World): Promise<Way> => {
  const words = `--mode http --listen 127.0.0.1:0 --upstream 127.0.0.1:${world.backend.port}`
  return { metric: 'httpProxyMs', call: overOneConnection(world, portOf(await sidecarFor(world, 'http', words))) }
}

/** Nothing is called: the connection itself ends. */
const tcpWay = async (world: World): Promise<Way> => {
  const upstream = await listening(
    world,
    createTcpServer(socket => void socket.on('error', () => {}).pipe(socket)),
  )
  const words = `--mode tcp --listen 127.0.0.1:0 --upstream 127.0.0.1:${upstream}`
  const port = portOf(await sidecarFor(world, 'tcp', words))
  return {
    metric: 'tcpProxyMs',
    call: async identity => {
      const socket = await connected(port, identity, join(world.orders, 'ca.crt'))
      const cut = new Promise<number>(resolve => {
        socket.on('error', () => {})
        socket.once('close', () => resolve(now()))
      })
      return () => cut
    },
  }
}

const startProxy = async (world: World, program: string, args: readonly string[], port: number): Promise<Running> => {
  const running = world.ends.use(
    startProgram(program, args, world.ca.directory, { ...process.env, HOME: world.ca.directory }),
  )
  await untilListening(port, running)
  return running
}

const recipeWay = async (world: World, name: string): Promise<Way | null> => {
  const proxy = proxies[name]
  if (proxy === undefined || !installed(proxy)) return null
  const recipe = await recipeOf(world.ca, name, world.backend)
  world.ends.use(await startSidecar(world.ca, commandOf(recipe, `--proxy ${name}`)))
  // The name of the socket is the page's: each recipe has one of its own here.
  await startProxy(world, proxy.program, proxy.configured(recipe), recipe.listenPort)
  return { metric: `${name}Ms`, call: overOneConnection(world, recipe.listenPort) }
}

/** nginx by lists, as docs/integrations has it, kept new by the sidecar; a connection for each call, because open ones outlive a revocation there. */
const listWay = async (world: World): Promise<Way | null> => {
  const { ca, orders, ends, backend } = world
  if (!installed(proxies.nginx!)) return null
  const port = await freePort()
  const etc = join(ca.directory, 'lists')
  mkdirSync(etc)
  const lists = join(etc, 'crls.pem')
  const file = join(etc, 'nginx.conf')
  const server = blockWith('docs/integrations/nginx-lists.md', 'nginx', 'ssl_verify_client')
    .text.replaceAll('/etc/agentca/orders', orders)
    .replaceAll('/etc/agentca/crls.pem', lists)
    .replace('127.0.0.1:9443', `127.0.0.1:${port}`)
    .replace('127.0.0.1:9080', `127.0.0.1:${backend.port}`)
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${join(etc, name)};`,
  )
  const around = `daemon off; pid ${join(etc, 'pid')}; error_log ${join(etc, 'error.log')}; events {}`
  writeFileSync(file, `${around}\nhttp { access_log off; ${scratch.join(' ')}\n${server}}\n`)
  // Its first run finds no nginx yet, and fails; it is tried again.
  const command = `agentca-verify serve --dir ${orders} --crl-file ${lists} --on-change 'nginx -s reload -c ${file}'`
  ends.use(await startSidecar(ca, command))
  await startProxy(world, 'nginx', ['-c', file], port)
  const call = (identity: string) => {
    let last: Caller | null = null
    return callingBy(() => {
      last?.close()
      last = callerOf(identity, join(orders, 'ca.crt'), port)
      return last
    }, 200)
  }
  return { metric: 'nginxListMs', call }
}

const adminOf = (ca: ServedCa) => {
  const [out, err] = [() => {}, () => {}]
  const rest = {
    isTerminal: false,
    colours: false,
    readStdin: async () => '',
    confirm: async () => false,
    setExitCode: () => {},
  }
  return createAdminClient(openConnection({ out, err, ...rest, env: { AGENTCA_HOME: ca.home }, cwd: ca.directory }, {}))
}

const limit = 'the CA has answered the revocation'

export const refused: Bench = {
  name: 'refused',
  metrics: ['nodeLibraryMs', 'httpProxyMs', 'tcpProxyMs', 'nginxMs', 'haproxyMs', 'caddyMs', 'nginxListMs'],
  run: async context => {
    const rounds = context.quick ? 3 : 20
    await using ends = new AsyncDisposableStack()
    const ca = ends.use(await startServedCa())
    const orders = await serviceOf(ca, 'orders', 'orders.internal', 'localhost')
    const server = createServer((_, answer) => answer.end('ok'))
    const world: World = { ca, orders, ends, backend: { port: 0 } }
    const backend = { port: await listening(world, server) }
    const full = { ...world, backend }
    const ways: Way[] = [await libraryWay(full), await httpWay(full), await tcpWay(full)]
    for (const name of Object.keys(proxies)) {
      const way = await recipeWay(full, name)
      if (way === null) context.say(`refused: ${name} is not installed`)
      else ways.push(way)
    }
    const list = await listWay(full)
    if (list !== null) ways.push(list)
    const runs = new Map<string, Run[]>(ways.map(({ metric }) => [metric, []]))
    const admin = adminOf(ca)
    for (let round = 0; round < rounds; round++) {
      const identity = await ca.enrolled(`rogue-${round}`)
      const waiting: (readonly [string, () => Promise<number>])[] = []
      for (const { metric, call } of ways) waiting.push([metric, await call(identity)])
      const begun = now()
      await admin.call('revoke', {
        body: { by: 'agent', value: `rogue-${round}`, reason: 'keyCompromise', expected: 1 },
      })
      const limitValue = now() - begun
      for (const [metric, refusal] of waiting) runs.get(metric)!.push({ value: (await refusal()) - begun, limitValue })
    }
    for (const [metric, measured] of runs) context.found({ metric, unit: 'ms', limit, runs: measured })
  },
}
