// Floods at a CA as it is served: connections that say nothing, OCSP questions that have to be signed one by one, readers that do not
// read, clients that hang up. Meanwhile an honest agent enrols, and afterwards everything is as before.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { Pool } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bitString, explicit, integer, octetString, oid, sequence } from '../../../src/pki/der.ts'
import { encodeCertId, encodeOcspRequest, parseOcspResponse } from '../../../src/pki/ocsp.ts'
import { oidOf } from '../../../src/pki/oid.ts'
import { type AgentKey, createKey } from '../../http/harness.ts'
import { createRelyingParty } from '../../story/relying-party.ts'
import { until } from '../../story/until.ts'
import { type AttackedCa, childrenOf, heardOn, portOf, startAttackedCa } from './attacked.ts'

let attacked: AttackedCa
beforeAll(async () => {
  attacked = await startAttackedCa({
    AGENTCA_OCSP_NONCE: 'on',
    AGENTCA_OCSP_NONCEBUDGET: '5',
    AGENTCA_OCSP_UNKNOWNBUDGET: '5',
  })
}, 180_000)
afterAll(async () => attacked?.[Symbol.asyncDispose]())

let served = 0
/** That others are served meanwhile. */
const enrolHonestly = () => attacked.enrolled(`honest-${served++}`)

describe('OCSP questions', () => {
  const question = (serialHex: string, nonce?: Uint8Array): Uint8Array => {
    const { subjectDer, spki } = attacked.home.trusted.issuing
    const serial = new Uint8Array(Buffer.from(serialHex, 'hex'))
    const certId = encodeCertId({ hash: 'sha1', issuerNameDer: subjectDer, issuerKeyBits: spki.keyBytes, serial })
    return encodeOcspRequest(nonce === undefined ? { certIds: [certId] } : { certIds: [certId], nonce })
  }
  const asked = async (pool: Pool, body: Uint8Array): Promise<string> => {
    const headers = { 'content-type': 'application/ocsp-request' }
    const answer = await pool.request({ path: '/ocsp', method: 'POST', body: Buffer.from(body), headers })
    const bytes = new Uint8Array(await answer.body.arrayBuffer())
    return answer.statusCode === 200 ? parseOcspResponse(bytes).status : String(answer.statusCode)
  }

  it('with nonces, and about serials that never were, are signed within their budgets and take nothing from others', async () => {
    const { identity } = await enrolHonestly()
    const pool = new Pool(attacked.home.report.urls.status, { connections: 32 })
    const party = createRelyingParty(attacked.home)
    try {
      const flood = Promise.all(
        Array.from({ length: 2000 }, (_, i) =>
          asked(
            pool,
            i % 2 === 0 ? question(identity.serial, randomBytes(32)) : question(randomBytes(16).toString('hex')),
          ),
        ),
      )
      expect(await party.ocsp(identity.serial)).toBe('good')
      await enrolHonestly()
      const answers = await flood
      expect(answers.filter(answer => answer === 'tryLater').length).toBeGreaterThan(1000)
      expect([...new Set(answers)].toSorted()).toEqual(['successful', 'tryLater'])
      expect(await party.ocsp(identity.serial)).toBe('good')
    } finally {
      await party.close()
      await pool.destroy()
    }
  })

  it('with huge nonces, or larger than any question, are refused unread', async () => {
    const { identity } = await enrolHonestly()
    const pool = new Pool(attacked.home.report.urls.status, { connections: 1 })
    try {
      expect(() => question(identity.serial, randomBytes(129))).toThrow()
      for (const length of [129, 1000]) {
        const nonce = sequence(oid(oidOf.ocspNonce), octetString(octetString(randomBytes(length))))
        const { subjectDer, spki } = attacked.home.trusted.issuing
        const serial = new Uint8Array(Buffer.from(identity.serial, 'hex'))
        const certId = encodeCertId({ hash: 'sha1', issuerNameDer: subjectDer, issuerKeyBits: spki.keyBytes, serial })
        const request = sequence(sequence(sequence(sequence(certId)), explicit(2, sequence(nonce))))
        expect(await asked(pool, request), String(length)).toBe('malformedRequest')
      }
      const large = sequence(integer(1), bitString(randomBytes(100_000)))
      expect(await asked(pool, large)).toMatch(/^(?:413|malformedRequest)$/)
    } finally {
      await pool.destroy()
    }
  })
})

