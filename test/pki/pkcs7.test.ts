// What EST's answers consist of, as OpenSSL and node-forge read it.
import { execFileSync } from 'node:child_process'
import forge from 'node-forge'
import { expect, it } from 'vitest'
import { encodeCsrAttributes } from '../../src/pki/csr-attributes.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import { encodeCertsOnly } from '../../src/pki/pkcs7.ts'
import { codeOf } from './refusal.ts'

// node-forge reads certificates of RSA keys only.
const certificate = (name: string): Uint8Array => {
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', '/dev/null', '-subj', `/CN=${name}`]
  return parseOnePem(
    execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    'CERTIFICATE',
  )
}

const asn1 = (der: Uint8Array): string =>
  execFileSync('openssl', ['asn1parse', '-inform', 'DER'], { input: der, encoding: 'utf8' })

it('certs-only has the certificates, no signer and no content (RFC 8551 §3.2.2)', () => {
  const certificates = [certificate('b'), certificate('a')]
  const der = encodeCertsOnly(certificates)
  const message = forge.pkcs7.messageFromAsn1(forge.asn1.fromDer(Buffer.from(der).toString('latin1')))
  const read = (message as forge.pkcs7.PkcsSignedData).certificates
  expect(read.map(each => each.subject.getField('CN').value).toSorted()).toEqual(['a', 'b'])
  const printed = execFileSync('openssl', ['pkcs7', '-inform', 'DER', '-print_certs', '-noout'], { input: der })
  expect(printed.toString().match(/subject=/g)?.length).toBe(2)
  // DER: a set is in order, whatever came first.
  expect(encodeCertsOnly(certificates.toReversed())).toEqual(der)
})

it('certs-only of nothing is refused', () => {
  expect(codeOf(() => encodeCertsOnly([]))).toBe('not_encodable')
})

it.each([
  ['P-256', ['id-ecPublicKey', 'prime256v1', 'ecdsa-with-SHA256']],
  ['P-384', ['id-ecPublicKey', 'secp384r1', 'ecdsa-with-SHA384']],
  ['Ed25519', ['ED25519']],
  ['RSA', ['rsaEncryption', 'sha256WithRSAEncryption']],
] as const)('CSR attributes for %s name key and signature (RFC 7030 §4.5.2)', (algorithm, names) => {
  const text = asn1(encodeCsrAttributes(algorithm))
  expect([...text.matchAll(/OBJECT +:(\S+)/g)].map(match => match[1])).toEqual(names)
  if (algorithm === 'RSA') expect(text).toMatch(/INTEGER +:0C00/)
})
