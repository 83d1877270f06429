// Text that attacks whoever reads it: log lines that forge other lines, escapes that drive a terminal, members that would become
// everybody's. Sent to a CA as it is served, then looked for in its log, in its answers and on the operator's screen.
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKey } from '../../http/harness.ts'
import { runProgram } from '../../story/served-ca.ts'
import { type AttackedCa, startAttackedCa } from './attacked.ts'

let attacked: AttackedCa
beforeAll(async () => {
  attacked = await startAttackedCa({ AGENTCA_LOG_LEVEL: 'debug' })
}, 180_000)
afterAll(async () => attacked?.[Symbol.asyncDispose]())

/** A line of the log that never was, a cleared screen with another title, a hidden end, text from right to left. */
const forgery = '{"level":"fatal","msg":"forged"}'
const hostile = `x\r\n${forgery}\n\u001b[2J\u001b]0;owned\u0007\u009b31m\u0000\u202e\u2066y\u007f\u2028z`
// biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal obeys is what is looked for.
const drivesTerminals = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/
const inLatin1 = '\u001b[2J\u009b31m'

describe('text that drives terminals or forges lines', () => {
  it('in names is refused, and in free text reaches no screen and no line of its own', async () => {
    const { admin, operator } = { admin: attacked.home.admin, operator: attacked.operator }
    for (const name of [hostile, 'a\nb', '../x', 'a\u0000', '\u001b[2J', 'ａ', '-', '--help', '__proto__'])
      await expect(admin.call('agentsCreate', { body: { name, owner: 'o' } }), JSON.stringify(name)).rejects.toThrow()
    const owner = 'own\u001b[2J\u202eer'
    // Taken or refused: both are right, as long as nothing of it acts.
    for (const [name, body] of [
      ['purposeful', { purpose: hostile }],
      ['attributed', { attributes: { 'ke\u001b[2Jy': hostile } }],
      ['enrolled-by', { roles: ['ro\u001b[2Jle'] }],
      ['owned', { owner }],
    ] satisfies readonly (readonly [string, object])[])
      await admin.call('agentsCreate', { body: { name, owner: 'o', ...body } }).catch(() => {})
    await admin.call('agentsHold', { params: { name: 'purposeful' }, body: { why: hostile } }).catch(() => {})
    for (const line of [
      'agent list',
      'agent show purposeful',
      'agent show attributed',
      'agent show owned',
      'audit tail -n 100',
      'cert list',
      'orphans',
      'status',
      'agent show \u001b[2J',
      'cert show \u009b31m',
      'no\u001b[2Jcommand',
    ]) {
      const { out, err } = await operator.run(line)
      expect(drivesTerminals.exec(out)?.[0], line).toBeUndefined()
      expect(drivesTerminals.exec(err)?.[0], line).toBeUndefined()
      expect(`${out}\n${err}`.split('\n'), line).not.toContain(forgery)
    }
  })

  it('in whatever strangers send comes back in no answer', async () => {
    const head = (path: string) =>
      `GET ${path} HTTP/1.1\r\nHost: ca\r\nUser-Agent: ${inLatin1}\r\nX-Request-Id: ${forgery}\r\nConnection: close\r\n\r\n`
    const answers = await Promise.all([
      attacked.say('api', head(`/v1/%0a${encodeURIComponent(forgery)}`)),
      attacked.say('api', head('/v1/%1b%5b2J')),
      attacked.say('api', head(`/v1/${inLatin1}`)),
      attacked.say('status', head('/crl/%0d%0aSet-Cookie:%20a=b')),
      attacked.say('status', head('/ocsp/%1b%5b2J')),
      attacked.say('admin', head('/v1/admin/agents/%1b%5b2J')),
      attacked.say('ops', head('/%1b%5b2J')),
    ])
    for (const answer of answers) {
      expect(answer).toMatch(/^HTTP\/1\.1 4/)
      expect(drivesTerminals.exec(answer.replaceAll('\r\n', ''))?.[0]).toBeUndefined()
      expect(answer).not.toMatch(/^Set-Cookie/im)
    }
    for (const body of [
      { csr: hostile, evidence: { type: 'token', token: hostile } },
      { csr: (await createKey()).csrText, evidence: { type: 'token', token: 't' }, [hostile]: 1 },
      { csr: (await createKey([], 'c\u001b[2Jn')).csrText, evidence: { type: hostile } },
      { csr: 'AAAA', evidence: { type: 'token', token: 't' }, idempotencyKey: hostile },
    ]) {
      const { status, text } = await attacked.call('/v1/enroll', { body })
      expect(status).toBeGreaterThanOrEqual(400)
      expect(drivesTerminals.exec(text)?.[0]).toBeUndefined()
    }
  })

  it('leaves a log of JSON lines, each whole and each the server’s own', () => {
    const lines = attacked.home
      .log()
      .split('\n')
      .filter(line => line !== '')
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) {
      expect(drivesTerminals.exec(line)?.[0], line).toBeUndefined()
      expect(JSON.parse(line).msg, line).not.toBe('forged')
    }
  })
})

