// An issuing CA under another organisation's root: the request goes out, OpenSSL plays that organisation, and what it sends back is
// taken only when it is what the input asks for and its key is the one in our token.
import { existsSync, readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { code, createRoom, issuingYaml, type Room } from './ceremony-bench.ts'

let room: Room
beforeEach(async () => {
  room = await createRoom()
  room.openssl(
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'corporate.key', '-out', 'corporate.pem'],
    ...['-subj', '/O=Corporate/CN=Corporate root', '-days', '3650', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  )
})
afterEach(() => room[Symbol.dispose]())

/** The corporate CA stamps with the machine's clock, in whole seconds; the ceremony comes after it. */
const read = (name: string): Certificate => {
  room.clock.at = Date.now()
  return parseCertificate(parseOnePem(readFileSync(room.path(name), 'utf8'), 'CERTIFICATE'))
}

const good = `
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`

/** What the corporate CA does with the request. */
const certify = (extensions = good, days = '365', csr = 'issuing-1.csr'): Certificate => {
  room.file('extensions', extensions)
  room.openssl(
    ...['x509', '-req', '-in', csr, '-CA', 'corporate.pem', '-CAkey', 'corporate.key', '-days', days],
    ...['-extfile', 'extensions', '-out', 'received.pem'],
  )
  return read('received.pem')
}

describe('the request', () => {
  test('is a PKCS#10 request for the key in the token, under the subject of the input', async () => {
    const csr = (await room.request()).value!
    expect(room.openssl('req', '-in', 'issuing-1.csr', '-noout', '-verify', '-subject')).toContain(
      'O = Example, CN = Example issuing 1',
    )
    const spki = await withToken(room.onlineToken, async token => token.findKey('issuing-1').publicKeySpki.slice())
    expect(toHex(csr.spki.der)).toBe(toHex(spki))
    expect(room.lastTranscript()).toMatchObject({ ceremony: 'issuing', outcome: 'done' })
    expect(existsSync(room.path('issuing-1.pem'))).toBe(false)
  })
})

describe('the certificate that comes back', () => {
  test('is taken when it is what the input asks for; further keys of the input are made then', async () => {
    await room.request()
    const certificate = certify()
    const accepted = await room.accept(read('corporate.pem'), certificate, `${issuingYaml}\nalsoGenerate: [ocsp-1]`)
    expect(toHex(accepted.value!.der)).toBe(toHex(certificate.der))
    expect(toHex(read('issuing-1.pem').der)).toBe(toHex(certificate.der))
    const keys = await withToken(room.onlineToken, async token => token.listKeys().map(key => key.label))
    expect(keys.toSorted()).toEqual(['issuing-1', 'ocsp-1'])
  })

  const wrong: readonly (readonly [string, string, RegExp])[] = [
    ['is no CA', good.replace('CA:TRUE,pathlen:0', 'CA:FALSE'), /expected cA true/],
    ['has another path length', good.replace('pathlen:0', 'pathlen:2'), /path length.*expected 0, got 2/],
    ['has no path length', good.replace(',pathlen:0', ''), /path length/],
    ['may not sign CRLs', good.replace(',cRLSign', ''), /keyCertSign and cRLSign/],
    ['has a key usage that is not critical', good.replace('critical,keyCert', 'keyCert'), /key usage.*critical/],
    ['limits the leaves to e-mail', `${good}extendedKeyUsage = emailProtection`, /clientAuth and serverAuth/],
    [
      'has name constraints nobody asked for',
      `${good}nameConstraints = critical,permitted;DNS:corp`,
      /name constraints/,
    ],
    ['has a critical extension unknown here', `${good}1.2.3.4 = critical,DER:0500`, /critical extensions.*1\.2\.3\.4/],
  ]
  test.each(wrong)('is refused when it %s', async (_, extensions, fault) => {
    await room.request()
    await expect(room.accept(read('corporate.pem'), certify(extensions))).rejects.toThrow(fault)
    expect(existsSync(room.path('issuing-1.pem'))).toBe(false)
    expect(room.lastTranscript().steps.at(-1)).toMatchObject({
      title: 'check the certificate against the input',
      result: 'failed',
    })
  })

  test('is refused when it lives longer than the input asks for', async () => {
    await room.request()
    await expect(room.accept(read('corporate.pem'), certify(good, '700'))).rejects.toThrow(/longer than the input/)
  })

  test('is refused when it is for another key', async () => {
    await room.request()
    room.openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'other.key'],
      ...['-out', 'other.csr', '-subj', '/CN=Example issuing 1'],
    )
    await expect(room.accept(read('corporate.pem'), certify(good, '365', 'other.csr'))).rejects.toThrow(/another key/)
  })

  test('is refused when another root than the given one signed it, though it has the same name', async () => {
    await room.request()
    const certificate = certify()
    room.openssl(
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'twin.key', '-out', 'twin.pem'],
      ...['-subj', '/O=Corporate/CN=Corporate root', '-days', '3650'],
    )
    await expect(room.accept(read('twin.pem'), certificate)).rejects.toThrow(/signature verifies/)
  })

  test('is refused while the token has no such key: accepting never generates it', async () => {
    await room.request()
    const certificate = certify()
    await expect(
      room.accept(read('corporate.pem'), certificate, issuingYaml.replace('name: issuing-1', 'name: issuing-7')),
    ).rejects.toThrow(code('key_not_found'))
    const keys = await withToken(room.onlineToken, async token => token.listKeys().map(key => key.label))
    expect(keys).toEqual(['issuing-1'])
  })
})
