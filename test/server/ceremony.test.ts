// Root and issuing ceremonies in real SoftHSM2 tokens: what they make, what they refuse, and what their transcripts say of it.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { code, createRoom, issuingYaml, type Room, rootYaml } from './ceremony-bench.ts'

let room: Room
beforeEach(async () => {
  room = await createRoom()
})
afterEach(() => room[Symbol.dispose]())

const day = 86_400_000
const rootCertificate = async () => (await room.root()).value!
const titles = () => room.lastTranscript().steps.map(step => `${step.title}: ${step.result}`)

describe('the root ceremony', () => {
  test('makes a P-384 root of ten years that OpenSSL and our own rules accept, and writes it once', async () => {
    const certificate = await rootCertificate()
    expect(certificate.spki.algorithm).toBe('P-384')
    expect(certificate.signatureAlgorithm).toBe('ecdsa-with-SHA384')
    expect(certificate.notAfter - certificate.notBefore).toBe(3650 * day - 1000)
    expect(certificate.notBefore).toBeLessThan(room.clock.now())
    expect(certificate.basicConstraints).toEqual({ isCa: true, pathLength: null })
    expect(certificate.keyUsage).toEqual(['keyCertSign', 'cRLSign'])
    expect(certificate.crlDistributionPoints).toBeNull()
    expect(certificate.nameConstraints).toBeNull()
    expect(room.openssl('verify', '-x509_strict', '-CAfile', 'root-1.pem', 'root-1.pem')).toBe('root-1.pem: OK\n')
    expect(room.openssl('x509', '-in', 'root-1.pem', '-noout', '-subject')).toContain(
      'O = Example, CN = Example root 1',
    )
    expect(statSync(room.path('root-1.pem')).mode & 0o777).toBe(0o644)
    await expect(room.root()).rejects.toThrow(code('output_exists'))
  })

  test('its key was made in the token, cannot leave it and can only sign', async () => {
    const certificate = await rootCertificate()
    const keys = await withToken(room.rootToken, async token => token.listKeys())
    expect(keys).toHaveLength(1)
    expect(keys[0]).toMatchObject({
      label: 'root-1',
      curve: 'P-384',
      local: true,
      sensitive: true,
      alwaysSensitive: true,
      extractable: false,
      neverExtractable: true,
      sign: true,
      decrypt: false,
      unwrap: false,
      derive: false,
    })
    const spki = await withToken(room.rootToken, async token => token.findKey('root-1').publicKeySpki.slice())
    expect(toHex(spki)).toBe(toHex(certificate.spkiDer))
    for (const file of ['user.pin', 'so.pin', 'softhsm2.conf'])
      expect(statSync(room.path(`root-ceremony/${file}`)).mode & 0o777).toBe(0o600)
    expect(statSync(room.path('root-ceremony')).mode & 0o777).toBe(0o700)
    expect(readFileSync(room.path('root-ceremony/softhsm2.conf'), 'utf8')).not.toContain('.new')
  })

  test('the transcript has every step, the input’s hash, the token, the key and its attributes, and no PIN; mode 0600', async () => {
    const certificate = await rootCertificate()
    const transcript = room.lastTranscript()
    expect(transcript).toMatchObject({ ceremony: 'root', name: 'root-1', mode: 'perform', outcome: 'done' })
    expect(transcript.input.sha256).toBe(createHash('sha256').update(rootYaml).digest('hex'))
    expect(titles()).toEqual([
      'prepare: done',
      'create the SoftHSM2 token: done',
      'open the token: done',
      'provide the keys: done',
      'sign the certificate: done',
      'check the certificate against the input: done',
      'have OpenSSL verify the certificate: done',
      'write the file: done',
    ])
    const facts = (title: string) => transcript.steps.find(step => step.title === title)!.facts
    expect(facts('open the token')).toMatchObject({
      module: expect.stringMatching(/^\/.*softhsm2\.so$/),
      'module sha256': expect.stringMatching(/^[0-9a-f]{64}$/),
      label: 'agentca-root',
      model: 'SoftHSM v2',
      'keys before': [],
    })
    expect(facts('provide the keys')).toMatchObject({
      'root-1': {
        origin: 'generated',
        algorithm: 'P-384',
        'public key sha256': certificate.spkiHashHex,
        attributes: {
          'CKA_LOCAL is true': expect.stringContaining('holds'),
          'CKA_EXTRACTABLE is false': expect.anything(),
        },
      },
    })
    expect(facts('sign the certificate')).toMatchObject({
      fingerprint: `sha256:${createHash('sha256').update(certificate.der).digest('hex')}`,
      serial: certificate.serialHex,
    })
    const text = room.lastText()
    expect(text).toContain('Outcome: done')
    expect(text).toContain(certificate.serialHex)
    for (const name of ['transcript-1.txt', 'transcript-1.txt.json']) {
      expect(statSync(room.path(name)).mode & 0o777).toBe(0o600)
      for (const pin of ['user.pin', 'so.pin'])
        expect(readFileSync(room.path(name), 'utf8')).not.toContain(
          readFileSync(room.path(`root-ceremony/${pin}`), 'utf8'),
        )
    }
  })

  test('an existing label is never overwritten, and the error names the cure; --keep-keys certifies the key that is there', async () => {
    const first = await rootCertificate()
    const again = rootYaml.replace('name: root-1', 'name: root-1b\nkey: { label: root-1 }')
    await expect(room.root(again)).rejects.toThrow(
      expect.objectContaining({ code: 'key_exists', hint: expect.stringContaining('--keep-keys') }),
    )
    expect(room.lastTranscript()).toMatchObject({ outcome: 'failed' })
    expect(room.lastTranscript().steps.at(-1)).toMatchObject({
      title: 'open the token',
      result: 'failed',
      facts: { code: 'key_exists' },
    })
    expect(room.lastText()).toContain('Outcome: failed')
    const second = (await room.root(again, { keys: 'keep', mode: 'perform' })).value!
    expect(toHex(second.spkiDer)).toBe(toHex(first.spkiDer))
    expect(second.serialHex).not.toBe(first.serialHex)
  })

  test('a key of another curve than the input asks for is refused', async () => {
    await rootCertificate()
    const other = rootYaml.replace('name: root-1', 'name: root-2\nkey: { label: root-1, algorithm: P-256 }')
    await expect(room.root(other, { keys: 'keep', mode: 'perform' })).rejects.toThrow(code('ceremony_refused'))
  })

  test('a dry run makes no token, no key and no file, and says what would be', async () => {
    const { value } = await room.root(rootYaml, { keys: 'new', mode: 'dry-run' })
    expect(value).toBeNull()
    expect(readdirSync(room.directory)).toEqual(['transcript-1.txt', 'transcript-1.txt.json'])
    expect(titles()).toEqual([
      'prepare: done',
      'create the SoftHSM2 token: planned',
      'generate keys: planned',
      'sign the certificate: planned',
    ])
    expect(room.lastText()).toContain('CN=Example root 1,O=Example')
    await rootCertificate()
    const again = rootYaml.replace('name: root-1', 'name: root-1b\nkey: { label: root-1 }')
    await expect(room.root(again, { keys: 'new', mode: 'dry-run' })).rejects.toThrow(code('key_exists'))
  })

  test('a token directory is whole or not there: what a crash left beside it is swept away', async () => {
    mkdirSync(room.path('root-ceremony.new/softhsm/half'), { recursive: true })
    writeFileSync(room.path('root-ceremony.new/user.pin'), 'old')
    await rootCertificate()
    expect(existsSync(room.path('root-ceremony.new'))).toBe(false)
  })
})

