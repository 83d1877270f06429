// A job of a CI service becomes an agent with the token that its platform gave it, and with nothing else: nobody hands it a secret.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { agentIdentity } from '../../src/agent/index.ts'
import { signProof } from '../../src/jws/sign-proof.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { type Provider, startProvider } from '../enrol/provider.ts'
import { freePort } from '../setup/free-port.ts'
import { installed, proxies } from './forward-auth-proxies.ts'
import { mustRun, type ServedCa, startServedCa } from './served-ca.ts'
import { until } from './until.ts'

let provider: Provider
let ca: ServedCa
let attestors: string

beforeAll(async () => {
  provider = await startProvider('https://ca.example.org')
  attestors = mkdtempSync(join(tmpdir(), 'agentca-attestors-'))
  writeFileSync(
    join(attestors, 'github.yaml'),
    `kind: jwt
issuer: ${provider.issuer}
audience: https://ca.example.org
keys: {from: discovery, caFile: ${provider.caFile}}
rules:
  - name: deployments
    agent: ci-{repository_owner}
    require: {repository_owner_id: '4711', ref: refs/heads/main, event_name: [push, workflow_dispatch]}
`,
  )
  makeCorporate()
  writeFileSync(
    join(attestors, 'machines.yaml'),
    'kind: x509\nanchorsFile: pki/corporate.pem\nrules: [{agent: builder, require: {dns: "*.ci.example.org"}}]\n',
  )
  ca = await startServedCa({ env: { ...process.env, AGENTCA_ATTESTORS: attestors } })
}, 180_000)

afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
  await provider?.[Symbol.asyncDispose]()
  rmSync(attestors, { recursive: true, force: true })
})

const job = { repository_owner: 'acme', repository_owner_id: '4711', ref: 'refs/heads/main', event_name: 'push' }

interface Leaf {
  readonly event: string
  readonly content: Readonly<Record<string, unknown>>
}
const tail = (event: string): Promise<Leaf[]> => ca.agentcaJson('audit', 'tail', '-n', '20', '--event', event)
const put = (name: string, text: string): string => {
  const file = join(ca.directory, name)
  writeFileSync(file, text)
  return file
}

it('a job enrols with the token of its platform, renews, and nobody enrols with that token again', async () => {
  await ca.agentcaJson('agent', 'create', 'ci-acme', '--owner', 'platform')
  const jwt = await provider.token({ claims: { ...job, sub: 'repo:acme/shop:ref:refs/heads/main' } })
  const jwtFile = put('job.jwt', jwt)
  const tried = await ca.agentca('attestor', 'test', '--jwt-file', jwtFile, '-o', 'json')
  expect(JSON.parse(tried.out)).toMatchObject({ becomes: 'agent ci-acme', rule: 'deployments', problem: null })

  const start = { url: ca.urls.api, caFingerprint: ca.rootFingerprint, jwtFile, watch: 'none' } as const
  await using me = await agentIdentity(start)
  const first = me.current().facts
  expect(first).toMatchObject({ agent: 'ci-acme', generation: 1 })
  await me.renew()
  expect(me.current().facts).toMatchObject({ instance: first.instance, generation: 2 })

  await expect(agentIdentity(start)).rejects.toMatchObject({ code: 'token_reuse', status: 403 })
  expect(await tail('evidence_admitted')).toHaveLength(1)
  expect(await tail('token_reuse')).toHaveLength(1)
  expect(await ca.agentcaJson('instance', 'show', first.instance)).toMatchObject({
    evidence: { type: 'jwt', attestor: 'github', subject: 'repo:acme/shop:ref:refs/heads/main' },
  })
  const again = await ca.agentca('attestor', 'test', '--jwt-file', jwtFile, '-o', 'json')
  expect([again.code, JSON.parse(again.out).code]).toEqual([9, 'token_reuse'])

  // One line where the platform has to be asked.
  const ask = () => provider.token({ claims: job })
  await using second = await agentIdentity({ ...start, jwtFile: '', evidence: { jwt: ask } })
  expect(second.current().facts.instance).not.toBe(first.instance)
}, 120_000)

it('a machine enrols with the certificate of its own authority at the command line', async () => {
  const rest = ['--url', ca.urls.api, '--ca-fingerprint', ca.rootFingerprint, '--dir', 'machine']
  await ca.agentcaJson('agent', 'create', 'builder', '--owner', 'platform')
  const shown = ['--evidence-certificate', corporate('build-1.pem'), '--evidence-key', corporate('build-1.key')]
  const { instance } = await ca.agentcaJson<{ instance: string }>('enroll', ...shown, ...rest)
  expect(await ca.agentcaJson('instance', 'show', instance)).toMatchObject({
    name: 'builder',
    evidence: { type: 'x509', attestor: 'machines', subject: 'CN=build-1' },
  })
  const wrongKey = ['--evidence-certificate', corporate('build-1.pem'), '--evidence-key', corporate('proxy.key')]
  const wrong = await ca.agentca('enroll', ...wrongKey, ...rest.slice(0, -1), 'other')
  expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('is not that of the certificate')])
}, 120_000)

