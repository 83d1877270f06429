// PKCS#12 as others read it: OpenSSL takes it apart, node-forge derives the MAC's key by its own hand.
import { execFileSync } from 'node:child_process'
import { createHmac, generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import forge from 'node-forge'
import { afterAll, describe, expect, it } from 'vitest'
import { DerReader } from '../../src/pki/der.ts'
import { encodePem, parseOnePem } from '../../src/pki/pem.ts'
import { encodeKeyStore, encodeTrustStore } from '../../src/pki/pkcs12.ts'
import { codeOf } from './refusal.ts'

const directory = mkdtempSync(join(tmpdir(), 'agentca-pkcs12-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const openssl = (args: readonly string[]): string =>
  execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

const password = 'correct horse battery'
const protection = { password, iterations: 5000, random: (length: number) => new Uint8Array(randomBytes(length)) }

const selfSigned = (name: string): Uint8Array => {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`]
  return parseOnePem(openssl(['req', '-x509', ...key, '-subj', `/CN=${name}`]), 'CERTIFICATE')
}
const [leaf, issuer] = [selfSigned('leaf'), selfSigned('issuer')]
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const pkcs8 = new Uint8Array(privateKey.export({ type: 'pkcs8', format: 'der' }))

const read = (bytes: Uint8Array, ...args: readonly string[]): string => {
  writeFileSync(join(directory, 'store.p12'), bytes)
  writeFileSync(join(directory, 'password'), password)
  return openssl(['pkcs12', '-in', 'store.p12', '-passin', 'file:password', ...args])
}

describe('a key store', () => {
  const store = encodeKeyStore({ privateKey: pkcs8, certificates: [leaf, issuer], name: 'agent-invoices' }, protection)

  it('gives OpenSSL the key and its certificates, under PBES2 with AES-256 and a MAC of SHA-256', () => {
    const text = read(store, '-nodes')
    expect(text).toContain(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string)
    for (const certificate of [leaf, issuer]) expect(text).toContain(encodePem('CERTIFICATE', certificate))
    const said = execFileSync(
      '/bin/sh',
      ['-c', 'openssl pkcs12 -info -noout -in store.p12 -passin file:password 2>&1'],
      { cwd: directory, encoding: 'utf8' },
    )
    expect(said).toContain('MAC: sha256, Iteration 5000')
    expect(said).toMatch(/Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 5000, PRF hmacWithSHA256/)
    expect(said).toMatch(/Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 5000, PRF hmacWithSHA256/)
  })

  it('ties the key to the leaf alone, and names both', () => {
    const text = read(store, '-nodes')
    const bags = text.split('Bag Attributes').slice(1)
    const named = bags.filter(bag => bag.includes('localKeyID'))
    expect(named.length).toBe(2)
    expect(named.some(bag => bag.includes('BEGIN PRIVATE KEY'))).toBe(true)
    expect(named.some(bag => bag.includes('CN = leaf'))).toBe(true)
    expect(text.match(/friendlyName: agent-invoices$/gm)?.length).toBe(2)
  })

  it('has the MAC that node-forge computes (RFC 7292 appendix B)', () => {
    const fields = new DerReader(store).readSequence()
    fields.readTlv()
    const safe = fields.readSequence()
    safe.readOid()
    const content = new DerReader(safe.readTlv(0xa0).content).readTlv(0x04).content
    const mac = fields.readSequence()
    const info = mac.readSequence()
    info.readTlv()
    const digest = info.readTlv(0x04).content
    const salt = forge.util.createBuffer(Buffer.from(mac.readTlv(0x04).content).toString('latin1'))
    // Its types know no hash but SHA-1.
    const derive = forge.pkcs12.generateKey as unknown as (...args: unknown[]) => forge.util.ByteStringBuffer
    const key = derive(password, salt, 3, 5000, 32, forge.md.sha256.create())
    const expected = createHmac('sha256', Buffer.from(key.getBytes(), 'latin1')).update(content).digest('hex')
    expect(Buffer.from(digest).toString('hex')).toBe(expected)
  })

  it('is refused under another password', () => {
    writeFileSync(join(directory, 'other'), 'another password')
    read(store, '-noout')
    expect(() => openssl(['pkcs12', '-in', 'store.p12', '-noout', '-passin', 'file:other'])).toThrow(/mac verify/i)
  })

  it('draws a new salt for each key that is derived', () => {
    const lengths: number[] = []
    const random = (length: number) => {
      lengths.push(length)
      return new Uint8Array(randomBytes(length))
    }
    encodeKeyStore({ privateKey: pkcs8, certificates: [leaf], name: 'a' }, { ...protection, random })
    expect(lengths).toEqual([16, 16, 16, 16, 16])
  })
})

describe('a trust store', () => {
  it('has the anchors, each with its name and the attribute by which Java trusts it', () => {
    const anchors = [
      { certificate: leaf, name: 'one' },
      { certificate: issuer, name: 'two' },
    ]
    const text = read(encodeTrustStore(anchors, protection), '-nokeys')
    for (const { certificate, name } of anchors) {
      expect(text).toContain(encodePem('CERTIFICATE', certificate))
      expect(text).toContain(`friendlyName: ${name}`)
    }
    expect(text.match(/^ *2\.16\.840\.1\.113894\.746875\.1\.1: /gm)?.length).toBe(2)
  })
})

it('what cannot be written so that all read it is refused', () => {
  const anchors = [{ certificate: leaf, name: 'x' }]
  for (const bad of ['', 'pässword', 'tab\tinside'])
    expect(codeOf(() => encodeTrustStore(anchors, { ...protection, password: bad }))).toBe('not_encodable')
  expect(codeOf(() => encodeTrustStore([], protection))).toBe('not_encodable')
  const empty = { privateKey: pkcs8, certificates: [], name: 'x' }
  expect(codeOf(() => encodeKeyStore(empty, protection))).toBe('not_encodable')
})
