// The configuration of nginx in README.md, in nginx: who gets through, who does not, and when a revocation counts. Skipped where nginx is not
// installed.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mustRun, runProgram, type ServedCa, startServedCa } from '../story/served-ca.ts'
import { blockWith, textOf } from './documents.ts'
import { freePort } from './free-port.ts'

const nginx = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/sbin/nginx', '/usr/local/bin/nginx'].find(path => {
  try {
    execFileSync(path, ['-v'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})

/** OCSP instead of lists, as README.md says it. */
const ocspLine = /`(ssl_ocsp leaf; ssl_ocsp_responder\s+\S+;)`/.exec(textOf('README.md'))?.[1] ?? ''

describe.skipIf(nginx === undefined).each(['lists', 'OCSP'] as const)(
  'nginx as README.md configures it, with %s',
  how => {
    let ca: ServedCa
    let backend: Server
    let proxy: ChildProcess
    let port: number
    const directory = (): string => join(ca.directory, 'etc')

    const fetchLists = async (): Promise<void> => {
      const next = join(directory(), 'crls.new')
      const url = `${ca.urls.status}/crl/bundle.pem`
      await mustRun('curl', ['--fail', '--silent', '--output', next, url], { cwd: ca.directory })
      renameSync(next, join(directory(), 'crls.pem'))
    }

    const configuration = (): string => {
      const server = blockWith('README.md', 'nginx', 'ssl_verify_client')
        .text.replaceAll('/etc/agentca', directory())
        .replace('127.0.0.1:9443', `127.0.0.1:${port}`)
        .replace('127.0.0.1:9080', `127.0.0.1:${(backend.address() as AddressInfo).port}`)
        .replace(/^ *ssl_crl .*$/m, line =>
          how === 'lists' ? line : ocspLine.replace('127.0.0.1:8081', new URL(ca.urls.status).host),
        )
      const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
        name => `${name}_temp_path ${join(directory(), name)};`,
      )
      return `daemon off; pid ${join(directory(), 'pid')}; error_log stderr;
events {}
http { access_log off; ${scratch.join(' ')}
${server}}
`
    }

    beforeAll(async () => {
      ca = await startServedCa()
      mkdirSync(directory())
      await ca.agentcaJson('service', 'create', 'orders', '--dns', 'orders.internal', '--dns', 'localhost')
      await ca.agentcaJson('token', 'create', '--service', 'orders', '--file', 'orders.token')
      const evidence = ['--ca-fingerprint', ca.rootFingerprint, '--token-file', 'orders.token']
      await ca.agentcaJson('enroll', '--url', ca.urls.api, ...evidence, '--dir', join(directory(), 'orders'))
      copyFileSync(join(directory(), 'orders/ca.crt'), join(ca.directory, 'ca.pem'))
      await fetchLists()
      backend = createServer((request, response) => response.end(`for ${request.headers['x-agent']}`))
      await once(backend.listen(0, '127.0.0.1'), 'listening')
      port = await freePort()
      const file = join(directory(), 'nginx.conf')
      writeFileSync(file, configuration())
      execFileSync(nginx!, ['-t', '-q', '-c', file], { stdio: ['ignore', 'ignore', 'pipe'] })
      proxy = spawn(nginx!, ['-c', file], { stdio: ['ignore', 'ignore', 'ignore'] })
      await untilListening(port)
    }, 120_000)
    afterAll(async () => {
      if (proxy?.exitCode === null && proxy.kill('SIGQUIT')) await once(proxy, 'exit')
      backend?.close()
      await ca?.[Symbol.asyncDispose]()
    })

    /** @returns what came back, and the status */
    const call = async (identity: string | null): Promise<string> => {
      const shown = identity === null ? [] : ['--cert', join(identity, 'tls.crt'), '--key', join(identity, 'tls.key')]
      const address = ['--resolve', `orders.internal:${port}:127.0.0.1`, `https://orders.internal:${port}/`]
      const args = ['--silent', '--cacert', 'ca.pem', ...shown, '--write-out', ' %{http_code}', ...address]
      return (await runProgram('curl', args, { cwd: ca.directory })).out
    }

    it('lets an agent through and says which, and nobody else', async () => {
      expect(await call(await ca.enrolled('billing'))).toBe('for billing 200')
      expect(await call(join(directory(), 'orders'))).toMatch(/ 403$/)
      expect(await call(null)).toMatch(/ 400$/)
    })

    it(`refuses a revoked agent from the next ${how === 'lists' ? 'list that it was given' : 'connection'} on`, async () => {
      const agent = await ca.enrolled('leaked')
      expect(await call(agent)).toBe('for leaked 200')
      await ca.agentcaJson('revoke', '--agent', 'leaked', '--reason', 'keyCompromise', '--yes', '--wait', '60s')
      if (how === 'lists') {
        await fetchLists()
        await reload(proxy)
      }
      expect(await call(agent)).toMatch(/ 400$/)
      expect(await call(await ca.enrolled('honest'))).toBe('for honest 200')
    }, 90_000)
  },
)

const workersOf = ({ pid }: ChildProcess): readonly string[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)

/** Until the workers with the old configuration are gone: they go on taking connections while they can. */
const reload = async (proxy: ChildProcess): Promise<void> => {
  const old = workersOf(proxy)
  proxy.kill('SIGHUP')
  while (workersOf(proxy).length === 0 || workersOf(proxy).some(pid => old.includes(pid))) await sleep(50)
}

const untilListening = async (port: number): Promise<void> => {
  for (;;) {
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
