// What pki builds is what the signer accepts: the two read and write the same profiles, written independently.
import { createHash, generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { encodeTbsCertList } from '../../src/pki/crl.ts'
import { integer, nullValue, octetString, oid, sequence } from '../../src/pki/der.ts'
import { createLeafTemplate } from '../../src/pki/leaf-template.ts'
import { commonNameFor, encodeName } from '../../src/pki/names.ts'
import { encodeTbsResponseData } from '../../src/pki/ocsp.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodeSerial } from '../../src/pki/serial.ts'
import { agentSpiffeId, parseTrustDomain } from '../../src/pki/spiffe.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo, spkiHashHex } from '../../src/pki/spki.ts'
import { defaultCeilings } from '../../src/signer/config.ts'
import { createHighWater } from '../../src/signer/high-water.ts'
import type { SignPurpose } from '../../src/signer/port.ts'
import { checkPurpose } from '../../src/signer/purpose-checks.ts'
import type { PurposeKey } from '../../src/signer/refusal.ts'

const newSpki = () =>
  Uint8Array.from(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' }))
const keyId = (spki: Uint8Array) => keyIdentifier(parseSubjectPublicKeyInfo(spki))
const directory = mkdtempSync(join(tmpdir(), 'agentca-fit-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const now = Date.UTC(2026, 5, 1, 12)
const issuerDer = encodeName([
  ['O', 'Example'],
  ['CN', 'issuing 1'],
])
const [issuerSpki, responderSpki] = [newSpki(), newSpki()]
const key = (label: string, spki: Uint8Array, purposes: readonly SignPurpose[]): PurposeKey => ({
  label,
  curve: 'P-256',
  spki,
  spkiSha256Hex: spkiHashHex(spki),
  purposes,
  issuer:
    label === 'issuing' ? { subjectDer: issuerDer, keyIdentifier: keyId(issuerSpki), notAfter: now + 1e11 } : undefined,
  ceilings: defaultCeilings,
})
const issuing = key('issuing', issuerSpki, ['leaf', 'crl', 'ocsp-responder'])
const responder = key('ocsp', responderSpki, ['ocsp-response'])
const trustDomain = parseTrustDomain('example.org')
const check = (which: PurposeKey, purpose: SignPurpose, tbs: Uint8Array) =>
  checkPurpose(
    { trustDomain, highWater: createHighWater(directory), keys: () => [issuing, responder], now: () => now },
    which,
    { purpose, tbs },
  )()

const serial = encodeSerial({ prefix: 1, nowMs: now, random10: new Uint8Array(10).fill(0xff) })
const shared = {
  issuerDer,
  signatureAlgorithm: 'ecdsa-with-SHA256',
  authorityKeyId: keyId(issuerSpki),
  keyUsage: ['digitalSignature'],
} as const

test('a leaf from the template', () => {
  const template = createLeafTemplate({
    ...shared,
    extendedKeyUsage: [oidOf.clientAuth, oidOf.serverAuth],
    crlDistributionPoint: 'http://127.0.0.1:8081/crl/issuing-1.crl',
    authorityInfoAccess: {
      ocsp: ['http://127.0.0.1:8081/ocsp'],
      caIssuers: ['http://127.0.0.1:8081/aia/issuing-1.cer'],
    },
    noRevAvail: 'present',
  })
  const tbs = template.encode({
    serial,
    notBefore: now - 60_000,
    notAfter: now + 3_600_000,
    subjectCn: commonNameFor('agent', 'worker'),
    spkiDer: newSpki(),
    spiffeId: agentSpiffeId(trustDomain, 'worker', 'i1'),
    dnsNames: ['worker.example.org'],
    scopesVersion: 3,
  })
  expect(() => check(issuing, 'leaf', tbs)).not.toThrow()
})

test('an OCSP responder certificate from the template', () => {
  const template = createLeafTemplate({ ...shared, extendedKeyUsage: [oidOf.ocspSigning], ocspNoCheck: 'present' })
  const tbs = template.encode({
    serial,
    notBefore: now - 60_000,
    notAfter: now + 30 * 86_400_000,
    subjectCn: 'agentca OCSP',
    spkiDer: responderSpki,
  })
  expect(() => check(issuing, 'ocsp-responder', tbs)).not.toThrow()
})

test('CRLs: empty, filled, sharded', () => {
  const fields = {
    issuerName: issuerDer,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    authorityKeyId: keyId(issuerSpki),
    thisUpdate: now,
    nextUpdate: now + 86_400_000,
  } as const
  const entries = [{ serial, revokedAt: now, reason: 'keyCompromise' }] as const
  expect(() => check(issuing, 'crl', encodeTbsCertList({ ...fields, crlNumber: 1n, entries: [] }))).not.toThrow()
  expect(() => check(issuing, 'crl', encodeTbsCertList({ ...fields, crlNumber: BigInt(now), entries }))).not.toThrow()
  const shard = { uris: ['http://127.0.0.1:8081/crl/issuing-1/0.crl'], onlyContains: 'user-certificates' } as const
  expect(() =>
    check(issuing, 'crl', encodeTbsCertList({ ...fields, crlNumber: 1n, distributionPoint: shard, entries })),
  ).not.toThrow()
})

test('OCSP answers: good, revoked and unknown in one response, with a nonce', () => {
  const hash = createHash('sha1').update('x').digest()
  const certIdDer = sequence(
    sequence(oid(oidOf.sha1), nullValue()),
    octetString(hash),
    octetString(hash),
    integer(serial),
  )
  const answer = (status: 'good' | 'unknown' | { revokedAt: number; reason: 'superseded' }) => ({
    certIdDer,
    status,
    thisUpdate: now,
    nextUpdate: now + 3_600_000,
  })
  const tbs = encodeTbsResponseData({
    responderId: { byKey: keyId(responderSpki) },
    producedAt: now,
    responses: [answer('good'), answer('unknown'), answer({ revokedAt: now, reason: 'superseded' })],
    nonce: new Uint8Array(16),
  })
  expect(() => check(responder, 'ocsp-response', tbs)).not.toThrow()
})
