// The commands as an operator runs them, each a process of its own, against a whole CA made by `agentca init` and run by `agentca serve`.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import type { Check } from '../../src/cli/doctor-check.ts'

const agentca = join(checkout, 'bin', 'agentca')

let directory: string
let env: NodeJS.ProcessEnv
let server: ChildProcess
let firstOperatorToken: string
let urls: { readonly api: string; readonly status: string }

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

const run = (line: string): Promise<Ran> =>
  new Promise(resolve => {
    execFile(agentca, line.split(' '), { cwd: directory, env, encoding: 'utf8' }, (error, out, err) => {
      resolve({ code: error === null ? 0 : ((error.code as number | undefined) ?? -1), out, err })
    })
  })
const json = async <T>(line: string): Promise<T> => {
  const { code, out, err } = await run(`${line} -o json`)
  expect([line, code, code === 0 ? '' : err]).toEqual([line, 0, ''])
  return JSON.parse(out) as T
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-whole-'))
  env = {
    ...process.env,
    AGENTCA_HOME: join(directory, 'home'),
    AGENTCA_LISTEN_API: '127.0.0.1:0',
    AGENTCA_LISTEN_STATUS: '127.0.0.1:0',
    AGENTCA_LISTEN_OPS: '127.0.0.1:0',
  }
  // `init` takes free ports and writes them into certificates; the server listens where they point.
  const made = await json<{ readonly urls: typeof urls; readonly firstOperatorToken: string }>('init')
  ;({ urls, firstOperatorToken } = made)
  env.AGENTCA_LISTEN_API = new URL(urls.api).host
  env.AGENTCA_LISTEN_STATUS = new URL(urls.status).host
  server = spawn(agentca, ['serve'], { cwd: directory, env, stdio: ['ignore', 'pipe', 'ignore'] })
  const [line] = (await once(createInterface({ input: server.stdout! }), 'line')) as [string]
  expect(JSON.parse(line)).toMatchObject({ ready: true, api: urls.api })
}, 180_000)
afterAll(async () => {
  if (server?.exitCode === null && server.kill('SIGTERM')) await once(server, 'exit')
  rmSync(directory, { recursive: true, force: true })
})

const enrolWith = (tokenFile: string, dir: string): Promise<unknown> => {
  const caFile = join(env.AGENTCA_HOME!, 'issuers', 'root-1.pem')
  return json(`enroll --url ${urls.api} --ca-file ${caFile} --token-file ${tokenFile} --dir ${dir}`)
}
const enrolled = async (agent: string): Promise<void> => {
  await json(`agent create ${agent} --owner finance`)
  await json(`token create --agent ${agent} --file ${agent}.token`)
  await enrolWith(`${agent}.token`, agent)
}

describe('agentca, process by process', () => {
  it('enrols an agent, and refuses it everywhere once it is revoked', async () => {
    await enrolled('billing')
    expect(await run('ocsp check billing/credential-bundle.pem -o name')).toMatchObject({ code: 0, out: 'good\n' })

    const [certificate] = await json<{ serial: string }[]>('cert list --agent billing')
    const revoked = await json<{ publication: unknown }>(
      `revoke --serial ${certificate?.serial} --reason keyCompromise --yes --wait 60s`,
    )
    expect(revoked.publication).toMatchObject({ state: 'published', missing: 0 })
    const asked = await run('ocsp check billing/credential-bundle.pem -o json')
    expect([asked.code, JSON.parse(asked.out)]).toEqual([
      9,
      expect.objectContaining({ status: 'revoked', reason: 'keyCompromise' }),
    ])
    expect(await json('crl fetch issuing-1')).toMatchObject({ entries: 1, signature: 'checked' })
  })

  it('works from elsewhere with an operator’s certificate, and not with an agent’s', async () => {
    await enrolWith(firstOperatorToken, 'operator')
    await enrolled('paying')
    const listed = await run(`agent list -o name --url ${urls.api} --credential operator`)
    expect([listed.code, listed.out.split('\n')]).toEqual([0, expect.arrayContaining(['paying'])])
    const refused = await run(`agent list -o json --url ${urls.api} --credential paying`)
    expect([refused.code, refused.out, JSON.parse(refused.err)]).toEqual([
      4,
      '',
      expect.objectContaining({ code: 'operator_only' }),
    ])
  })

  it('has an audit log that verifies under its key and a checkpoint kept outside', async () => {
    await run('audit checkpoint --file kept')
    const key = join(env.AGENTCA_HOME!, 'issuers', 'log-1.pub.pem')
    expect((await run(`audit verify --log-key ${key} --checkpoint kept`)).code).toBe(0)
  })

  it('finds itself in order, but for the root key that is still on this machine', async () => {
    const { code, out } = await run('doctor -o json')
    const checks = JSON.parse(out) as readonly Check[]
    expect(checks.filter(each => each.status !== 'ok').map(each => [each.check, each.status])).toEqual([
      ['root key', 'warn'],
    ])
    expect(code).toBe(10)
    expect(checks.filter(each => each.check === 'urls').length).toBeGreaterThan(3)
  })

  it('ends the server on SIGTERM, and says afterwards that none is running', async () => {
    server.kill('SIGTERM')
    expect((await once(server, 'exit'))[0]).toBe(0)
    expect(existsSync(join(env.AGENTCA_HOME!, 'run', 'admin.sock'))).toBe(false)
    expect((await run('status')).code).toBe(7)
    const { code, out } = await run('doctor -o json')
    const checks = JSON.parse(out) as readonly Check[]
    expect(checks.filter(each => each.status === 'failed')).toEqual([])
    expect([code, checks.find(each => each.check === 'server')?.status]).toEqual([10, 'warn'])
  })
})
