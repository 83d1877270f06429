// What a program gets that imports `agentca/agent`: the public names, no native code, no database, no web framework; and a process
// that ends when its own work is done.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Backend, type CaServer, createBackend, createCaServer, type Fate, issueForService } from './ca-server.ts'

const run = promisify(execFile)
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))

interface Loaded {
  readonly exported: readonly string[]
  readonly urls: readonly string[]
  readonly builtIns: readonly string[]
  readonly sharedObjects: readonly string[]
}

describe('importing the agent', () => {
  let loaded: Loaded
  beforeAll(async () => {
    loaded = JSON.parse((await run(process.execPath, [file('loaded-modules.ts')], { maxBuffer: 1 << 24 })).stdout)
  })

  it('gives the contract’s names', () => {
    expect(loaded.exported).toEqual([
      'AgentError',
      'agentIdentity',
      'isTransient',
      'openCredentialDirectory',
      'readCredentialDirectory',
      'tlsMaterialOf',
    ])
  })

  it('loads only what lies below it, and of the packages undici and jose', () => {
    const files = loaded.urls.filter(url => url.startsWith('file:'))
    expect(files.length).toBeGreaterThan(30)
    for (const url of files)
      expect(url).toMatch(/\/src\/(base|pki|verify|jws|agent)\/[a-z0-9-]+\.ts$|\/node_modules\/(undici|jose)\//)
    for (const url of loaded.urls.filter(each => !each.startsWith('file:'))) expect(url).toMatch(/^node:[a-z0-9_/]+$/)
  })

  it('loads no native addon and no database', () => {
    expect(loaded.sharedObjects.length).toBeGreaterThan(1)
    expect(loaded.sharedObjects.filter(path => path.endsWith('.node'))).toEqual([])
    expect(loaded.builtIns.filter(name => /sqlite/i.test(name))).toEqual([])
    expect(loaded.builtIns.some(name => name.includes('crypto'))).toBe(true)
  })
})

describe('a program with an identity', () => {
  let ca: CaServer
  let orders: Backend
  beforeAll(async () => {
    ca = await createCaServer()
    orders = await createBackend(ca.rootPem, await issueForService(ca.front.ca, 'orders'))
  })
  afterAll(async () => {
    await orders?.close()
    await ca?.[Symbol.asyncDispose]()
  })

  const program = (name: string, text: string): string => {
    const entry = new URL('../../src/agent/index.ts', import.meta.url).href
    writeFileSync(ca.scratch(name), `import { agentIdentity } from '${entry}'\n${text}`)
    return ca.scratch(name)
  }
  const environment = async (agent: string) => ({
    ...process.env,
    AGENTCA_URL: ca.url,
    AGENTCA_CA_FILE: ca.caFile,
    AGENTCA_TOKEN_FILE: await ca.tokenFile(agent),
  })
  const call = `const res = await id.fetch('ORDERS', { peer: 'spiffe://example.org/service/orders' })
    console.log((await res.json()).caller)`

  it('is six lines long, and ends when they do', async () => {
    const text = `await using id = await agentIdentity()\n${call.replace('ORDERS', orders.url)}`
    const { stdout } = await run(process.execPath, [program('six.mjs', text)], { env: await environment('six-lines') })
    expect(stdout).toMatch(/^URI:spiffe:\/\/example\.org\/agent\/six-lines\/i\/[0-9a-f]{32}\n$/)
  })

  it('is not kept alive by the renewal that would come', async () => {
    const text = 'const id = await agentIdentity()\nconsole.log(id.status().state)'
    const { stdout } = await run(process.execPath, [program('idle.mjs', text)], { env: await environment('idles') })
    expect(stdout).toBe('ok\n')
  })

  it('waits for a CA that cannot answer yet instead of ending without a word', async () => {
    ca.fate('lose-request', { problem: { status: 503, code: 'signer_unavailable', retryAfter: '1' } })
    const text = 'const id = await agentIdentity()\nconsole.log(id.current().facts.generation)'
    const { stdout } = await run(process.execPath, [program('waits.mjs', text)], { env: await environment('waits') })
    expect(stdout).toBe('1\n')
  })

  /** Starts the program, and kills it when the CA has committed and before it has answered. */
  const killedBehindCommit = async (file: string, env: NodeJS.ProcessEnv, ...before: readonly Fate[]) => {
    let child: ChildProcess | undefined
    const kill: Fate = {
      change: answer => {
        child?.kill('SIGKILL')
        return answer
      },
    }
    ca.fate(...before, kill)
    child = spawn(process.execPath, [file], { env, stdio: ['ignore', 'ignore', 'inherit'] })
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])
  }
  const rowsOf = (agent: string) =>
    ca.front.ledger.certificates
      .list({ registration: { kind: 'agent', name: agent }, limit: 100 })
      .rows.map(row => [row.generation, row.state])

  it('is killed three times behind the commit of its enrolment, and gets the one certificate there is', async () => {
    const env = { ...(await environment('killed')), AGENTCA_DIR: ca.scratch('killed') }
    const text = 'await using id = await agentIdentity()\nconsole.log(id.current().facts.generation)'
    for (let i = 0; i < 3; i++) await killedBehindCommit(program('killed.mjs', text), env)
    expect((await run(process.execPath, [program('killed.mjs', text)], { env })).stdout).toBe('1\n')
    expect(rowsOf('killed')).toEqual([[1, 'issued']])
  }, 180_000)

  it('is killed three times behind the commit of its renewal: no replacement, no lock', async () => {
    const env = { ...(await environment('killed-later')), AGENTCA_DIR: ca.scratch('killed-later') }
    const text = `await using id = await agentIdentity()
      const renewed = new Promise(resolve => id.onChange(resolve))
      const alive = setInterval(() => {}, 1000)
      console.log((await renewed).facts.generation)
      clearInterval(alive)`
    const soon: Fate = { change: answer => ({ ...answer, renewInSeconds: 1 }) }
    await killedBehindCommit(program('later.mjs', text), env, soon)
    for (let i = 0; i < 2; i++) await killedBehindCommit(program('later.mjs', text), env)
    expect((await run(process.execPath, [program('later.mjs', text)], { env })).stdout).toBe('2\n')
    expect(rowsOf('killed-later')).toEqual([
      [2, 'issued'],
      [1, 'issued'],
    ])
  }, 180_000)

  it('shows no key when its identity is logged', async () => {
    const text = `import { inspect } from 'node:util'
      await using id = await agentIdentity()
      console.log(inspect(id.current(), { depth: 9, showHidden: true }), JSON.stringify(id.current()))`
    const { stdout } = await run(process.execPath, [program('logs.mjs', text)], { env: await environment('logs') })
    expect(stdout).toContain('spiffe://example.org/agent/logs/i/')
    expect(stdout).not.toContain('PRIVATE KEY---')
  })
})
