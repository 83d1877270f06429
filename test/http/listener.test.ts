// The plain listeners: the admin socket's file, and what the ops listener answers.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type IncomingHttpHeaders, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { createPlainServer } from '../../src/http/listener.ts'
import { type Check, createOpsHandler } from '../../src/http/ops.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-listener-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const get = (
  at: { readonly socketPath: string } | { readonly port: number },
  path: string,
  method = 'GET',
): Promise<{ readonly status: number; readonly text: string; readonly headers: IncomingHttpHeaders }> =>
  new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', ...at, path, method, agent: false }, async response => {
      let text = ''
      for await (const chunk of response) text += chunk
      resolve({ status: response.statusCode ?? 0, text, headers: response.headers })
    })
    asked.on('error', reject).end()
  })

const hello = () => createPlainServer((_request, response) => void response.end('hello'))

describe('a unix socket', () => {
  it('may be opened by its owner only, and is gone after the end', async () => {
    const path = join(directory, 'admin.sock')
    const mask = process.umask()
    const server = hello()
    await server.listenOn(path)
    expect(process.umask()).toBe(mask)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect((await get({ socketPath: path }, '/')).text).toBe('hello')
    await server.close(0)
    expect(existsSync(path)).toBe(false)
  })

  const somaxconn = existsSync('/proc/sys/net/core/somaxconn')
    ? Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
    : 0
  it.skipIf(somaxconn < 1000)('keeps a thousand connections that wait (net.core.somaxconn permitting)', async () => {
    const path = join(directory, 'front.sock')
    const server = hello()
    await server.listenOn(path)
    // In one turn, in which nobody takes them.
    const waiting = Array.from({ length: 1000 }, () => connect(path))
    const came = await Promise.all(
      waiting.map(socket => new Promise(resolve => socket.once('connect', () => resolve('in')).once('error', resolve))),
    )
    expect(came.filter(one => one !== 'in')).toEqual([])
    for (const socket of waiting) socket.destroy()
    await server.close(0)
  })

  it('replaces one whose process was killed', async () => {
    const path = join(directory, 'admin.sock')
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
    const child = execFile(process.execPath, ['-e', script])
    await once(child.stdout!, 'data')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(existsSync(path)).toBe(true)
    const server = hello()
    await server.listenOn(path)
    expect((await get({ socketPath: path }, '/')).text).toBe('hello')
    await server.close(0)
  })

  it('leaves alone what somebody listens on, and what is no socket', async () => {
    const path = join(directory, 'admin.sock')
    const other = createServer().listen(path)
    await once(other, 'listening')
    await expect(hello().listenOn(path)).rejects.toMatchObject({ code: 'EADDRINUSE' })
    expect(existsSync(path)).toBe(true)
    other.close()
    const file = join(directory, 'file')
    writeFileSync(file, 'precious')
    await expect(hello().listenOn(file)).rejects.toMatchObject({ code: 'EADDRINUSE' })
    expect(existsSync(file)).toBe(true)
  })
})

describe('the ops listener', () => {
  const start = async (checks: () => readonly Check[], renderMetrics: () => Promise<string> = async () => 'm 1\n') => {
    const server = createPlainServer(createOpsHandler({ log: silentLog, checks, renderMetrics }))
    const port = await server.listen({ host: '127.0.0.1', port: 0 })
    return {
      get: (path: string, method?: string) => get({ port }, path, method),
      [Symbol.asyncDispose]: () => server.close(0),
    }
  }
  const good = { name: 'signer', ok: true, detail: 'connected' }
  const bad = { name: 'ledger', ok: false, detail: 'disk full' }

  it('says that the process is alive, whatever else is wrong', async () => {
    await using ops = await start(() => [bad])
    expect(await ops.get('/livez')).toMatchObject({ status: 200, text: 'ok\n' })
  })

  it('is ready when every check passes, names those that fail, and all of them when asked', async () => {
    let checks: readonly Check[] = [good]
    await using ops = await start(() => checks)
    expect(await ops.get('/readyz')).toMatchObject({ status: 200, text: 'ready\n' })
    expect((await ops.get('/readyz?verbose')).text).toBe('[+] signer ok: connected\nready\n')
    checks = [good, bad]
    expect(await ops.get('/readyz')).toMatchObject({
      status: 503,
      headers: { 'retry-after': expect.stringMatching(/^[1-4]$/) },
      text: '[-] ledger failed: disk full\nnot ready\n',
    })
    expect((await ops.get('/readyz?verbose')).text).toContain('[+] signer ok: connected\n[-] ledger failed')
  })

  it('gives the metrics, and says no more than that they failed', async () => {
    let fails = false
    const render = async () => {
      if (fails) throw new Error('a secret')
      return 'm 1\n'
    }
    await using ops = await start(() => [], render)
    expect(await ops.get('/metrics')).toMatchObject({ status: 200, text: 'm 1\n' })
    fails = true
    const failed = await ops.get('/metrics')
    expect([failed.status, failed.headers['content-type']]).toEqual([500, 'application/problem+json'])
    expect(JSON.parse(failed.text)).toMatchObject({ code: 'internal', requestId: failed.headers['x-request-id'] })
    expect(failed.text).not.toContain('a secret')
  })

  it('has nothing else, and takes nothing', async () => {
    await using ops = await start(() => [])
    const problem = { 'content-type': 'application/problem+json' }
    const nothing = await ops.get('/')
    expect(nothing).toMatchObject({ status: 404, headers: problem })
    expect(JSON.parse(nothing.text)).toMatchObject({ code: 'route_not_found', status: 404 })
    const posted = await ops.get('/livez', 'POST')
    expect(posted).toMatchObject({ status: 405, headers: { ...problem, allow: 'GET, HEAD' } })
  })
})
