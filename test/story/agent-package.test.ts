// The package for agents and backends as somebody gets it: installed from its tarball into an empty folder, with nothing to compile; a
// backend and the agent of docs/agents.md run from it under the Node of this project and under Node 24, against a real CA: the agent
// enrols, calls, and is refused once it is revoked.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { packClient } from '../../scripts/pack-client.ts'
import { cleanEnv } from '../setup/checkout-copy.ts'
import { blockWith } from '../setup/documents.ts'
import { mustRun, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

let ca: ServedCa
let place: string
let env: NodeJS.ProcessEnv
const children: ChildProcess[] = []

const npm = [
  '--prefer-offline',
  '--ignore-scripts',
  '--no-audit',
  '--no-fund',
  '--fetch-retries=0',
  '--fetch-timeout=20000',
]
/** npm without a network says one of these; anything else is a fault of the package. */
const offline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|EIDLETIMEOUT/

const backend = `import { agentIdentity } from 'agentca/agent'
import { agentVerifier } from 'agentca/verifier'

const identity = await agentIdentity({ service: 'orders' })
const verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
await verifier.ready()
const check = verifier.express()
const server = verifier.createServer((request, response) => check(request, response, () => response.end('hello')))
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.on('SIGTERM', () => process.exit(0))
`

beforeAll(async () => {
  place = mkdtempSync(join(tmpdir(), 'agentca-client-'))
  env = cleanEnv()
  const tarball = packClient(place)
  const installed = await runProgram('npm', ['install', ...npm, tarball], { cwd: place, env })
  if (installed.code !== 0) {
    if (!offline.test(installed.out + installed.err)) throw new Error(installed.out + installed.err)
    // Without a network the checkout's own copies of its dependencies stand in.
    mkdirSync(join(place, 'node_modules'), { recursive: true })
    await mustRun('tar', ['--extract', '--file', tarball, '--directory', join(place, 'node_modules')], {
      cwd: place,
      env,
    })
    await mustRun('mv', ['node_modules/package', 'node_modules/agentca'], { cwd: place, env })
    for (const name of Object.keys(manifest().dependencies))
      symlinkSync(join(root, 'node_modules', name), join(place, 'node_modules', name))
  }
  writeFileSync(join(place, 'agent.mjs'), blockWith('docs/agents.md', 'js', 'me.signal.aborted').text)
  writeFileSync(join(place, 'backend.mjs'), backend)
  ca = await startServedCa()
  await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
}, 180_000)
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await ca?.[Symbol.asyncDispose]()
  rmSync(place, { recursive: true, force: true })
})

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>
  readonly bin: Readonly<Record<string, string>>
}
const manifest = (): Manifest =>
  JSON.parse(readFileSync(join(place, 'node_modules/agentca/package.json'), 'utf8')) as Manifest

describe('the package for agents and backends', () => {
  it('brings nothing that needs a compiler, a database or a web framework', () => {
    expect(
      Object.keys(manifest().dependencies).filter(
        name => !['jose', 'undici', '@cedar-policy/cedar-wasm'].includes(name),
      ),
    ).toEqual([])
    const files = readdirSync(join(place, 'node_modules/agentca'), { recursive: true, encoding: 'utf8' })
    expect(files.filter(name => name.endsWith('.node') || name.endsWith('.gyp') || name.endsWith('.ts'))).toEqual(
      files.filter(name => name.endsWith('.d.ts')),
    )
    const folders = new Set(files.filter(name => name.startsWith('dist/')).map(name => name.split('/')[1]))
    for (const folder of ['ca', 'cli', 'http', 'server', 'signer', 'store', 'schema'])
      expect(folders).not.toContain(folder)
  })

  it('has types that a strict program compiles with, libraries checked', async () => {
    writeFileSync(
      join(place, 'consumer.ts'),
      `import { type AgentIdentity, agentIdentity } from 'agentca/agent'
import { type AgentVerifier, agentVerifier } from 'agentca/verifier'
export const start = async (): Promise<AgentVerifier> => {
  const identity: AgentIdentity = await agentIdentity({ service: 'orders' })
  identity.on('revoked', error => console.log(error.hint))
  return agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
}
// @ts-expect-error a client without a peer is a mistake
export const wrong = (me: AgentIdentity) => me.dispatcher({})
`,
    )
    const options = { module: 'nodenext', target: 'es2024', lib: ['es2024', 'esnext.disposable'], strict: true }
    const typeRoots = [join(root, 'node_modules/@types')]
    const compilerOptions = { ...options, noEmit: true, types: ['node'], typeRoots }
    writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }))
    const tsc = join(root, 'node_modules/.bin/tsc')
    expect(await runProgram(tsc, ['-p', '.'], { cwd: place, env })).toMatchObject({ code: 0, out: '' })
  }, 180_000)

  it('has its programs', async () => {
    const agent = join(place, 'node_modules/agentca', manifest().bin['agentca-agent'] as string)
    const { code, out } = await runProgram(process.execPath, [agent, '--help'], { cwd: place, env })
    expect([code, out]).toEqual([0, expect.stringContaining('usage: agentca-agent COMMAND')])
  })
})

/** Any other Node: installed for this test alone, where the registry gives it. @returns null where it does not */
const node24 = async (): Promise<string | null> => {
  const name = `node-linux-${process.arch}`
  const { code } = await runProgram('npm', ['install', ...npm, '--prefix', join(place, 'node24'), `${name}@24`], {
    cwd: place,
    env,
  })
  return code === 0 ? join(place, 'node24/node_modules', name, 'bin/node') : null
}

const start = (node: string, file: string, more: NodeJS.ProcessEnv) => {
  const paths = { AGENTCA_URL: ca.urls.api, AGENTCA_CA_FILE: join(ca.home, 'issuers/root-1.pem') }
  const child = spawn(node, [file], {
    cwd: place,
    env: { ...env, ...paths, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let err = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ended = once(child, 'exit').then(([code]) => code as number | null)
  return {
    child,
    ended,
    next: async (): Promise<string> => {
      const { done, value } = await lines.next()
      if (done === true) throw new Error(`${file} ended: ${err}`)
      return value
    },
  }
}

describe.each(['the Node of this project', 'Node 24'])('from it, under %s', which => {
  it('an agent enrols, calls a backend, and is refused after its revocation', async context => {
    const node = which === 'Node 24' ? await node24() : process.execPath
    if (node === null) return context.skip('Node 24 could not be installed from the registry')
    const agent = which === 'Node 24' ? 'old-runtime' : 'new-runtime'
    await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', `${agent}-orders.token`)
    const serving = start(node, 'backend.mjs', { AGENTCA_TOKEN_FILE: join(ca.directory, `${agent}-orders.token`) })
    const port = await serving.next()
    const calling = start(node, 'agent.mjs', {
      AGENTCA_TOKEN_FILE: await ca.agentToken(agent),
      ORDERS_URL: `https://localhost:${port}/`,
    })
    expect(await calling.next()).toBe(`call 1 as ${agent}: 200`)
    expect(await calling.next()).toBe(`call 2 as ${agent}: 200`)
    await ca.agentcaJson('revoke', '--agent', agent, '--reason', 'keyCompromise', '--confirm', '1')
    let last = await calling.next()
    while (/: 200$/.test(last)) last = await calling.next()
    // Who hears first, the backend or the agent, is a race; either way it is over.
    expect(last).toMatch(/^(call \d+ as \S+: 403|stopped: revoked)$/)
    await calling.ended
    serving.child.kill('SIGTERM')
    await serving.ended
  }, 180_000)
})