it('only the key that a registration names enrols, whoever holds the token', async () => {
  const requests = { bound: requestOf('bound'), stolen: requestOf('stolen') }
  await ca.agentcaJson('agent', 'create', 'tpm', '--owner', 'platform', '--bind-key', corporate('bound.csr'))
  await ca.agentcaJson('token', 'create', '--agent', 'tpm', '--file', 'tpm.token')
  const token = readFileSync(join(ca.directory, 'tpm.token'), 'utf8').trim()
  const roots = await mustRun(join(checkout, 'bin/agentca'), ['bundle', 'show'], { cwd: ca.directory, env: ca.env })
  const enrol = (csr: string) => post(`${ca.urls.api}/v1/enroll`, roots, { csr, evidence: { type: 'token', token } })
  expect(await enrol(requests.stolen)).toMatchObject({ status: 403, body: { code: 'key_not_bound' } })
  expect(await enrol(requests.bound)).toMatchObject({ status: 201, body: { agent: 'tpm' } })
}, 120_000)

const withNginx = installed(proxies.nginx!) ? it : it.skip

withNginx(
  'nginx: an agent behind a proxy that ends TLS enrols and renews by a JWS, with the same lineage',
  async () => {
    const roots = await mustRun(join(checkout, 'bin/agentca'), ['bundle', 'show'], { cwd: ca.directory, env: ca.env })
    const caFile = put('roots.pem', roots + readFileSync(corporate('corporate.pem'), 'utf8'))
    await using proxy = await startNginx(ca.urls.api)
    const tokenFile = await ca.agentToken('serverless')
    await using me = await agentIdentity({ url: proxy.url, caFile, tokenFile, renewBy: 'jws' })
    const before = me.current()
    await me.renew()
    await me.renew()
    expect(me.current().facts).toMatchObject({ instance: before.facts.instance, generation: 3 })

    // A certificate whose successor has renewed is an older one, however it is shown: two hold this lineage.
    const csr = requestOf('older')
    const request = {
      csr: new Uint8Array(parsePem(csr, 'CERTIFICATE REQUEST')[0]!),
      audience: `${ca.urls.api}/v1/renew`,
    }
    const jws = await signProof({ ...request, privateKey: before.privateKey, now: Date.now() })
    const renewed = await post(`${proxy.url}/v1/renew`, readFileSync(caFile, 'utf8'), { csr, jws })
    expect(renewed).toMatchObject({ status: 403, body: { code: 'lineage_conflict' } })
  },
  120_000,
)

const corporate = (name: string): string => join(attestors, 'pki', name)
const corporateOpenssl = (...args: readonly string[]): void => {
  execFileSync('openssl', args, { cwd: join(attestors, 'pki'), stdio: 'ignore' })
}

/** PEM, of a new key in a file of this name. */
const requestOf = (name: string): string => {
  corporateOpenssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', `${name}.key`)
  corporateOpenssl('req', '-new', '-key', `${name}.key`, '-subj', '/', '-out', `${name}.csr`)
  return readFileSync(corporate(`${name}.csr`), 'utf8')
}

/** Another authority, with a machine and a web server of its own. */
const makeCorporate = (): void => {
  mkdirSync(join(attestors, 'pki'))
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const root = ['-days', '30', '-subj', '/CN=Corporate', '-keyout', 'corporate.key', '-out', 'corporate.pem']
  corporateOpenssl('req', '-x509', ...newKey, ...root)
  for (const [name, names, usage] of [
    ['build-1', 'DNS:build-1.ci.example.org', 'clientAuth'],
    ['proxy', 'DNS:localhost,IP:127.0.0.1', 'serverAuth'],
  ] as const) {
    corporateOpenssl('req', '-new', ...newKey, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
    writeFileSync(corporate(`${name}.ext`), `subjectAltName=${names}\nextendedKeyUsage=${usage}\n`)
    corporateOpenssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'corporate.pem', '-CAkey', 'corporate.key', '-days', '5'],
      ...['-extfile', `${name}.ext`, '-out', `${name}.pem`],
    )
  }
}

const post = (url: string, roots: string, body: object): Promise<{ status: number; body: Record<string, unknown> }> =>
  new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const call = request(url, { method: 'POST', ca: roots, headers, agent: false }, response => {
      let text = ''
      response.on('data', part => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }))
    })
    call.on('error', reject)
    call.end(JSON.stringify(body))
  })

const startNginx = async (api: string): Promise<AsyncDisposable & { readonly url: string }> => {
  const port = await freePort()
  const etc = join(ca.directory, 'nginx')
  mkdirSync(etc)
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    each => `${each}_temp_path ${join(etc, each)};`,
  )
  const user = process.getuid?.() === 0 ? 'user root;' : ''
  writeFileSync(
    join(etc, 'nginx.conf'),
    `${user} daemon off; pid ${join(etc, 'nginx.pid')}; error_log stderr; events {}
http { access_log off; ${scratch.join(' ')}
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${corporate('proxy.pem')};
    ssl_certificate_key ${corporate('proxy.key')};
    ssl_protocols TLSv1.3;
    location / { proxy_pass ${api}; proxy_ssl_protocols TLSv1.3; }
  }
}
`,
  )
  const nginx = spawn('nginx', ['-c', join(etc, 'nginx.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  nginx.stderr.on('data', part => {
    said += part
  })
  const url = `https://127.0.0.1:${port}`
  const answers = (): Promise<boolean> =>
    new Promise(resolve => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
      socket.end()
    })
  await until('nginx answers', answers, () => said)
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      if (nginx.exitCode === null && nginx.kill('SIGTERM')) await once(nginx, 'exit')
    },
  }
}