describe('members with the names of every object’s own', () => {
  const poison =
    '"__proto__":{"isAdmin":true,"role":"admin","state":"active"},"constructor":{"prototype":{"isAdmin":true}}'

  it('are unknown ones in JSON, at every depth', async () => {
    for (const body of [
      `{${poison},"csr":"AAAA","evidence":{"type":"token","token":"t"}}`,
      `{"csr":"AAAA","evidence":{"type":"token","token":"t",${poison}}}`,
      '{"csr":"AAAA","evidence":{"type":"token","token":"t"},"__proto__":{"csr":"x"}}',
      '{"csr":"AAAA","evidence":{"type":"token","token":"t","constructor":{}}}',
      `{"__proto__":{"csr":"AAAA","evidence":{"type":"token","token":"t"}}}`,
    ]) {
      const reply = await attacked.call('/v1/enroll', { body })
      expect([reply.status, reply.body.code], body).toEqual([422, 'request_invalid'])
    }
  })

  it('are no kinds of evidence', async () => {
    for (const type of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const { status, body } = await attacked.call('/v1/enroll', { body: { csr: 'AAAA', evidence: { type } } })
      expect([status, body.code]).toEqual([422, 'evidence_type_not_supported'])
    }
  })

  it('are attributes like any other, of the one agent that has them', async () => {
    const attributes = JSON.parse('{"__proto__":"x","constructor":"y","toString":"z"}')
    const created = await attacked.home.admin
      .call('agentsCreate', { body: { name: 'poisoned', owner: 'o', attributes } })
      .then(answer => Object.keys(answer.attributes ?? {}))
      .catch(() => [])
    for (const name of created) expect(['__proto__', 'constructor', 'toString']).toContain(name)
    const plain = await attacked.home.admin.call('agentsCreate', { body: { name: 'plain', owner: 'o' } })
    expect(plain.attributes).toEqual({})
  })

  it('are refused in YAML, by the configuration and by apply', async () => {
    const directory = dirname(attacked.home.paths.home)
    const file = join(directory, 'poison.yaml')
    const agentca = join(import.meta.dirname, '../../../bin/agentca')
    const env = { ...process.env, ...attacked.home.env }
    for (const [text, ...args] of [
      ['__proto__:\n  mode: production\n', 'serve', '--config', file],
      ['kind: Agent\nname: x\nowner: o\n__proto__:\n  roles: [admin]\n', 'apply', '--file', file],
      ['kind: Agent\nname: x\nowner: o\nattributes:\n  __proto__: [admin]\n', 'apply', '--file', file],
    ] as const) {
      writeFileSync(file, text)
      const { code, err } = await runProgram(agentca, args, { cwd: directory, env })
      expect([code, err.includes('__proto__')], `${args[0]}: ${err}`).toEqual([2, true])
    }
  })
})
