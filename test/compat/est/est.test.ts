// A client of EST that nobody here wrote, as it comes from its module: it is told roots, a server and a join token, and nothing of agentca.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { mustRun, type Ran, runProgram, type ServedCa, startServedCa } from '../../story/served-ca.ts'
import { compat } from '../compat.ts'
import { builtGo, compileMs, type GoProgram, goSubject } from '../go-program.ts'
import type { FoundSubject } from '../subject.ts'

const program: GoProgram = {
  name: 'estclient',
  folder: import.meta.dirname,
  module: 'github.com/globalsign/est',
}
const estclient = goSubject(program)

const check = (what: string, run: (found: FoundSubject) => Promise<void>): void =>
  compat(estclient, what, run, compileMs)

let served: Promise<ServedCa> | null = null
afterAll(async () => {
  if (served !== null) await (await served)[Symbol.asyncDispose]()
})

interface Scene {
  readonly ca: ServedCa
  /** Runs the client in the CA's scratch directory. */
  est(...args: readonly string[]): Promise<Ran>
  openssl(...args: readonly string[]): Promise<string>
  /** A key and a request for it, NAME.key and NAME.csr. */
  request(name: string): Promise<void>
}

const sceneOf = async (found: FoundSubject): Promise<Scene> => {
  const client = await builtGo(program, found, 'github.com/globalsign/est/cmd/estclient')
  served ??= startServedCa()
  const ca = await served
  const cwd = ca.directory
  const openssl = (...args: readonly string[]) => mustRun('openssl', args, { cwd })
  writeFileSync(join(cwd, 'roots.pem'), (await ca.agentca('bundle', 'show')).out)
  const server = ['-server', new URL(ca.urls.api).host, '-explicit', 'roots.pem', '-timeout', '60s']
  return {
    ca,
    est: (command = '', ...args) => runProgram(client, [command, ...server, ...args], { cwd }),
    openssl,
    request: async name => {
      await openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', `${name}.key`)
      await openssl('req', '-new', '-key', `${name}.key`, '-subj', '/', '-out', `${name}.csr`)
    },
  }
}

const tokenFor = async (ca: ServedCa, agent: string): Promise<string> => {
  await ca.agentca('agent', 'create', agent, '--owner', 'network')
  return (await ca.agentcaJson<{ token: string }>('token', 'create', '--agent', agent)).token
}

const enrolled = async ({ ca, est, request }: Scene, name: string): Promise<Ran> => {
  await request(name)
  const token = await tokenFor(ca, name)
  return est('enroll', '-user', name, '-pass', token, '-csr', `${name}.csr`, '-out', `${name}.crt`)
}

const ok = ({ code, err }: Ran): void => expect([code, err]).toEqual([0, ''])

check('reads the CAs, and what a request should have', async found => {
  const { est, openssl } = await sceneOf(found)
  ok(await est('cacerts', '-out', 'cas.pem'))
  await openssl('verify', '-CAfile', 'roots.pem', 'cas.pem')
  const { out } = await est('csrattrs')
  expect(out).toContain('1.2.840.10045.3.1.7')
})

check('enrols by a join token, and what it gets is good at the API', async found => {
  const scene = await sceneOf(found)
  ok(await enrolled(scene, 'gateway'))
  ok(await scene.est('cacerts', '-out', 'cas.pem'))
  await scene.openssl('verify', '-CAfile', 'roots.pem', '-untrusted', 'cas.pem', 'gateway.crt')
  const shown = ['--cacert', 'roots.pem', '--cert', 'gateway.crt', '--key', 'gateway.key']
  const args = ['--silent', '--show-error', '--fail', ...shown, `${scene.ca.urls.api}/v1/self`]
  const self = JSON.parse(await mustRun('curl', args, { cwd: scene.ca.directory }))
  expect(self).toMatchObject({ registration: { name: 'gateway' } })
})

check('re-enrols under its certificate, with a new key', async found => {
  const scene = await sceneOf(found)
  ok(await enrolled(scene, 'router'))
  await scene.request('next')
  const shown = ['-certs', 'router.crt', '-key', 'router.key']
  ok(await scene.est('reenroll', ...shown, '-csr', 'next.csr', '-out', 'next.crt'))
  const text = await scene.openssl('x509', '-in', 'next.crt', '-noout', '-subject', '-pubkey')
  expect(text).toContain('CN = agent-router')
  expect(text).toContain(await scene.openssl('pkey', '-in', 'next.key', '-pubout'))
  const rows = await scene.ca.agentcaJson<{ generation: number }[]>('cert', 'list', '--agent', 'router')
  expect(rows.map(({ generation }) => generation)).toEqual([2, 1])
})

check('is told why: a token that nobody made, a certificate that is revoked', async found => {
  const scene = await sceneOf(found)
  await scene.request('stranger')
  const unknown = await scene.est('enroll', '-user', 'stranger', '-pass', 'made-up', '-csr', 'stranger.csr')
  expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining('this join token is not known here')])
  ok(await enrolled(scene, 'stolen'))
  const revoked = await scene.ca.agentca('revoke', '--agent', 'stolen', '--reason', 'keyCompromise', '--yes')
  expect(revoked.code).toBe(0)
  const shown = ['-certs', 'stolen.crt', '-key', 'stolen.key']
  const refused = await scene.est('reenroll', ...shown, '-csr', 'stranger.csr')
  expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/certificate_revoked|instance_revoked/)])
})