describe('connections that say nothing', () => {
  /** What this process may open, the rest of the test included; 20,000 make the 10,000 and more of the two listeners. */
  const open = async (port: number, count: number): Promise<readonly Socket[]> => {
    const sockets: Socket[] = []
    for (let at = 0; at < count; at += 500)
      await Promise.all(
        Array.from({ length: Math.min(500, count - at) }, async () => {
          const socket = connect(port, '127.0.0.1').resume()
          socket.on('error', () => {})
          sockets.push(socket)
          await Promise.race([once(socket, 'connect'), once(socket, 'close')])
        }),
      )
    return sockets
  }

  it('10,000 of them, as far as the machine lets one process: others are served, and all are cut off', async context => {
    const limit = Number((await heardFrom('sh', ['-c', 'ulimit -n'])).trim())
    const count = Math.min(10_000, Math.floor((limit - 500) / 100) * 100)
    if (!(count >= 1000)) return context.skip(`ulimit -n is ${limit}`)
    const { api, status } = attacked.ca.line
    const half = count / 2
    const idle = [...(await open(portOf(api), half)), ...(await open(portOf(status), half))]
    try {
      await enrolHonestly()
      await until('all idle connections were cut off', () =>
        idle.every(socket => socket.destroyed || socket.readyState === 'closed'),
      )
      await enrolHonestly()
      const party = createRelyingParty(attacked.home)
      expect(await party.crl().finally(() => party.close())).toBeInstanceOf(Uint8Array)
    } finally {
      for (const socket of idle) socket.destroy()
    }
  })
})

const heardFrom = async (program: string, args: readonly string[]): Promise<string> => {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', chunk => {
    said += chunk
  })
  await once(child, 'close')
  return said
}

describe('readers of the feed that do not read', () => {
  it('hold up no revocation for the one that does', async () => {
    const key = await createKey()
    const service = await serviceCredential('billing', key)
    const victim = await enrolHonestly()
    const sockets = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const socket = tlsConnect({
          port: portOf(attacked.ca.line.api),
          host: '127.0.0.1',
          rejectUnauthorized: false,
          ...service,
        })
        socket.on('error', () => {})
        await once(socket, 'secureConnect')
        socket.pause()
        socket.write(`GET /v1/feed?subscriber=deaf-${i} HTTP/1.1\r\nHost: ca\r\n\r\n`)
        return socket
      }),
    )
    const hears = tlsConnect({
      port: portOf(attacked.ca.line.api),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...service,
    })
    try {
      await once(hears, 'secureConnect')
      let heard = ''
      hears.setEncoding('utf8').on('data', chunk => {
        heard += chunk
      })
      hears.write('GET /v1/feed?subscriber=hears HTTP/1.1\r\nHost: ca\r\n\r\n')
      await until('the reader is heard', () => heard.includes('event:'))
      await attacked.operator.json(`revoke --serial ${victim.identity.serial} --reason keyCompromise --yes`)
      await until('the revocation arrives', () => heard.includes(victim.identity.serial))
    } finally {
      for (const socket of [...sockets, hears]) socket.destroy()
    }
  })
})

const serviceCredential = async (name: string, key: AgentKey) => {
  await attacked.operator.run(`service create ${name} --owner attacked`)
  const { token } = await attacked.operator.json<{ token: string }>(`token create --service ${name}`)
  const { body } = await attacked.enrol(token, key.csrText)
  return {
    cert: body.certificate as string,
    key: key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  }
}

describe('whoever hangs up', () => {
  it('in the middle of an answer, or by a reset, ends nothing but the own connection', async () => {
    for (const door of ['status', 'ops', 'admin'] as const)
      for (let i = 0; i < 50; i++) {
        const socket = (await attacked.open(door)) as Socket
        socket.on('error', () => {})
        socket.write(`GET /bundle HTTP/1.1\r\nHost: ca\r\n\r\n`.repeat(20))
        if (door === 'admin') socket.destroy()
        else socket.resetAndDestroy()
      }
    await enrolHonestly()
  })

  it('or sends SIGPIPE, ends neither the CA nor its signer', async () => {
    const { pid } = attacked.ca.line
    const [signer = 0] = childrenOf(pid)
    process.kill(pid, 'SIGPIPE')
    process.kill(signer, 'SIGPIPE')
    await enrolHonestly()
    expect(process.kill(pid, 0) && process.kill(signer, 0)).toBe(true)
  })

  it('and reads the log no more, ends no CA that goes on writing it', async () => {
    await attacked.ca.stop()
    const main = join(import.meta.dirname, '../../../src/cli/main.ts')
    const cwd = dirname(attacked.home.paths.home)
    const child = spawn(process.execPath, [main, 'serve'], {
      cwd,
      env: attacked.home.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const ended = once(child, 'exit')
    try {
      await once(child.stdout!, 'data')
      child.stderr!.destroy()
      child.stdout!.destroy()
      for (let i = 0; i < 3; i++) child.kill('SIGHUP')
      // Answered behind the reloads, which write to the log.
      for (let i = 0; i < 3; i++) {
        const said = await heardOn(
          await attacked.open('status'),
          'GET /bundle HTTP/1.1\r\nHost: ca\r\nConnection: close\r\n\r\n',
        )
        expect(said).toMatch(/^HTTP\/1\.1 200 /)
      }
      await attacked.operator.json('agent list')
      expect(child.exitCode).toBeNull()
    } finally {
      child.kill('SIGTERM')
      await ended
    }
  })
})
