// The package as somebody gets it: built, packed, installed into an empty folder; the CA runs from compiled files, and programs import the
// SDK with its types. What README.md and docs/ show in JavaScript is run here, because it imports the package.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { nodeHeaders, root } from '../../scripts/bootstrap.mjs'
import { mustRun, runProgram, type ServedCa, startServedCa } from '../story/served-ca.ts'
import { cleanEnv, copyCheckout } from './checkout-copy.ts'
import { blockWith } from './documents.ts'
import { freePort } from './free-port.ts'

interface Manifest {
  readonly name: string
  readonly version: string
  readonly dependencies: Readonly<Record<string, string>>
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
const tarball = `${manifest.name}-${manifest.version}.tgz`

/** The empty folder; the package is installed there once for all tests. */
let place: string
let env: NodeJS.ProcessEnv
let installation: { readonly how: 'by npm' | 'linked'; readonly said: string }

/** npm without a network says one of these; anything else is a fault of the package. */
const offline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED|EIDLETIMEOUT/

/** With the commands of docs/operations.md; without a network by hand, with the checkout's own packages for dependencies. */
const install = async (): Promise<typeof installation> => {
  const { text } = blockWith('docs/operations.md', 'sh', 'npm install')
  const { code, out, err } = await runProgram('sh', ['-ec', text], { cwd: place, env })
  if (code === 0) return { how: 'by npm', said: out + err }
  if (!offline.test(`${out}${err}`)) throw new Error(`${text}: exit code ${code}\n${out}${err}`)
  const modules = join(place, 'node_modules')
  rmSync(modules, { recursive: true, force: true })
  mkdirSync(join(modules, '.bin'), { recursive: true })
  await mustRun('tar', ['--extract', '--file', join(place, tarball), '--directory', modules], { cwd: place, env })
  cpSync(join(modules, 'package'), join(modules, manifest.name), { recursive: true })
  rmSync(join(modules, 'package'), { recursive: true })
  symlinkSync(`../${manifest.name}/bin/agentca`, join(modules, '.bin/agentca'))
  for (const name of readdirSync(join(root, 'node_modules')))
    if (!name.startsWith('.') && name !== 'node') symlinkSync(join(root, 'node_modules', name), join(modules, name))
  return { how: 'linked', said: '' }
}

let ca: ServedCa
beforeAll(async () => {
  place = mkdtempSync(join(tmpdir(), 'agentca-pack-'))
  env = {
    ...cleanEnv(),
    npm_config_fetch_retries: '0',
    npm_config_fetch_timeout: '20000',
    npm_config_prefer_offline: 'true',
    // Compiling the PKCS#11 addon must not fetch the runtime's headers.
    npm_config_nodedir: nodeHeaders() ?? '',
  }
  using copy = copyCheckout()
  await mustRun('npm', ['run', 'package', '--silent'], { cwd: copy.directory, env: copy.env })
  cpSync(join(copy.directory, tarball), join(place, tarball))
  installation = await install()
  ca = await startServedCa({ agentca: join(place, 'node_modules/.bin/agentca'), env })
}, 300_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
  rmSync(place, { recursive: true, force: true })
})

describe('the package', () => {
  it('installs by npm without a warning', context => {
    if (installation.how === 'linked') context.skip('no network: the checkout’s packages stand in for npm’s')
    expect(installation.said).not.toMatch(/warn/i)
  })

  it('holds what runs and what explains it, and neither sources nor tests', () => {
    const names = readdirSync(join(place, 'node_modules/agentca')).toSorted()
    expect(names.filter(name => name !== 'node_modules')).toEqual(
      ['README.md', 'SECURITY.md', 'bin', 'ca-config', 'dist', 'docs', 'package.json'].toSorted(),
    )
  })

  it('says its version', async () => {
    const { code, out } = await runProgram('npx', ['--no-install', 'agentca', 'version'], { cwd: place, env })
    expect([code, out]).toEqual([0, expect.stringMatching(new RegExp(`^agentca ${manifest.version} `))])
  })

  it('makes a CA and runs it, signer and ledger with it, from compiled files alone', async () => {
    const directory = await ca.enrolled('billing')
    expect(existsSync(join(directory, 'credential-bundle.pem'))).toBe(true)
    const signer = await ca.agentcaJson<{ readonly state: string }>('hsm', 'status')
    expect(signer).toMatchObject({ state: 'ready' })
    expect(existsSync(join(place, 'node_modules/agentca/src'))).toBe(false)
  })
})

/** Where it is installed, under Node, with paths of this CA. */
const start = (file: string, text: string, paths: NodeJS.ProcessEnv) => {
  const script = text
    .replaceAll('https://127.0.0.1:8443', ca.urls.api)
    .replaceAll('http://127.0.0.1:8081', ca.urls.status)
  writeFileSync(join(place, file), script)
  const roots = { AGENTCA_URL: ca.urls.api, AGENTCA_CA_FILE: join(ca.home, 'issuers/root-1.pem') }
  return spawn(process.execPath, [file], {
    cwd: place,
    env: { ...env, ...roots, ...paths },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

const linesOf = (child: ReturnType<typeof start>) => {
  const reader = createInterface({ input: child.stdout })
  let err = ''
  child.stderr.on('data', chunk => {
    err += chunk
  })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`ended with ${code}: ${err}`)
  })
  ended.catch(() => {})
  return { next: async () => (await Promise.race([once(reader, 'line') as Promise<[string]>, ended]))[0] }
}

