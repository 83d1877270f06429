import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { type Challenge, type ValidationPolicy, validate } from '../../../src/acme/validation/validate.ts'
import { hosts, startDnsServer } from './dns-server.ts'
import { challengeOf, dns, httpResponder, ip, listening, loopbackPolicy, networks } from './probe-world.ts'

const refused = async (challenge: Challenge, policy: ValidationPolicy) => {
  const result = await validate(challenge, policy)
  if (result.ok) throw new Error('expected a refusal, got a validation')
  return result.problem
}

/** A responder for agent.example at 127.0.0.1, and what it was asked. */
const world = async (
  answer: (challenge: Challenge) => { status?: number; headers?: Record<string, string>; body?: string },
) => {
  const challenge = challengeOf('http-01', dns('agent.example'))
  const requests: string[] = []
  const responder = await httpResponder((request, response) => {
    requests.push(`${request.headers.host} ${request.url}`)
    const { status = 200, headers = {}, body = '' } = answer(challenge)
    response.writeHead(status, headers).end(body)
  })
  const server = await startDnsServer(hosts({ 'agent.example': ['127.0.0.1'] }))
  const policy = loopbackPolicy({ resolvers: [server.address], httpPort: responder.port })
  const dispose = async (): Promise<void> => {
    await responder[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  }
  return { challenge, requests, policy, server, responder, [Symbol.asyncDispose]: dispose }
}

describe('http-01 (RFC 8555 §8.3)', () => {
  it('is satisfied by the key authorization under the path of the token, asked for with the name in Host', async () => {
    await using it = await world(({ keyAuthorization }) => ({ body: keyAuthorization }))
    expect(await validate(it.challenge, it.policy)).toEqual({ ok: true })
    expect(it.requests).toEqual([
      `agent.example:${it.responder.port} /.well-known/acme-challenge/${it.challenge.token}`,
    ])
  })

  it('ignores white space at the end, and nothing else', async () => {
    const bodies = {
      accepted: (text: string) => [`${text}\r\n`, `${text} \t\n`],
      refused: (text: string) => [
        ` ${text}`,
        `${text}x`,
        text.slice(0, -1),
        text.toUpperCase(),
        `${text}\u00a0`,
        '',
        `${text}\0`,
      ],
    }
    for (const [kind, make] of Object.entries(bodies))
      for (const [at] of make('x').entries()) {
        await using it = await world(({ keyAuthorization }) => ({ body: make(keyAuthorization)[at] as string }))
        const result = await validate(it.challenge, it.policy)
        expect(result.ok, `${kind} ${at}`).toBe(kind === 'accepted')
        if (!result.ok) expect(result.problem.type).toBe('incorrectResponse')
      }
  })

  it('follows no redirect, not even to the right answer, and says so', async () => {
    await using target = await httpResponder((_, response) => response.end('secret'))
    for (const status of [301, 302, 303, 307, 308]) {
      await using it = await world(() => ({ status, headers: { Location: `http://127.0.0.1:${target.port}/` } }))
      const problem = await refused(it.challenge, it.policy)
      expect(problem.type).toBe('incorrectResponse')
      expect(problem.detail).toMatch(/redirects are not followed/)
      expect(it.requests).toHaveLength(1)
    }
  })

  it('tells nothing of what was answered', async () => {
    for (const status of [200, 404, 500]) {
      await using it = await world(() => ({ status, headers: { 'X-Inner': 'kept-inside' }, body: 'kept-inside' }))
      expect(JSON.stringify(await refused(it.challenge, it.policy))).not.toContain('kept-inside')
    }
  })

  it('reads no more than a key authorization needs', async () => {
    let sent = 0
    const challenge = challengeOf('http-01', ip('127.0.0.1'))
    await using responder = await httpResponder((_, response) => {
      const more = (): void => {
        sent++
        if (!response.destroyed && response.write('x'.repeat(65_536))) setImmediate(more)
        else if (!response.destroyed) response.once('drain', more)
      }
      more()
    })
    const problem = await refused(challenge, loopbackPolicy({ httpPort: responder.port }))
    expect(problem).toMatchObject({ type: 'incorrectResponse', detail: expect.stringMatching(/more than 1024 bytes/) })
    expect(sent).toBeLessThan(1000)
  })

  it('gives up on what never answers, and on what answers without end, after the time of the configuration', async () => {
    await using silent = await listening(createServer(() => {}))
    await using drip = await listening(
      createServer(socket => {
        socket.on('error', () => {})
        socket.write('HTTP/1.1 200 OK\r\n')
        const timer = setInterval(() => socket.write('X-More: 1\r\n'), 50)
        socket.on('close', () => clearInterval(timer))
      }),
    )
    for (const { port } of [silent, drip]) {
      const problem = await refused(
        challengeOf('http-01', ip('127.0.0.1')),
        loopbackPolicy({ httpPort: port, timeout: 1 }),
      )
      expect(problem).toEqual({ type: 'connection', detail: '127.0.0.1: no result within 1 s' })
    }
  })

  it('is a connection problem where nothing listens, and where something else than HTTP does', async () => {
    const closed = await listening(createServer())
    await closed[Symbol.asyncDispose]()
    await using other = await listening(
      createServer(socket => {
        socket.on('error', () => {})
        socket.end('SSH-2.0-OpenSSH\r\n')
      }),
    )
    const at = (port: number) => refused(challengeOf('http-01', ip('127.0.0.1')), loopbackPolicy({ httpPort: port }))
    expect(await at(closed.port)).toMatchObject({ type: 'connection', detail: expect.stringMatching(/refused/) })
    const problem = await at(other.port)
    expect(problem.type).toBe('connection')
    expect(problem.detail).not.toContain('SSH')
  })

  it('tries the next address where one cannot be connected to', async () => {
    const challenge = challengeOf('http-01', dns('two.example'))
    await using responder = await httpResponder((_, response) => response.end(challenge.keyAuthorization))
    await using server = await startDnsServer(hosts({ 'two.example': ['127.0.0.2', '127.0.0.1'] }))
    // The responder listens on the second only.
    const policy = loopbackPolicy({ resolvers: [server.address], httpPort: responder.port })
    expect(await validate(challenge, policy)).toEqual({ ok: true })
  })

  it('takes an IPv6 address in brackets as Host (RFC 8738 §4)', async () => {
    const challenge = challengeOf('http-01', ip('::1'))
    const seen: (string | undefined)[] = []
    await using responder = await httpResponder((request, response) => {
      seen.push(request.headers.host)
      response.end(challenge.keyAuthorization)
    }, '::1')
    expect(await validate(challenge, loopbackPolicy({ httpPort: responder.port }))).toEqual({ ok: true })
    expect(seen).toEqual([`[::1]:${responder.port}`])
  })

  it('connects to nothing for a token that would change the path', async () => {
    const challenge = {
      ...challengeOf('http-01', ip('127.0.0.1')),
      token: '../../secret',
      keyAuthorization: '../../secret.x',
    }
    expect(await refused(challenge, loopbackPolicy())).toMatchObject({ type: 'malformed' })
  })
})

describe('forged requests', () => {
  const everything = networks('0.0.0.0/0', '::/0')

  it.each(['127.0.0.1', '169.254.169.254', '::1', '::ffff:127.0.0.1', '0.0.0.0'])(
    'to %s are refused without a connection, even where all networks are allowed',
    async address => {
      let connections = 0
      await using responder = await httpResponder((_, response) => {
        connections++
        response.end()
      })
      const policy = loopbackPolicy({ allowedNetworks: everything, httpPort: responder.port })
      expect(await refused(challengeOf('http-01', ip(address)), policy)).toMatchObject({ type: 'rejectedIdentifier' })
      expect(connections).toBe(0)
    },
  )

  it('by a name with one forbidden address among allowed ones are refused, and the address is not told', async () => {
    let connections = 0
    await using responder = await httpResponder((_, response) => {
      connections++
      response.end()
    })
    const forbidden = ['169.254.169.254', '::ffff:169.254.169.254', '64:ff9b::a9fe:a9fe', '10.0.0.7']
    for (const address of forbidden) {
      await using server = await startDnsServer(hosts({ 'mixed.example': ['127.0.0.1', address] }))
      const policy = loopbackPolicy({ resolvers: [server.address], httpPort: responder.port })
      const problem = await refused(challengeOf('http-01', dns('mixed.example')), policy)
      expect(problem.type).toBe('rejectedIdentifier')
      expect(problem.detail).not.toContain(address)
    }
    expect(connections).toBe(0)
  })

  it('by a name that means another address when it is asked for again: it is not asked for again (DNS rebinding)', async () => {
    let asked = 0
    const challenge = challengeOf('http-01', dns('rebinding.example'))
    await using responder = await httpResponder((_, response) => response.end(challenge.keyAuthorization))
    await using server = await startDnsServer((_, type) => {
      if (type !== 'A') return []
      asked++
      return [{ type, value: asked === 1 ? '127.0.0.1' : '169.254.169.254' }]
    })
    const policy = loopbackPolicy({ resolvers: [server.address], httpPort: responder.port })
    expect(await validate(challenge, policy)).toEqual({ ok: true })
    expect(asked).toBe(1)
    // By now it means the other one.
    expect(await refused(challenge, policy)).toMatchObject({ type: 'rejectedIdentifier' })
  })
})
