// The recipes of docs/integrations for nginx, HAProxy and Caddy in those programs: who gets through, that a revoked agent is refused on its
// next call over an open connection, and that nobody gets through by what a client can write into a request.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installed, type ProxyProgram, proxies } from './forward-auth-proxies.ts'
import {
  type Backend,
  type Caller,
  callerOf,
  commandOf,
  type Recipe,
  type Running,
  recipeOf,
  serviceOf,
  startBackend,
  startProgram,
  startSidecar,
  untilListening,
} from './forward-auth-world.ts'
import { mustRun, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa
let backend: Backend
let proxyUnderTest: string
const directories = new Map<string, string>()
const enrolled = async (agent: string): Promise<string> => {
  const directory = directories.get(agent) ?? (await ca.enrolled(agent))
  directories.set(agent, directory)
  return directory
}
beforeAll(async () => {
  ca = await startServedCa()
  backend = await startBackend(() => join(ca.directory, 'state', proxyUnderTest, 'orders/assertion.pub.pem'))
  await serviceOf(ca, 'orders', 'orders.internal')
}, 180_000)
afterAll(async () => {
  await backend?.[Symbol.asyncDispose]()
  await ca?.[Symbol.asyncDispose]()
})

const inProxy = (name: string, { program, configured }: ProxyProgram): void => {
  const callers: Caller[] = []
  let recipe: Recipe
  let sidecar: Running
  let proxy: Running
  const roots = (): string => join(ca.directory, 'etc/orders/ca.crt')
  const asAgent = async (agent: string): Promise<Caller> => {
    const caller = callerOf(await enrolled(agent), roots(), recipe.listenPort)
    callers.push(caller)
    return caller
  }
  const statusOf = async (caller: Caller, ...call: Parameters<Caller['call']>): Promise<number> =>
    (await caller.call(...call)).status

  beforeAll(async () => {
    proxyUnderTest = name
    recipe = await recipeOf(ca, name, backend)
    sidecar = await startSidecar(ca, commandOf(recipe, `--proxy ${name}`))
    proxy = startProgram(program, configured(recipe), ca.directory, { ...process.env, HOME: ca.directory })
    await untilListening(recipe.listenPort, proxy)
  }, 180_000)
  afterAll(async () => {
    for (const caller of callers) caller.close()
    await proxy?.[Symbol.asyncDispose]()
    await sidecar?.[Symbol.asyncDispose]()
  })

  // One after the other: the last one ends the sidecar.
  it('lets an agent through under its name, and nobody without its certificate', async () => {
    const good = await asAgent('good')
    expect(await good.call('/?x=%2e%2e/../y', {}, 'POST')).toEqual({ status: 200, body: 'for good' })
    expect(await statusOf(callerOf(null, roots(), recipe.listenPort))).not.toBe(200)
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'foreign.key']
    await mustRun('openssl', ['req', '-x509', ...key, '-subj', '/CN=agent-good', '-out', 'foreign.crt'], {
      cwd: ca.directory,
    })
    const { out } = await runProgram(
      'curl',
      [
        '-sk',
        '--cert',
        'foreign.crt',
        '--key',
        'foreign.key',
        '-w',
        '%{http_code}',
        '-o',
        '/dev/null',
        `https://127.0.0.1:${recipe.listenPort}/`,
      ],
      { cwd: ca.directory },
    )
    expect(out).not.toBe('200')
    // A service of this CA is no agent.
    expect(await statusOf(callerOf(join(ca.directory, 'etc/orders'), roots(), recipe.listenPort))).toBe(403)
  })

  it('is not deceived by headers that a client makes up', async () => {
    const caller = await asAgent('good')
    const other = readFileSync(join(await enrolled('victim'), 'tls.crt'), 'utf8').split(
      /(?<=-----END CERTIFICATE-----\n)/,
    )[0] as string
    const base64 = other.replaceAll(/-----[A-Z ]+-----|\n/g, '')
    const spoofed = [encodeURIComponent(other), base64]
    for (const certificate of spoofed)
      for (const header of ['Agentca-Client-Certificate', 'agentca_client_certificate', 'Agentca.Client.Certificate']) {
        const { status, body } = await caller.call('/', { [header]: certificate })
        expect(`${status} ${body}`).toMatch(/^(?:200 for good$|40[0-9] )/)
      }
    for (const header of ['Agentca-Assertion', 'agentca_assertion', 'AGENTCA-ASSERTION', 'Agentca.Assertion']) {
      const { status } = await caller.call('/', { [header]: 'eyJhbGciOiJub25lIn0.e30.' })
      if (status !== 200) expect(status).toBe(403)
      // nginx drops names with other characters before anybody sees them.
      else
        expect(Object.keys(backend.seen()!.headers).filter(each => /^agentca/.test(each))).toEqual([
          'agentca-assertion',
        ])
    }
    expect(await statusOf(caller, '/', { 'Agentca-Assertion': 'x' })).toBe(403)
    // The rule for /reports holds whatever the client says it calls.
    expect(await statusOf(caller, '/reports')).toBe(403)
    for (const header of ['X-Original-URI', 'X-Forwarded-Uri', 'X-Original-URL', 'X-Rewrite-URL'])
      expect(await statusOf(caller, '/reports', { [header]: '/' }), header).toBe(403)
    for (const header of ['X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Original-URL', 'X-Rewrite-URL'])
      expect(await statusOf(caller, '/', { [header]: '/reports' }, 'POST'), header).toBe(403)
    for (const header of ['X-Original-Method', 'X-Forwarded-Method'])
      expect(await statusOf(caller, '/reports', { [header]: 'POST' }), header).toBe(403)
  })

  it('is not deceived by the spelling of a path', async () => {
    const caller = await asAgent('good')
    expect(await statusOf(caller, '/free/reports')).toBe(200)
    for (const path of [
      '/free/../reports',
      '/free/%2e%2e/reports',
      '//reports',
      '/./reports',
      '/free//reports',
      '/free%2f..%2freports',
      '/%72eports',
      '/Reports',
      '/reports.json',
      '/reports/',
      '/reports%2f',
      '/reports;x',
      '/reports%00',
      '/reports%3f',
      '/free\\..\\reports',
    ]) {
      const { status } = await caller.call(path)
      expect([400, 403], `${path}: ${status}`).toContain(status)
    }
  })

  it('refuses a revoked agent on its next call, over the connection that it has', async () => {
    const [leaked, honest] = [await asAgent(`leaked-${name}`), await asAgent('good')]
    expect(await statusOf(leaked)).toBe(200)
    await ca.agentcaJson('revoke', '--agent', `leaked-${name}`, '--reason', 'keyCompromise', '--yes', '--wait', '30s')
    expect(await statusOf(leaked)).toBe(403)
    expect(await statusOf(honest)).toBe(200)
  })

  it('lets nobody through while the sidecar is away', async () => {
    const good = await asAgent('good')
    expect(await statusOf(good)).toBe(200)
    await sidecar[Symbol.asyncDispose]()
    expect(await statusOf(good)).toBeGreaterThanOrEqual(400)
  })
}

for (const [name, proxy] of Object.entries(proxies))
  describe.skipIf(!installed(proxy))(`${name} by its page`, { timeout: 180_000 }, () => inProxy(name, proxy))