describe('the issuing ceremony', () => {
  test('makes a P-256 CA of one year and path length 0 under the root, with its CRL and certificate URLs', async () => {
    const root = await rootCertificate()
    const certificate = (await room.issuing(root)).value!
    expect(certificate.spki.algorithm).toBe('P-256')
    expect(certificate.notAfter - certificate.notBefore).toBe(365 * day - 1000)
    expect(certificate.basicConstraints).toEqual({ isCa: true, pathLength: 0 })
    expect(certificate.extension(oidOf.basicConstraints)?.critical).toBe(true)
    expect(certificate.extension(oidOf.keyUsage)?.critical).toBe(true)
    expect(certificate.authorityKeyIdentifier?.keyId).toEqual(root.subjectKeyIdentifier)
    expect(certificate.crlDistributionPoints?.[0]?.fullName).toEqual([
      { kind: 'uri', value: 'http://ca.example.org/crl/root-1.crl' },
    ])
    expect(certificate.authorityInfoAccess?.caIssuers).toEqual(['http://ca.example.org/aia/root-1.cer'])
    expect(room.openssl('verify', '-x509_strict', '-CAfile', 'root-1.pem', 'issuing-1.pem')).toBe('issuing-1.pem: OK\n')
    const keys = await withToken(room.onlineToken, async token => token.listKeys())
    expect(keys.map(key => [key.label, key.local, key.extractable])).toEqual([['issuing-1', true, false]])
  })

  test('has no status URLs without a status URL, name constraints and a SPIFFE ID only when asked for', async () => {
    const root = await rootCertificate()
    const plain = (await room.issuing(root, issuingYaml.replace(/statusUrl.*/, ''))).value!
    expect(plain.crlDistributionPoints).toBeNull()
    expect(plain.authorityInfoAccess).toBeNull()
    expect(plain.subjectAltName).toBeNull()
    const constrained = (
      await room.issuing(
        root,
        `${issuingYaml.replace('name: issuing-1', 'name: issuing-2')}
nameConstraints: { permitted: { uri: [example.org], dns: [example.org] } }
trustDomain: example.org
alsoGenerate: [ocsp-1, log-1]
`,
      )
    ).value!
    expect(constrained.nameConstraints).toEqual({
      permitted: [
        { kind: 'dns', value: 'example.org' },
        { kind: 'uri', value: 'example.org' },
      ],
      excluded: [],
    })
    expect(constrained.extension(oidOf.nameConstraints)?.critical).toBe(true)
    expect(constrained.spiffeId).toBe('spiffe://example.org')
    const keys = await withToken(room.onlineToken, async token => token.listKeys())
    expect(keys.map(key => key.label).toSorted()).toEqual(['issuing-1', 'issuing-2', 'log-1', 'ocsp-1'])
  })

  test('is refused before any key exists when it would outlive its root or go deeper than the root allows', async () => {
    const shallow = (await room.root(`${rootYaml}\nlifetime: 30d\npathLength: 0`)).value!
    await expect(room.issuing(shallow)).rejects.toThrow(/outlive the root.*no CA below it/)
    expect(existsSync(room.path('tokens'))).toBe(false)
    expect(room.lastTranscript().steps.at(-1)).toMatchObject({ title: 'prepare', result: 'failed' })
  })

  test('is refused before any key exists when the root’s key is not the one of its certificate', async () => {
    await rootCertificate()
    const other = (await room.root(rootYaml.replaceAll('root-1', 'root-2'))).value!
    await expect(room.issuing(other)).rejects.toThrow(code('ceremony_refused'))
    await expect(room.issuing(other, issuingYaml.replace('root-1', 'root-9'))).rejects.toThrow(code('key_not_found'))
    expect(existsSync(room.path('tokens'))).toBe(false)
  })

  test('is refused under an expired root', async () => {
    const root = (await room.root(`${rootYaml}\nlifetime: 30d`)).value!
    room.clock.at += 31 * day
    await expect(room.issuing(root)).rejects.toThrow(/valid now/)
  })

  test('a certificate that would have ended already is refused before there is a token', async () => {
    await expect(room.root(`${rootYaml}\nnotBefore: 2020-01-01T00:00:00Z\nlifetime: 365d`)).rejects.toThrow(
      code('ceremony_refused'),
    )
    expect(existsSync(room.path('root-ceremony'))).toBe(false)
  })

  test('a dry run opens both tokens and generates nothing', async () => {
    const root = await rootCertificate()
    expect((await room.issuing(root, issuingYaml, { keys: 'new', mode: 'dry-run' })).value).toBeNull()
    expect(titles()).toEqual([
      'check the root’s certificate: done',
      'prepare: done',
      'open the token of root-1 and find the key: done',
      'create the SoftHSM2 token: planned',
      'generate keys: planned',
      'sign the certificate: planned',
    ])
    expect(existsSync(room.path('tokens'))).toBe(false)
  })
})
