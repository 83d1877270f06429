// Certificates of other authorities, made by openssl: shown in the handshake or by a JWS, with everything that makes them no evidence.
import { execFileSync } from 'node:child_process'
import { createPrivateKey, randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CompactSign } from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { signCertificateProof } from '../../src/jws/sign-proof.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { createKey, publicUrl } from '../http/harness.ts'
import { type Admitting, startAdmitting } from './admitting.ts'

let world: Admitting
let directory: string

const openssl = (...args: readonly string[]): void => {
  execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
}
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
const file = (name: string): string => join(directory, name)
const pem = (name: string): string => readFileSync(file(name), 'utf8')

/** A root, with what `openssl ca` needs for revoking. */
const authority = (name: string): void => {
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-days',
    '30',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.pem`,
  )
  writeFileSync(file(`${name}.index`), '')
  writeFileSync(
    file(`${name}.cnf`),
    `[ca]\ndefault_ca = d\n[d]\ndatabase = ${name}.index\ndefault_md = sha256\ndefault_crl_days = 7\ncertificate = ${name}.pem\nprivate_key = ${name}.key\n`,
  )
}

const machine = (name: string, by: string, names: string, usage = 'clientAuth', days = '5'): void => {
  openssl('req', '-new', ...newKey, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
  writeFileSync(
    file(`${name}.ext`),
    `subjectAltName=${names}\nextendedKeyUsage=${usage}\nkeyUsage=critical,digitalSignature\n`,
  )
  openssl(
    ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${by}.pem`, '-CAkey', `${by}.key`, '-days', days],
    ...['-extfile', `${name}.ext`, '-out', `${name}.pem`],
  )
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-x509-'))
  for (const name of ['corporate', 'stranger']) authority(name)
  machine('build-1', 'corporate', 'DNS:build-1.ci.example.org')
  machine('build-2', 'corporate', 'DNS:build-2.ci.example.org')
  machine('laptop', 'corporate', 'DNS:laptop.example.org')
  machine('web', 'corporate', 'DNS:build-9.ci.example.org', 'serverAuth')
  machine('forged', 'stranger', 'DNS:build-1.ci.example.org')
  openssl('ca', '-config', 'corporate.cnf', '-gencrl', '-out', 'corporate.crl')
  world = await startAdmitting()
  await world.front.ca.registerAgent('builder')
})
afterEach(() => world.removeAll())
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const yaml = (more = ''): string => `kind: x509
anchorsFile: ${file('corporate.pem')}
${more}
rules:
  - agent: builder
    require: {dns: "*.ci.example.org"}
`
const shown = (name: string) => ({ cert: pem(`${name}.pem`), key: pem(`${name}.key`) })
const proofBy = async (name: string, key: Awaited<ReturnType<typeof createKey>>, more: object = {}) =>
  signCertificateProof(
    {
      ...{ privateKey: createPrivateKey(pem(`${name}.key`)), csr: key.csr, audience: publicUrl, now: Date.now() },
      ...more,
    },
    parsePem(pem(`${name}.pem`), 'CERTIFICATE'),
  )