describe('what the documents show in JavaScript', () => {
  it('README.md: six lines enrol an agent and call the CA with its identity', async () => {
    const { text } = blockWith('README.md', 'js', 'await using me')
    const child = start('agent.mjs', text, { AGENTCA_TOKEN_FILE: await ca.agentToken('six-lines') })
    const [line] = await Promise.all([linesOf(child).next(), once(child, 'exit')])
    expect(line).toMatch(/^spiffe:\/\/agentca\.local\/agent\/six-lines\/i\/[0-9a-f]{32}, \d+\.?\d* s left/)
    expect(child.exitCode).toBe(0)
  }, 60_000)

  it('README.md: a server in Node lets agents in, nobody else, and none that is revoked', async () => {
    await ca.agentcaJson('service', 'create', 'orders', '--dns', 'localhost')
    await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
    const port = await freePort()
    const { text } = blockWith('README.md', 'js', 'agentVerifier')
    const paths = { AGENTCA_TOKEN_FILE: join(ca.directory, 'orders.token'), AGENTCA_DIR: join(place, 'orders') }
    const child = start('server.mjs', text.replace('9444', String(port)), paths)
    try {
      expect(await linesOf(child).next()).toBe('listening')
      const call = async (directory: string) => {
        const file = (name: string): string => join(directory, name)
        const shown = ['--cacert', file('ca.crt'), '--cert', file('tls.crt'), '--key', file('tls.key')]
        const args = ['--silent', ...shown, '--write-out', ' %{http_code}', `https://localhost:${port}/`]
        return runProgram('curl', args, { cwd: place, env })
      }
      const agent = await ca.enrolled('calling')
      expect(await call(agent)).toMatchObject({ code: 0, out: 'hello calling\n 200' })
      expect((await call(join(place, 'orders'))).out).toMatch(/forbidden.* 403$/)
      const bare = ['--silent', '--cacert', join(agent, 'ca.crt'), `https://localhost:${port}/`]
      expect((await runProgram('curl', bare, { cwd: place, env })).out).toMatch(/unauthorized.*401/)

      await ca.agentcaJson('revoke', '--agent', 'calling', '--reason', 'keyCompromise', '--yes', '--wait', '60s')
      // The command is over once the feed has the entry; the verifier has it a moment later.
      let last = await call(agent)
      for (let tries = 0; tries < 300 && last.out.endsWith(' 200'); tries++) {
        await new Promise(resolve => setTimeout(resolve, 200))
        last = await call(agent)
      }
      expect(last.out).toMatch(/forbidden.* 403$/)
    } finally {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  }, 120_000)

  it('docs/relying-parties.md: a program keeps a service’s directory fresh', async () => {
    await ca.agentcaJson('service', 'create', 'files', '--dns', 'localhost')
    await ca.agentcaJson('token', 'create', '--service', 'files', '--file', 'files.token')
    const directory = join(place, 'files')
    await ca.agentcaJson(
      ...['enroll', '--url', ca.urls.api, '--ca-fingerprint', ca.rootFingerprint],
      ...['--token-file', 'files.token', '--dir', directory],
    )
    const { text } = blockWith('docs/relying-parties.md', 'js', 'agentIdentity')
    const told = `${text.replace("'orders'", "'files'")}\nconsole.log(service.status().state)\n`
    const child = start('keeper.mjs', told, { AGENTCA_DIR: directory })
    try {
      expect(await linesOf(child).next()).toBe('ok')
    } finally {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  }, 60_000)
})

describe('types', () => {
  it('of agentca/agent resolve in a strict consumer', async () => {
    const consumer = join(place, 'consumer')
    mkdirSync(consumer)
    writeFileSync(
      join(consumer, 'consumer.ts'),
      `import { agentIdentity, type AgentIdentity } from 'agentca/agent'
export const call = async (url: string): Promise<number> => {
  await using me: AgentIdentity = await agentIdentity({ service: 'orders' })
  return (await me.fetch(url, { peer: 'spiffe://example.org/service/x' })).status
}
// @ts-expect-error a call without a peer is a mistake
export const wrong = (me: AgentIdentity) => me.fetch('https://x', {})
`,
    )
    const options = { module: 'nodenext', target: 'es2024', lib: ['es2024', 'esnext.disposable'], strict: true }
    const typeRoots = [join(root, 'node_modules/@types')]
    writeFileSync(
      join(consumer, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...options, noEmit: true, types: ['node'], typeRoots } }),
    )
    const tsc = join(root, 'node_modules/.bin/tsc')
    expect(await runProgram(tsc, ['-p', '.'], { cwd: consumer, env })).toMatchObject({ code: 0, out: '' })
  }, 60_000)
})
