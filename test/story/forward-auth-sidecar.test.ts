// agentca-verify against a real CA, without a proxy of others: asked by a proxy over mTLS, as the proxy itself for HTTP and TCP, keeping a
// file of lists, judging a certificate from a file; and how a backend reads its assertion, by the texts of its page.
import { execFileSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { request } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { blockWith } from '../setup/documents.ts'
import { callerOf, connected, cut, firstData, type Running, serviceOf, startSidecar } from './forward-auth-world.ts'
import { mustRun, runProgram, type ServedCa, startServedCa } from './served-ca.ts'
import { until } from './until.ts'

let ca: ServedCa
let ordersDir: string
let agent: string
let other: string
const ending: (() => unknown)[] = []

const page = 'docs/integrations/sidecar.md'
const roots = (): string => join(ordersDir, 'ca.crt')
let sidecars = 0
/** Each with a state of its own; the first one's is `state/orders`. */
const sidecarOf = async (...words: readonly string[]): Promise<Running & { port: number; line: { pid: number } }> => {
  const state = `state/orders${sidecars++ === 0 ? '' : `-${sidecars}`}`
  const running = await startSidecar(ca, `agentca-verify serve --dir ${ordersDir} --state ${state} ${words.join(' ')}`)
  ending.unshift(() => running[Symbol.asyncDispose]())
  return { ...running, port: Number(running.line.listen?.split(':').at(-1)) }
}
const enrolled = async (name: string, ...create: string[]): Promise<string> => {
  await ca.agentcaJson('agent', 'create', name, '--owner', 'finance', ...create)
  await ca.agentcaJson('token', 'create', '--agent', name, '--file', `${name}.token`)
  const evidence = ['--ca-fingerprint', ca.rootFingerprint, '--token-file', `${name}.token`]
  await ca.agentcaJson('enroll', '--url', ca.urls.api, ...evidence, '--dir', name)
  return join(ca.directory, name)
}
const revoke = (name: string) =>
  ca.agentcaJson('revoke', '--agent', name, '--reason', 'keyCompromise', '--yes', '--wait', '30s')
const verify = (...args: readonly string[]) =>
  runProgram(join(checkout, 'bin/agentca-verify'), args, { cwd: ca.directory, env: ca.env })

beforeAll(async () => {
  ca = await startServedCa()
  mkdirSync(join(ca.directory, 'etc'), { recursive: true })
  ordersDir = await serviceOf(ca, 'orders', 'orders.internal')
  agent = await enrolled('billing', '--role', 'reader')
  other = await enrolled('crawler')
}, 180_000)
afterAll(async () => {
  for (const end of ending) await end()
  await ca?.[Symbol.asyncDispose]()
})

interface Asked {
  readonly status: number
  readonly assertion: string | undefined
}

/** As Traefik asks: over mTLS, with the caller's certificate in a header. */
const ask = (
  port: number,
  proxy: string,
  caller: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Asked> =>
  new Promise((resolve, reject) => {
    const certificate = new X509Certificate(readFileSync(join(caller, 'tls.crt'))).raw.toString('base64')
    const identity = { cert: readFileSync(join(proxy, 'tls.crt')), key: readFileSync(join(proxy, 'tls.key')) }
    const asking = request(
      {
        ...identity,
        ca: readFileSync(roots()),
        host: '127.0.0.1',
        servername: 'orders.internal',
        port,
        agent: false,
        headers: {
          'X-Forwarded-Tls-Client-Cert': certificate,
          'X-Forwarded-Method': 'GET',
          'X-Forwarded-Uri': '/orders?n=1',
          ...headers,
        },
      },
      answer => {
        answer.resume()
        resolve({
          status: answer.statusCode ?? 0,
          assertion: answer.headers['agentca-assertion'] as string | undefined,
        })
      },
    )
    asking.once('error', reject).end()
  })

describe('asked over mTLS, as by Traefik', { timeout: 180_000 }, () => {
  let port: number
  let edge: string
  beforeAll(async () => {
    edge = await serviceOf(ca, 'edge')
    const words = [
      '--listen',
      '127.0.0.1:0',
      '--accept-proxy',
      'spiffe://agentca.local/service/edge',
      '--proxy',
      'traefik',
    ]
    port = (await sidecarOf(...words)).port
  })

  it('answers the named proxy, and nobody else', async () => {
    expect(await ask(port, edge, agent)).toEqual({ status: 200, assertion: expect.any(String) })
    for (const asker of [ordersDir, agent]) expect(await ask(port, asker, agent)).toMatchObject({ status: 403 })
    expect(await ask(port, edge, edge)).toMatchObject({ status: 403 })
  })

  it('refuses a call that it is told in two ways, or with an assertion', async () => {
    for (const headers of [{ x_forwarded_uri: '/' }, { 'X-Forwarded.Uri': '/' }, { 'Agentca-Assertion': 'x' }])
      expect(await ask(port, edge, agent, headers), JSON.stringify(headers)).toMatchObject({ status: 403 })
    expect(await ask(port, edge, agent, { 'X-Forwarded-Tls-Client-Cert': 'rubbish' })).toMatchObject({ status: 401 })
  })

  it("takes the certificate as RFC 9440 has it, and names the proxy's call by its own headers", async () => {
    const words = ['--listen', '127.0.0.1:0', '--accept-proxy', 'spiffe://agentca.local/service/edge']
    const { port } = await sidecarOf(...words, '--proxy rfc9440 --method-header X-Method --uri-header X-Uri')
    const certificate = new X509Certificate(readFileSync(join(agent, 'tls.crt'))).raw.toString('base64')
    const told = { 'Client-Cert': `:${certificate}:`, 'X-Method': 'GET', 'X-Uri': '/' }
    expect(await ask(port, edge, agent, told)).toMatchObject({ status: 200 })
    expect(await ask(port, edge, agent, { ...told, client_cert: `:${certificate}:` })).toMatchObject({ status: 403 })
    expect(await ask(port, edge, agent, { ...told, 'Client-Cert': certificate })).toMatchObject({ status: 401 })
  })

  it('refuses a held agent, and lets it in again after its release', async () => {
    const pausing = await enrolled('pausing')
    expect(await ask(port, edge, pausing)).toMatchObject({ status: 200 })
    await ca.agentcaJson('agent', 'hold', 'pausing')
    await until('a held agent is refused', async () => (await ask(port, edge, pausing)).status === 403)
    await ca.agentcaJson('agent', 'release', 'pausing')
    await until('a released agent is let in', async () => (await ask(port, edge, pausing)).status === 200)
  })

  it('lets agents of a new issuing CA in, whose certificate nobody gave it', async () => {
    const input = [
      'ceremony: issuing',
      'name: issuing-2',
      'issuer: { name: root-1 }',
      'subject: { organization: agentca.local, commonName: agentca issuing 2 }',
      'trustDomain: agentca.local',
      `statusUrl: ${ca.urls.status}`,
    ]
    writeFileSync(join(ca.directory, 'issuing-2.yaml'), input.join('\n'))
    const made = await ca.agentca('ceremony', 'issuing', '--input', 'issuing-2.yaml')
    expect([made.code, made.err]).toEqual([0, expect.stringContaining('ca prepare')])
    const certificate = join(ca.home, 'issuers/issuing-2.pem')
    await ca.agentcaJson('ca', 'prepare', 'issuing-2', '--certificate', certificate, '--confirm', 'issuing-2')
    await ca.agentcaJson('ca', 'activate', 'issuing-2', '--confirm', 'issuing-2')
    const fresh = await enrolled('fresh')
    expect(new X509Certificate(readFileSync(join(fresh, 'tls.crt'))).issuer).toContain('agentca issuing 2')
    expect(await ask(port, edge, fresh)).toMatchObject({ status: 200 })
    expect(await ask(port, edge, agent)).toMatchObject({ status: 200 })
  })

  it('makes assertions that a backend in Node and one in Python verify as the page says', async () => {
    const { assertion = '' } = await ask(port, edge, agent)
    const key = join(ca.directory, 'state/orders/assertion.pub.pem')
    const placed = (text: string): string => text.replace('/var/lib/agentca-verify/orders/assertion.pub.pem', key)
    writeFileSync(join(ca.directory, 'reader.mjs'), placed(blockWith(page, 'js', 'callerOf').text))
    const { callerOf: read } = (await import(pathToFileURL(join(ca.directory, 'reader.mjs')).href)) as {
      callerOf(asked: object): { agent: string; sub: string; roles: string[] }
    }
    const asked = (changes: object = {}) => ({
      method: 'GET',
      url: '/orders?n=1',
      headers: { 'agentca-assertion': assertion },
      ...changes,
    })
    expect(read(asked())).toMatchObject({ agent: 'billing', roles: ['reader'] })
    const [header, payload = '', signature] = assertion.split('.')
    const forged = Buffer.from(Buffer.from(payload, 'base64url').toString().replace('billing', 'crawler')).toString(
      'base64url',
    )
    expect(() => read(asked({ headers: { 'agentca-assertion': `${header}.${forged}.${signature}` } }))).toThrow(
      /not signed/,
    )
    expect(() => read(asked({ url: '/orders?n=2' }))).toThrow(/another call/)
    expect(() => read(asked({ method: 'POST' }))).toThrow(/another call/)
    expect(() => read(asked({ headers: {} }))).toThrow()

    if ((await runProgram('python3', ['-c', 'import cryptography'], { cwd: ca.directory })).code !== 0) return
    const python = placed(blockWith(page, 'python', 'caller_of').text)
    const says = (...call: readonly string[]) =>
      runProgram('python3', ['-c', `${python}\nimport sys\nprint(caller_of(*sys.argv[1:])["agent"])`, ...call], {
        cwd: ca.directory,
      })
    expect((await says(assertion, 'GET', '/orders?n=1')).out).toBe('billing\n')
    for (const call of [
      [assertion, 'GET', '/orders'],
      [`${header}.${forged}.${signature}`, 'GET', '/orders?n=1'],
    ] as const)
      expect((await says(...call)).code).not.toBe(0)
  })
})

const listening = async (server: Server | TcpServer): Promise<number> => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  ending.push(() => server.close())
  return (server.address() as AddressInfo).port
}

describe('as the proxy itself, for HTTP', { timeout: 180_000 }, () => {
  let port: number
  let seen: IncomingMessage
  let sidecar: Running
  beforeAll(async () => {
    const backend = createServer((asked, answer) => {
      seen = asked
      if (asked.url === '/events') {
        answer.writeHead(200, { 'content-type': 'text/event-stream' })
        answer.write(': open\n\n')
      } else {
        const hash = createHash('sha256')
        asked.on('data', chunk => hash.update(chunk))
        asked.once('end', () => answer.writeHead(201, { 'X-Twice': ['a', 'b'] }).end(hash.digest('hex')))
      }
    })
    backend.on('upgrade', (asked, socket) => {
      seen = asked
      if (asked.url === '/plain') {
        const chunked = 'Transfer-Encoding: chunked\r\n\r\na\r\nno upgrade\r\n0\r\n\r\n'
        socket.end(`HTTP/1.1 426 Upgrade Required\r\n${chunked}`)
        return
      }
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
      socket.pipe(socket)
      socket.on('error', () => {})
    })
    const upstream = await listening(backend)
    writeFileSync(join(ca.directory, 'rules'), 'GET /reports=reports:read # nobody has it\n')
    const words = [
      '--mode',
      'http',
      '--listen',
      '127.0.0.1:0',
      '--upstream',
      `127.0.0.1:${upstream}`,
      '--require-file rules',
    ]
    const running = await sidecarOf(...words)
    sidecar = running
    port = running.port
  })

  it('sets who calls, and takes away whatever a client says about that', async () => {
    const caller = callerOf(agent, roots(), port)
    const spoofed = {
      'Agentca-Assertion': 'x',
      'Agentca-Name': 'root',
      agentca_scopes: 'admin',
      'Agentca.Roles': 'admin',
      'Client-Cert': ':AAAA:',
      'X-Forwarded-Client-Cert': 'By=x',
      'X-Forwarded-For': '1.2.3.4',
      X_Forwarded_For: '1.2.3.4',
      Connection: 'keep-alive, Agentca-Spiffe-Id, X-Kept',
      'X-Kept': 'no',
      'X-Mine': ['a', 'b'],
    }
    expect(await caller.call('/orders?a=1', spoofed)).toMatchObject({ status: 201 })
    expect(seen.url).toBe('/orders?a=1')
    expect(seen.headers).toMatchObject({
      'agentca-spiffe-id': expect.stringMatching(/^spiffe:\/\/agentca\.local\/agent\/billing\/i\//),
      'agentca-name': 'billing',
      'agentca-kind': 'agent',
      'agentca-roles': 'reader',
      'agentca-scopes': '',
      'x-forwarded-for': '127.0.0.1',
      'x-mine': 'a, b',
    })
    const names = seen.rawHeaders.filter((_, at) => at % 2 === 0).map(each => each.toLowerCase())
    expect(names.filter(each => /^(agentca[_.]|client-cert|x-forwarded-client|x_|x-kept)/.test(each))).toEqual([])
    expect(new Set(names).size).toBe(names.length - 1) // x-mine came twice
    expect(seen.headers['agentca-assertion']).toMatch(/^eyJ/)
    caller.close()
  })

  it('passes bodies of any length in both directions', async () => {
    const body = Buffer.alloc(3_000_000, 'agentca')
    const hash = createHash('sha256').update(body).digest('hex')
    writeFileSync(join(ca.directory, 'body'), body)
    const shown = ['--cert', join(agent, 'tls.crt'), '--key', join(agent, 'tls.key'), '--cacert', roots()]
    const to = ['--resolve', `orders.internal:${port}:127.0.0.1`, `https://orders.internal:${port}/upload`]
    for (const chunked of [[], ['-H', 'Transfer-Encoding: chunked']]) {
      const args = ['-s', ...shown, ...chunked, '--data-binary', '@body', ...to]
      expect(await mustRun('curl', args, { cwd: ca.directory })).toBe(hash)
    }
  })

  it('passes on the answer of a backend that upgrades nothing', async () => {
    const socket = await connected(port, agent, roots())
    socket.write('GET /plain HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(text).toMatch(/^HTTP\/1\.1 426 [\s\S]*\r\n\r\nno upgrade$/)
    expect(text).not.toMatch(/transfer-encoding/i)
  })

  it('loses no call to a backend that closes the connection that was kept', async () => {
    const once = await listening(
      createTcpServer(socket => {
        let asked = 0
        socket.on('error', () => {})
        socket.on('data', () => {
          if (asked++ === 0) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
          else socket.destroy()
        })
      }),
    )
    const { port } = await sidecarOf('--mode http --listen 127.0.0.1:0', '--upstream', `127.0.0.1:${once}`)
    const caller = callerOf(agent, roots(), port)
    for (let i = 0; i < 4; i++) expect(await caller.call('/')).toEqual({ status: 200, body: 'ok' })
    for (let i = 0; i < 2; i++) expect(await caller.call('/', {}, 'POST')).toEqual({ status: 200, body: 'ok' })
    caller.close()
  })

  it('refuses by rules and by spelling, and reads rules again when told', async () => {
    const caller = callerOf(agent, roots(), port)
    expect((await caller.call('/reports/1')).status).toBe(403)
    expect((await caller.call('/x/../reports')).status).toBe(403)
    expect((await caller.call('/orders')).status).toBe(201)
    writeFileSync(join(ca.directory, 'rules'), '* /orders=orders:read\n')
    process.kill(sidecar.child.pid as number, 'SIGHUP')
    await until('the new rules', async () => (await caller.call('/orders')).status === 403)
    expect((await caller.call('/reports')).status).toBe(201)
    writeFileSync(join(ca.directory, 'rules'), 'rubbish\n')
    process.kill(sidecar.child.pid as number, 'SIGHUP')
    await until('what is told of rubbish', async () => sidecar.log().includes('what was read before holds'))
    expect((await caller.call('/orders')).status).toBe(403)
    expect((await callerOf(null, roots(), port).call('/')).status).toBe(401)
    caller.close()
  })

  it('cuts a revoked agent off: event stream and upgraded connection, and refuses its next call', async () => {
    const rogue = await enrolled('rogue')
    const [events, upgraded, honest] = [
      await connected(port, rogue, roots()),
      await connected(port, rogue, roots()),
      await connected(port, agent, roots()),
    ]
    events.write('GET /events HTTP/1.1\r\nHost: orders.internal\r\n\r\n')
    honest.write('GET /events HTTP/1.1\r\nHost: orders.internal\r\n\r\n')
    expect(await firstData(events)).toMatch(/^HTTP\/1\.1 200/)
    expect(await firstData(honest)).toMatch(/^HTTP\/1\.1 200/)
    const upgrade = 'Host: orders.internal\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAgentca-Name: root\r\n\r\n'
    upgraded.write(`GET /socket HTTP/1.1\r\n${upgrade}`)
    expect(await firstData(upgraded)).toMatch(/^HTTP\/1\.1 101/)
    expect(seen.headers['agentca-name']).toBe('rogue')
    upgraded.write('echo')
    expect(await firstData(upgraded)).toBe('echo')
    const ends = [cut(events), cut(upgraded)]
    await revoke('rogue')
    await Promise.all(ends)
    expect((await callerOf(rogue, roots(), port).call('/')).status).toBe(403)
    const late = await connected(port, rogue, roots())
    late.write(`GET /socket HTTP/1.1\r\n${upgrade}`)
    expect(await firstData(late)).toMatch(/^HTTP\/1\.1 403/)
    expect(honest.destroyed).toBe(false)
    for (const socket of [late, honest]) socket.destroy()
  })
})

describe('as the proxy itself, for TCP', { timeout: 180_000 }, () => {
  it('lets agents through to a backend that echoes, and cuts a revoked one', async () => {
    const upstream = await listening(createTcpServer(socket => void socket.on('error', () => {}).pipe(socket)))
    const { port } = await sidecarOf('--mode tcp --listen 127.0.0.1:0', '--upstream', `127.0.0.1:${upstream}`)
    const leaving = await enrolled('leaving')
    const [one, two] = [await connected(port, leaving, roots()), await connected(port, other, roots())]
    for (const socket of [one, two]) {
      socket.write('hello')
      expect(await firstData(socket)).toBe('hello')
    }
    const end = cut(one)
    await revoke('leaving')
    await end
    two.write('still')
    expect(await firstData(two)).toBe('still')
    const again = await connected(port, leaving, roots())
    await cut(again)
    const service = await connected(port, ordersDir, roots())
    await cut(service)
    two.destroy()
  })
})

describe('a file of lists', { timeout: 180_000 }, () => {
  it('has the newest ones soon after a revocation; its command runs for each change, again until it succeeds', async () => {
    const file = join(ca.directory, 'etc/crls.pem')
    // The first run fails.
    const hook = `sh -c "test -e tried || { touch tried; exit 3; }; echo run >> runs"`
    const command = `agentca-verify serve --dir ${ordersDir} --crl-file ${file} --on-change '${hook}'`
    const running = await startSidecar(ca, command)
    ending.unshift(() => running[Symbol.asyncDispose]())
    const runs = (): number =>
      existsSync(join(ca.directory, 'runs'))
        ? readFileSync(join(ca.directory, 'runs'), 'utf8').split('\n').length - 1
        : 0
    await until('the second run', async () => runs() === 1)
    expect(running.log()).toContain('exit code 3')
    const listed = await enrolled('listed')
    const judged = () => {
      const args = [
        'verify',
        '-crl_check_all',
        '-CAfile',
        roots(),
        '-CRLfile',
        file,
        '-untrusted',
        join(listed, 'tls.crt'),
        join(listed, 'tls.crt'),
      ]
      return runProgram('openssl', args, { cwd: ca.directory })
    }
    expect((await judged()).code).toBe(0)
    await ca.agentcaJson('revoke', '--agent', 'listed', '--reason', 'keyCompromise', '--yes')
    await until('openssl refuses it', async () => (await judged()).err.includes('certificate revoked'))
    await until('the third run', async () => runs() === 2)
  })
})

describe('one certificate from a file', { timeout: 180_000 }, () => {
  it('is accepted, or refused with the step that refuses', async () => {
    const lists = ['--crl-file', join(ca.directory, 'etc/crls.pem')]
    const files = [join(agent, 'tls.crt'), '--ca-file', roots()]
    const good = await verify('check', ...files, ...lists)
    expect([good.code, good.out]).toEqual([
      0,
      expect.stringMatching(/chain +ok[\s\S]*revocation +ok[\s\S]*accepted\n$/),
    ])
    const bad = await verify(
      'check',
      join(ca.directory, 'listed/tls.crt'),
      '--ca-file',
      roots(),
      ...lists,
      '-o',
      'json',
    )
    expect(bad.code).toBe(9)
    expect(JSON.parse(bad.out)).toMatchObject({ verdict: 'refused', rule: 'certificate_revoked' })
    const unknown = await verify('check', ...files)
    expect([unknown.code, unknown.out]).toEqual([9, expect.stringContaining('refused: state_unknown')])
    // Who else signed it is nobody.
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'k']
    await mustRun('openssl', ['req', '-x509', ...key, '-subj', '/CN=agent-x', '-out', 'x.crt'], { cwd: ca.directory })
    const foreign = await verify('check', 'x.crt', '--ca-file', roots(), ...lists)
    expect([foreign.code, foreign.out]).toEqual([9, expect.stringContaining('refused: issuer_unknown')])
  })

  it('is judged by the state that a sidecar keeps', async () => {
    const state = ['--state', join(ca.directory, 'state/orders'), '-o', 'json']
    const judge = async (identity: string) =>
      JSON.parse((await verify('check', join(identity, 'tls.crt'), '--ca-file', roots(), ...state)).out)
    await until(
      'the state has the revocation',
      async () => (await judge(join(ca.directory, 'rogue'))).rule === 'certificate_revoked',
    )
    expect(await judge(agent)).toMatchObject({
      verdict: 'accepted',
      steps: expect.arrayContaining([expect.objectContaining({ step: 'registration', outcome: 'ok' })]),
    })
  })
})

describe('the command line', { timeout: 180_000 }, () => {
  it('tells what is wrong and what to type instead', async () => {
    const faults: readonly (readonly [readonly string[], number, RegExp])[] = [
      [['serve', '--listen', 'unix:/tmp/x.sock'], 2, /--proxy is missing\n {2}hint: agentca-verify serve --help/],
      [['check', 'nowhere.pem', '--ca-file', roots()], 3, /cannot read/],
      [['judge'], 2, /there is no command judge/],
    ]
    for (const [args, code, said] of faults) {
      const ran = await verify(...args)
      expect([ran.code, ran.err], args.join(' ')).toEqual([code, expect.stringMatching(said)])
    }
    const help = await verify('serve', '--help')
    expect([help.code, help.out]).toEqual([0, expect.stringContaining('--accept-proxy SPIFFE-ID')])
  })

  it('does not take the socket of another sidecar, nor a file that is none', async () => {
    const socket = join(ca.directory, 'run/busy.sock')
    await sidecarOf('--proxy nginx --listen', `unix:${socket}`)
    const words = ['serve', '--dir', ordersDir, '--state', 'state/busy', '--proxy', 'nginx', '--listen']
    const second = await verify(...words, `unix:${socket}`)
    expect([second.code, second.err]).toEqual([6, expect.stringContaining('somebody listens')])
    const third = await verify(...words, `unix:${join(ca.directory, 'rules')}`)
    expect([third.code, third.err]).toEqual([6, expect.stringContaining('is no socket')])
    expect(existsSync(join(ca.directory, 'rules'))).toBe(true)
  })
})

const hasSystemd = existsSync('/usr/bin/systemd-analyze')

describe('the systemd unit of the page', { timeout: 180_000 }, () => {
  it.skipIf(!hasSystemd)('is one that systemd takes', () => {
    const unit = join(ca.directory, 'agentca-verify.service')
    const text = blockWith(page, 'ini', 'ExecStart').text
    writeFileSync(unit, text.replace(/^ExecStart=\S+/m, `ExecStart=${join(checkout, 'bin/agentca-verify')}`))
    const said = execFileSync('systemd-analyze', ['verify', '--man=no', unit], {
      stdio: ['ignore', 'pipe', 'pipe'],
    }).toString()
    expect(said).toBe('')
  })
})