describe('in the handshake', () => {
  it('a certificate of the authority makes its holder the agent, for each new key once', async () => {
    world.add('machines', yaml())
    const key = await createKey()
    const first = await world.enrol({ type: 'x509' }, key, { shown: shown('build-1') })
    expect([first.status, first.body.agent]).toEqual([201, 'builder'])
    const again = await world.enrol({ type: 'x509' }, key, { shown: shown('build-1') })
    expect([again.status, again.body.serial]).toEqual([200, first.body.serial])
    expect(world.leaves('evidence_admitted')[0]).toMatchObject({
      type: 'x509',
      attestor: 'machines',
      subject: 'CN=build-1',
    })
    expect((await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-1') })).status).toBe(201)
  })

  it.each([
    ['no certificate at all', undefined, 'client_certificate_missing', 401],
    ['one of an authority that nobody named', 'forged', 'evidence_issuer_unknown', 401],
    ['one for servers', 'web', 'evidence_certificate_invalid', 401],
    ['one whose names no rule takes', 'laptop', 'evidence_not_matched', 403],
  ])('%s is no evidence', async (_what, name, code, status) => {
    world.add('machines', yaml())
    const more = name === undefined ? {} : { shown: shown(name) }
    const answer = await world.enrol({ type: 'x509' }, undefined, more)
    expect([answer.body.code, answer.status]).toEqual([code, status])
  })

  it('it opens nothing but enrolment', async () => {
    world.add('machines', yaml())
    const { body } = await world.front.call('/v1/self', { shown: shown('build-1') })
    expect(body.code).toBe('certificate_unknown')
  })

  it('counts only where the attestor takes handshakes', async () => {
    world.add('machines', yaml('by: [jws]'))
    const { body } = await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-1') })
    expect(body.code).toBe('evidence_issuer_unknown')
  })
})

describe('by a JWS', () => {
  it('the proof enrols the request that it was made for, once', async () => {
    world.add('machines', yaml())
    const key = await createKey()
    const jws = await proofBy('build-1', key)
    const first = await world.enrol({ type: 'x509', jws }, key)
    expect([first.status, first.body.agent]).toEqual([201, 'builder'])
    expect((await world.enrol({ type: 'x509', jws }, key)).status).toBe(200)
    const other = await world.enrol({ type: 'x509', jws })
    expect(other.body.code).toBe('jws_signature_invalid')
  })

  it('that can be older than a restore is refused', async () => {
    world.add('machines', yaml())
    const restoredAt = Date.now() - 30_000
    world.restored({ restoredAt, endedAt: restoredAt + 1 })
    try {
      const key = await createKey()
      const { status, body } = await world.enrol({ type: 'x509', jws: await proofBy('build-1', key) }, key)
      expect([status, body.code]).toEqual([401, 'evidence_before_restore'])
    } finally {
      world.restored(null)
    }
  })

  it('a token id is used once, by whichever proof of that key', async () => {
    world.add('machines', yaml())
    const sign = async (key: Awaited<ReturnType<typeof createKey>>) => {
      const hash = await crypto.subtle.digest('SHA-256', new Uint8Array(key.csr))
      const payload = { aud: publicUrl, iat: Math.floor(Date.now() / 1000), jti: 'the-same' }
      const csrHash = Buffer.from(hash).toString('base64url')
      return new CompactSign(Buffer.from(JSON.stringify({ ...payload, csrHash })))
        .setProtectedHeader({
          alg: 'ES256',
          x5c: parsePem(pem('build-1.pem'), 'CERTIFICATE').map(der => Buffer.from(der).toString('base64')),
        })
        .sign(createPrivateKey(pem('build-1.key')))
    }
    const [a, b] = [await createKey(), await createKey()]
    expect((await world.enrol({ type: 'x509', jws: await sign(a) }, a)).status).toBe(201)
    expect((await world.enrol({ type: 'x509', jws: await sign(b) }, b)).body.code).toBe('token_reuse')
  })

  it.each([
    ['for another CA', { audience: 'https://elsewhere.test' }, 'jws_wrong_audience'],
    ['for another endpoint', { audience: `${publicUrl}/v1/renew` }, 'jws_wrong_audience'],
    ['from two minutes ago', { now: Date.now() - 120_000 }, 'jws_not_current'],
    ['by another key than the certificate has', { privateKey: undefined }, 'jws_signature_invalid'],
  ])('a proof %s is refused', async (_what, more, code) => {
    world.add('machines', yaml())
    const key = await createKey()
    const changed = 'privateKey' in more ? { privateKey: createPrivateKey(pem('build-2.key')) } : more
    const { body } = await world.enrol({ type: 'x509', jws: await proofBy('build-1', key, changed) }, key)
    expect(body.code).toBe(code)
  })

  it.each([
    ['no certificate', {}],
    ['x5c that is no list', { x5c: 'MII' }],
    ['x5c in base64url', { x5c: ['-_-_'] }],
    ['a key of its own beside it', { x5c: ['AAAA'], jwk: { kty: 'EC' } }],
    ['jku', { x5c: ['AAAA'], jku: 'https://evil.test' }],
  ])('a header with %s is malformed', async (_what, header) => {
    world.add('machines', yaml())
    const jws = await new CompactSign(Buffer.from(JSON.stringify({ jti: randomUUID() })))
      .setProtectedHeader({ alg: 'ES256', ...(header as object) })
      .sign(createPrivateKey(pem('build-1.key')))
    const { status, body } = await world.enrol({ type: 'x509', jws })
    expect([status, body.code]).toEqual([400, 'jws_malformed'])
  })
})

describe('revocation', () => {
  it('a certificate on the list is no evidence, as soon as the list is there', async () => {
    world.add('machines', yaml(`crlFile: ${file('corporate.crl')}`))
    expect((await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-2') })).status).toBe(201)
    openssl('ca', '-config', 'corporate.cnf', '-revoke', 'build-2.pem')
    openssl('ca', '-config', 'corporate.cnf', '-gencrl', '-out', 'corporate.crl')
    const { body } = await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-2') })
    expect([body.code, body.facts.reason]).toEqual(['evidence_certificate_invalid', 'certificate_revoked'])
    expect((await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-1') })).status).toBe(201)
  })

  it('without a list that can be read nobody is believed, and 503 says to come again', async () => {
    writeFileSync(file('broken.crl'), 'garbage')
    const attestor = world.add('machines', yaml(`crlFile: ${file('broken.crl')}`))
    const { status, body } = await world.enrol({ type: 'x509' }, undefined, { shown: shown('build-1') })
    expect([status, body.code]).toEqual([503, 'attestor_unavailable'])
    expect(attestor.status().state).toBe('down')
  })
})
