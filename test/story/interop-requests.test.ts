// Requests made by other people's code, sent as anyone without ours would send them: each enrols, whatever name it asks for.
import '../../src/pki/reflect-metadata.ts'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, sign, webcrypto } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as peculiar from '@peculiar/x509'
import forge from 'node-forge'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { createCsr } from '../../src/pki/csr.ts'
import { commonNameOf } from '../../src/pki/names.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { mustRun, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

const hasCryptography = (() => {
  try {
    execFileSync('python3', ['-c', 'import cryptography'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

let ca: ServedCa
beforeAll(async () => {
  ca = await startServedCa()
  writeFileSync(join(ca.directory, 'bundle.pem'), (await ca.agentca('bundle', 'show')).out)
}, 180_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const program = (name: string, ...args: readonly string[]): Promise<string> =>
  mustRun(name, args, { cwd: ca.directory })

/** As anyone without our code would: curl, and the token from its file. @returns the answer's status and body */
const enrolWith = async (csrPem: string, agent: string) => {
  const token = readFileSync(await ca.agentToken(agent), 'utf8').trim()
  const body = join(ca.directory, `${agent}.json`)
  writeFileSync(body, JSON.stringify({ csr: csrPem, evidence: { type: 'token', token } }), { mode: 0o600 })
  const { out } = await runProgram(
    'curl',
    [
      ...['--silent', '--show-error', '--cacert', 'bundle.pem', '--header', 'content-type: application/json'],
      ...['--data', `@${body}`, '--write-out', '\n%{http_code}', `${ca.urls.api}/v1/enroll`],
    ],
    { cwd: ca.directory },
  )
  const [text = '', status] = out.split('\n')
  return { status: Number(status), body: JSON.parse(text) as Readonly<Record<string, unknown>> }
}

const leafOf = (answer: { readonly body: Readonly<Record<string, unknown>> }): Uint8Array =>
  parsePem(String(answer.body.certificate), 'CERTIFICATE')[0]!

/** Requests, each from another maker, PEM. */
const makers: Readonly<Record<string, { readonly csr: () => Promise<string>; readonly skip?: boolean }>> = {
  'openssl, P-256': {
    csr: () =>
      program(
        'openssl',
        ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
        ...['-keyout', 'openssl.key', '-subj', '/CN=whatever'],
      ),
  },
  'openssl, Ed25519': {
    csr: () => program('openssl', 'req', '-new', '-newkey', 'ed25519', '-nodes', '-keyout', 'ed.key', '-subj', '/'),
  },
  'GnuTLS certtool, P-384': {
    csr: async () => {
      writeFileSync(join(ca.directory, 'template'), 'cn = "whatever"\n')
      await program('certtool', '--generate-privkey', '--key-type', 'ecdsa', '--curve', 'secp384r1', '--outfile', 'g')
      await program(
        'certtool',
        ...'--generate-request --no-text --load-privkey g --template template --outfile g.csr'.split(' '),
      )
      return readFileSync(join(ca.directory, 'g.csr'), 'utf8')
    },
  },
  'Python’s cryptography': {
    skip: !hasCryptography,
    csr: () => program('python3', '-c', pythonRequest),
  },
  'node:crypto': {
    csr: async () => {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const spkiDer = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
      const der = await createCsr({ spkiDer, sign: async data => new Uint8Array(sign('sha256', data, privateKey)) })
      return encodePem('CERTIFICATE REQUEST', der)
    },
  },
  '@peculiar/x509 over WebCrypto': {
    csr: async () => {
      const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
      const keys = await webcrypto.subtle.generateKey(algorithm, false, ['sign', 'verify'])
      const request = await peculiar.Pkcs10CertificateRequestGenerator.create(
        { name: 'CN=whatever', keys, signingAlgorithm: algorithm },
        webcrypto,
      )
      return request.toString('pem')
    },
  },
  'node-forge, RSA': { csr: async () => forgeRequest() },
}

const pythonRequest = `
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'whatever')])
request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
print(request.public_bytes(serialization.Encoding.PEM).decode(), end='')
`

/** Forge signs in JavaScript; the primes come from elsewhere, because its own take seconds. */
const forgeRequest = (): string => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  const request = forge.pki.createCertificationRequest()
  request.publicKey = forge.pki.publicKeyFromPem(publicKey)
  request.setSubject([{ name: 'commonName', value: 'whatever' }])
  request.sign(forge.pki.privateKeyFromPem(privateKey), forge.md.sha256.create())
  return forge.pki.certificationRequestToPem(request)
}

describe('a request made by', () => {
  for (const [at, [name, { csr, skip = false }]] of Object.entries(makers).entries())
    it.skipIf(skip)(`${name} enrols`, async () => {
      const answer = await enrolWith(await csr(), `maker-${at}`)
      expect([answer.status, answer.body.agent]).toEqual([201, `maker-${at}`])
      writeFileSync(join(ca.directory, 'leaf.pem'), String(answer.body.certificate))
      writeFileSync(join(ca.directory, 'chain.pem'), String(answer.body.chain))
      const verify = ['verify', '-x509_strict', '-CAfile', 'bundle.pem', '-untrusted', 'chain.pem', 'leaf.pem']
      expect(await program('openssl', ...verify)).toBe('leaf.pem: OK\n')
      expect(commonNameOf(parseCertificate(leafOf(answer)).subject)).toBe(`agent-maker-${at}`)
    })
})
