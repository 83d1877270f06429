// Certification requests that no CA may take, made by OpenSSL where it makes them and by hand where it refuses to: each with the status
// and code that it has to be answered with.
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { signatureAlgorithms } from '../../src/pki/algorithms.ts'
import { bitString, implicitConstructed, integer, nullValue, oid, sequence } from '../../src/pki/der.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { createKey } from './harness.ts'

export interface BadRequest {
  /** Completes "a request that is …" */
  readonly is: string
  /** What goes into a body: PEM, base64 of the DER, or neither. */
  readonly text: () => string
  readonly answer: readonly [status: number, code: string]
  /** `text`: it cannot be decoded at all, and is refused before anybody looks at the evidence. */
  readonly refusedAs: 'text' | 'request'
}

export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')

/** A request made by `openssl req`, with its options and an optional configuration section of extensions. */
const opensslCsr = (options: readonly string[], extensions = ''): string => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-csr-'))
  try {
    const config = join(directory, 'req.cnf')
    const ask = extensions === '' ? '' : 'req_extensions = ext\n'
    writeFileSync(config, `[req]\ndistinguished_name = dn\nprompt = no\n${ask}[dn]\nCN = x\n[ext]\n${extensions}\n`)
    const args = ['req', '-new', '-nodes', '-config', config, '-keyout', join(directory, 'key'), ...options]
    execFileSync('openssl', [...args, '-out', join(directory, 'csr')], { stdio: 'ignore' })
    return readFileSync(join(directory, 'csr'), 'utf8')
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const p256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
const curve = (name: string) => ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${name}`]

/** An RSA key that OpenSSL would not make: the modulus of a good one, the exponent 1, under which anybody can sign. */
const exponentOne = (): Uint8Array => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n as string, 'base64url')
  const rsaKey = sequence(integer(new Uint8Array([0, ...modulus])), integer(1))
  return requestOver(sequence(sequence(oid(oidOf.rsaEncryption), nullValue()), bitString(rsaKey)), privateKey)
}

const requestOver = (spkiDer: Uint8Array, privateKey: KeyObject): Uint8Array => {
  const info = sequence(integer(0), sequence(), spkiDer, implicitConstructed(0))
  const { der } = signatureAlgorithms.sha256WithRSAEncryption
  return sequence(info, der, bitString(new Uint8Array(sign('sha256', info, privateKey))))
}

const changed = (bytes: Uint8Array, at: number): Uint8Array => {
  const copy = bytes.slice()
  copy[at]! ^= 1
  return copy
}

/** The request's outer length in one octet more than it needs (X.690 §10.1). */
const nonMinimal = (der: Uint8Array): Uint8Array => {
  if (der[1] !== 0x82) throw new Error('expected a length in two octets')
  return new Uint8Array([0x30, 0x83, 0x00, ...der.subarray(2)])
}

const asText = (is: string, text: string, answer: BadRequest['answer']): BadRequest => ({
  is,
  text: () => text,
  answer,
  refusedAs: 'text',
})
const asRequest = (is: string, text: () => string, answer: BadRequest['answer']): BadRequest => ({
  is,
  text,
  answer,
  refusedAs: 'request',
})

// With its length in two octets, which nonMinimal makes three.
const { csr: good, publicKey } = await createKey([{ kind: 'dns', value: `${'x'.repeat(60)}.example` }])
/** Where the last octet of the public point lies: y is not on the curve with any other value there. */
const endOfPoint = ((): number => {
  const point = Buffer.from(publicKey.export({ type: 'spki', format: 'der' })).subarray(-64)
  return Buffer.from(good).indexOf(point) + 63
})()

export const badRequests: readonly BadRequest[] = [
  asText('garbage', 'garbage!', [400, 'csr_malformed']),
  asText('PEM without an end', '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n', [400, 'pem_malformed']),
  asText('a certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', [400, 'pem_wrong_label']),
  asText('a private key', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n', [400, 'pem_private_key']),
  asText('of 9 KiB', base64(new Uint8Array(9216)), [413, 'csr_too_large']),
  asRequest('garbage in base64', () => base64(Buffer.from('garbage')), [400, 'csr_malformed']),
  asRequest('truncated', () => base64(good.subarray(0, -1)), [400, 'csr_malformed']),
  asRequest('with trailing bytes', () => base64(new Uint8Array([...good, 0])), [400, 'csr_malformed']),
  asRequest('with a length that is not minimal', () => base64(nonMinimal(good)), [400, 'csr_malformed']),
  asRequest('of P-224', () => opensslCsr(curve('secp224r1')), [422, 'key_not_allowed']),
  asRequest('of secp256k1', () => opensslCsr(curve('secp256k1')), [422, 'key_not_allowed']),
  asRequest('of RSA 1024', () => opensslCsr(['-newkey', 'rsa:1024']), [422, 'key_not_allowed']),
  asRequest('of RSA with exponent 1', () => base64(exponentOne()), [422, 'key_not_allowed']),
  asRequest('with a point off its curve', () => base64(changed(good, endOfPoint)), [422, 'key_not_allowed']),
  asRequest('signed by another key', () => base64(changed(good, good.length - 1)), [422, 'csr_signature_invalid']),
  asRequest('asking for CA:TRUE', () => opensslCsr(p256, 'basicConstraints = critical,CA:TRUE'), [
    422,
    'csr_requests_ca',
  ]),
  asRequest(
    'asking for the name of another agent',
    () => opensslCsr(p256, 'subjectAltName = URI:spiffe://example.org/agent/other/i/1'),
    [403, 'name_not_granted'],
  ),
]
