// Enrolment against the real CA: one round trip, any number of lost ones, and nothing said to whoever is not the CA. The files are
// judged by openssl and curl.
import { execFile } from 'node:child_process'
import { createHash, generateKeyPairSync } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { untilAnswered } from '../../src/agent/backoff.ts'
import { openCredentialDirectory, readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { enrol } from '../../src/agent/enrol.ts'
import type { AgentError } from '../../src/agent/errors.ts'
import { createMemoryStore } from '../../src/agent/store.ts'
import type { TrustAnchors } from '../../src/agent/trust-anchors.ts'
import { createTlsServer } from '../../src/http/tls-server.ts'
import { selfSigned } from '../http/harness.ts'
import { type CaServer, createBackend, createCaServer, type Fate, issueForService } from './ca-server.ts'
import { createTiming } from './timing.ts'

const run = promisify(execFile)

let ca: CaServer
beforeAll(async () => {
  ca = await createCaServer()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const signal = new AbortController().signal
const read = (file: string) => readFileSync(file, 'utf8')
const tokenOf = async (agent: string) => read(await ca.tokenFile(agent)).trim()
const depsWith = (store = createMemoryStore(), timing = createTiming()) =>
  ({ timing, store, keyAlgorithm: 'P-256', signal }) as const
const enrolment = (token: string, anchors: TrustAnchors = { caFile: ca.caFile }, url = ca.url) =>
  ({ url, anchors, token, service: null }) as const
const patience = { patienceSeconds: 120, signal }
const thrownBy = (work: Promise<unknown>): Promise<AgentError> =>
  work.then(
    () => {
      throw new Error('expected a failure')
    },
    error => error,
  )
const fingerprintOf = (der: Uint8Array) => `sha256:${createHash('sha256').update(der).digest('hex')}`
const instancesOf = (agent: string) =>
  ca.front.ledger.certificates.list({ registration: { kind: 'agent', name: agent }, limit: 100 }).rows

describe('enrolment', () => {
  it('writes files that OpenSSL verifies and with which curl makes an mTLS call', async () => {
    const dir = ca.scratch('files')
    await using directory = await openCredentialDirectory(dir)
    const credential = await enrol(depsWith(directory), enrolment(await tokenOf('files')))
    const file = (name: string) => join(dir, name)
    expect(statSync(file('tls.key')).mode & 0o777).toBe(0o600)
    expect(statSync(file('credential-bundle.pem')).mode & 0o777).toBe(0o600)
    expect(read(file('credential-bundle.pem'))).toBe(read(file('tls.key')) + read(file('tls.crt')))
    const chain = ['-CAfile', file('ca.crt'), '-untrusted', file('tls.crt'), file('tls.crt')]
    expect((await run('openssl', ['verify', '-x509_strict', ...chain])).stdout).toBe(`${file('tls.crt')}: OK\n`)
    // curl knows no SPIFFE IDs: it gets the name that the server's certificate has.
    const origin = `localhost:${new URL(ca.url).port}`
    const self = await run('curl', [
      ...['--silent', '--show-error', '--max-time', '20', '--tlsv1.3', '--cacert', file('ca.crt')],
      ...['--cert', file('tls.crt'), '--key', file('tls.key'), '--resolve', `${origin}:127.0.0.1`],
      `https://${origin}/v1/self`,
    ])
    expect(JSON.parse(self.stdout).spiffeId).toBe(credential.spiffeId)
    expect(JSON.parse(read(file('identity.json')))).toMatchObject({ ...credential.facts, url: ca.url })
    expect((await readCredentialDirectory(dir))?.facts).toEqual(credential.facts)
  })

  it.each(['P-384', 'Ed25519'] as const)('takes a %s key where the profile accepts it', async keyAlgorithm => {
    const credential = await enrol({ ...depsWith(), keyAlgorithm }, enrolment(await tokenOf('other-keys')))
    expect(credential.facts.generation).toBe(1)
  })

  it('costs nothing when the answer is lost, 20 times in a row: one key, one certificate', async () => {
    const timing = createTiming()
    ca.fate(...Array<'lose-answer'>(20).fill('lose-answer'))
    const deps = depsWith(createMemoryStore(), timing)
    const token = await tokenOf('loses-answers')
    const patient = { patienceSeconds: 3600, signal }
    const credential = await untilAnswered(timing, patient, () => enrol(deps, enrolment(token)))
    expect(timing.waits).toHaveLength(20)
    expect(instancesOf('loses-answers').map(row => [row.serial, row.state])).toEqual([
      [credential.facts.serial, 'issued'],
    ])
  })

  it('resumes after a crash behind the commit with the key that was durable before it', async () => {
    const dir = ca.scratch('crashed')
    const token = await tokenOf('crashed')
    {
      await using directory = await openCredentialDirectory(dir)
      ca.fate('lose-answer')
      expect((await thrownBy(enrol(depsWith(directory), enrolment(token)))).code).toBe('ca_unreachable')
      expect(statSync(join(dir, 'pending.key')).mode & 0o777).toBe(0o600)
    }
    await using directory = await openCredentialDirectory(dir)
    const credential = await enrol(depsWith(directory), enrolment(token))
    expect(instancesOf('crashed').map(row => row.serial)).toEqual([credential.facts.serial])
    expect(() => statSync(join(dir, 'pending.key'))).toThrow('ENOENT')
  })
})

describe('a CA that cannot answer now', () => {
  const unavailable = (status: number, code: string, retryAfter: string): Fate => ({
    problem: { status, code, retryAfter },
  })

  it('is asked again no sooner than it says, and longer each time where it says nothing', async () => {
    const timing = createTiming()
    ca.fate(
      unavailable(503, 'signer_unavailable', '30'),
      unavailable(429, 'rate_limited', '7'),
      unavailable(409, 'issuance_in_progress', '1'),
      'lose-request',
    )
    const token = await tokenOf('waits')
    await untilAnswered(timing, patience, () => enrol(depsWith(), enrolment(token)))
    // Retry-After and, in the middle of the jitter's range, three quarters of 0.5 s, 1 s, 2 s, 4 s.
    expect(timing.waits).toEqual([30_375, 7750, 2500, 3000])
  })

  it('is given up when patience has run out, with its own code, hint and request id', async () => {
    const timing = createTiming()
    ca.fate(...Array<Fate>(200).fill(unavailable(503, 'signer_unavailable', '2')))
    const token = await tokenOf('gives-up')
    const error = await thrownBy(untilAnswered(timing, patience, () => enrol(depsWith(), enrolment(token))))
    expect(error).toMatchObject({
      code: 'signer_unavailable',
      origin: 'ca',
      status: 503,
      requestId: 'r-1',
      hint: 'wait',
    })
    const waited = timing.waits.reduce((sum, ms) => sum + ms, 0)
    expect(waited).toBeLessThanOrEqual(120_000)
    expect(waited).toBeGreaterThan(100_000)
    ca.forget()
  })

  it('is not asked again after a refusal that stays: the code of the CA, and what cures it', async () => {
    const timing = createTiming()
    const error = await thrownBy(untilAnswered(timing, patience, () => enrol(depsWith(), enrolment('made-up-token'))))
    expect(error).toMatchObject({ code: 'token_unknown', origin: 'ca', status: 401 })
    expect(error.hint).toContain('agentca token create')
    expect(error.requestId).toMatch(/^[0-9a-f]{32}$/)
    expect(timing.waits).toEqual([])
  })

  it('that nobody runs is unreachable, not untrusted', async () => {
    const backend = await createBackend(ca.rootPem, selfSigned('gone'))
    await backend.close()
    const error = await thrownBy(enrol(depsWith(), enrolment('t', { caFile: ca.caFile }, backend.url)))
    expect(error).toMatchObject({ code: 'ca_unreachable', facts: { reason: 'ECONNREFUSED' } })
  })
})

describe('whoever is not the CA', () => {
  /** A server that writes down all it is told, and answers `/v1/bundle` with what it is given. */
  const eavesdropper = async (credentials: { key: string; chain: string }, bundle: string) => {
    const heard: string[] = []
    const server = createTlsServer({
      credentials,
      handler: (request, response) => {
        heard.push(`${request.method} ${request.url}`)
        request.on('data', (part: Buffer) => heard.push(part.toString()))
        request.on('end', () => response.end(bundle))
      },
    })
    const port = await server.listen({ host: '127.0.0.1', port: 0 })
    return { heard, url: `https://127.0.0.1:${port}`, close: () => server.close(0) }
  }

  it('never hears the token when it shows another root than the fingerprint names', async () => {
    const mallory = selfSigned('mallory')
    const server = await eavesdropper(mallory, mallory.chain)
    const anchors = { caFingerprint: fingerprintOf(ca.front.ca.root.der) }
    const error = await thrownBy(enrol(depsWith(), enrolment('secret-token', anchors, server.url)))
    expect(error.code).toBe('ca_fingerprint_not_found')
    expect(server.heard).toEqual(['GET /v1/bundle'])
    await server.close()
  })

  it('never hears the token when it shows the right root and cannot prove to be below it', async () => {
    const server = await eavesdropper(selfSigned('mallory'), ca.rootPem)
    const anchors = { caFingerprint: fingerprintOf(ca.front.ca.root.der) }
    const error = await thrownBy(enrol(depsWith(), enrolment('secret-token', anchors, server.url)))
    expect(error.code).toBe('ca_not_verified')
    expect(server.heard).toEqual(['GET /v1/bundle'])
    await server.close()
  })

  it('never hears the token as another service of the same CA, even under the right host name', async () => {
    const server = await eavesdropper(await issueForService(ca.front.ca, 'orders', ['localhost']), '{}')
    const url = server.url.replace('127.0.0.1', 'localhost')
    const error = await thrownBy(enrol(depsWith(), enrolment('secret-token', { caFile: ca.caFile }, url)))
    expect(error.code).toBe('ca_not_verified')
    expect(error.message).toContain('spiffe://example.org/service/orders')
    expect(server.heard).toEqual([])
    await server.close()
  })

  it('never hears the token when it stands under another root than the file holds', async () => {
    const server = await eavesdropper(selfSigned('mallory'), '{}')
    const error = await thrownBy(enrol(depsWith(), enrolment('secret-token', { caFile: ca.caFile }, server.url)))
    expect(error.code).toBe('ca_not_verified')
    expect(error.hint).toContain('--ca-fingerprint')
    expect(server.heard).toEqual([])
    await server.close()
  })

  it('is told apart from the CA by its fingerprint, in either notation', async () => {
    const hex = fingerprintOf(ca.front.ca.root.der).slice('sha256:'.length)
    const colons = `sha256:${hex.toUpperCase().match(/../g)?.join(':')}`
    const token = await tokenOf('by-fingerprint')
    const credential = await enrol(depsWith(), enrolment(token, { caFingerprint: colons }))
    expect(credential.bundlePem).toBe(ca.rootPem)
  })
})

describe('an answer', () => {
  type Answer = Readonly<Record<string, unknown>>
  const changes: readonly (readonly [what: string, change: (answer: Answer) => unknown, code: string])[] = [
    ['a certificate for another key', a => ({ ...a, certificate: selfSigned('x').chain }), 'answer_not_verified'],
    ['a bundle without its root', a => ({ ...a, bundle: selfSigned('x').chain }), 'answer_not_verified'],
    ['a chain without the issuing CA', a => ({ ...a, chain: '' }), 'answer_not_verified'],
    ['another serial', a => ({ ...a, serial: '00' }), 'answer_not_verified'],
    ['another name', a => ({ ...a, spiffeId: 'spiffe://example.org/agent/x/i/1' }), 'answer_not_verified'],
    ['another end', a => ({ ...a, notAfter: '2100-01-01T00:00:00.000Z' }), 'answer_not_verified'],
    ['members of other types', a => ({ ...a, generation: '1', chain: null }), 'answer_malformed'],
    ['a private key for a certificate', a => ({ ...a, certificate: somePrivateKey }), 'answer_malformed'],
    ['nothing that is an identity', () => [], 'answer_malformed'],
  ]

  it.each(changes)('with %s is refused, and the next one is taken', async (what, change, code) => {
    const deps = depsWith()
    const token = await tokenOf(`answer-${changes.findIndex(each => each[0] === what)}`)
    ca.fate({ change })
    expect((await thrownBy(enrol(deps, enrolment(token)))).code).toBe(code)
    expect((await enrol(deps, enrolment(token))).facts.generation).toBe(1)
  })

  it('with members that this version does not know is taken', async () => {
    ca.fate({ change: answer => ({ ...answer, more: 1 }) })
    expect((await enrol(depsWith(), enrolment(await tokenOf('newer-ca')))).facts).not.toHaveProperty('more')
  })

  it('is judged by the clock of this machine, and the fault names both times', async () => {
    const timing = createTiming()
    timing.moveWall(-3 * 3_600_000)
    const error = await thrownBy(enrol(depsWith(createMemoryStore(), timing), enrolment(await tokenOf('slow-clock'))))
    expect(error.code).toBe('answer_not_verified')
    expect(error.message).toMatch(/valid from .* to .*, this machine's clock says/)
    expect(error.hint).toContain('clock')
  })
})

const somePrivateKey = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string

describe('trust anchors', () => {
  it.each([
    ['no file', () => ca.scratch('missing.pem'), 'file_unreadable'],
    ['a private key', () => file('key.pem', somePrivateKey), 'option_invalid'],
    ['no PEM', () => file('text.pem', 'hello'), 'option_invalid'],
  ])('from %s are refused before any connection', async (_, caFile, code) => {
    const before = ca.seen.length
    expect((await thrownBy(enrol(depsWith(), enrolment('t', { caFile: caFile() })))).code).toBe(code)
    expect(ca.seen.length).toBe(before)
  })

  it.each(['sha256:abcd', 'sha1:00', 'md5', `sha256:${'g'.repeat(64)}`])(
    'by the fingerprint %s are refused',
    async text => {
      expect((await thrownBy(enrol(depsWith(), enrolment('t', { caFingerprint: text })))).code).toBe('option_invalid')
    },
  )

  const file = (name: string, content: string): string => {
    writeFileSync(ca.scratch(name), content)
    return ca.scratch(name)
  }
})
