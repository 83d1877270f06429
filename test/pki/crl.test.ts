// The polyfill has to be there before @peculiar/x509 is loaded.
import '../../src/pki/reflect-metadata.ts'
import * as x509 from '@peculiar/x509'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../src/base/bytes.ts'
import type { KeyAlgorithm } from '../../src/pki/algorithms.ts'
import {
  assembleCrl,
  assembleCrlParts,
  type CrlFields,
  compareSerials,
  concatInSlices,
  createTbsCertListWriter,
  encodeRevokedEntry,
  encodeTbsCertList,
  parseCrl,
  type RevocationReason,
  type RevokedEntry,
  revocationReasons,
} from '../../src/pki/crl.ts'
import { encodeName } from '../../src/pki/names.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { checkSignature } from '../../src/pki/signature.ts'
import { certificateFile, createParty } from './crl-authority.ts'
import { createBench } from './openssl.ts'
import { codeOf } from './refusal.ts'

const ca = createParty({ name: 'crl test' })

const fields: CrlFields = {
  issuerName: ca.certificate.subjectDer,
  signatureAlgorithm: ca.algorithm,
  authorityKeyId: ca.keyId,
  crlNumber: 0x0199_aabb_ccddn,
  thisUpdate: Date.UTC(2026, 0, 2, 3, 4, 5),
  nextUpdate: Date.UTC(2026, 0, 9, 3, 4, 5),
}

const bytes = (hex: string): Uint8Array => fromHex(hex)!
const signed = (tbs: Uint8Array, party = ca): Uint8Array => assembleCrl(tbs, party.algorithm, party.sign(tbs))

const entries: readonly RevokedEntry[] = [
  { serial: bytes('7fee'), revokedAt: Date.UTC(2026, 0, 1, 1, 2, 3), reason: 'keyCompromise' },
  { serial: bytes('01'), revokedAt: Date.UTC(2025, 11, 31, 23, 59, 59) },
  { serial: bytes('00ff'), revokedAt: Date.UTC(2051, 0, 1), reason: 'certificateHold' },
  { serial: bytes('0203040506070809'), revokedAt: Date.UTC(2026, 0, 2), reason: 'unspecified' },
]

describe('writing', () => {
  test.each<KeyAlgorithm>(['P-256', 'P-384', 'Ed25519', 'RSA'])(
    'openssl verifies a list signed with %s and reads the same fields (RFC 5280 §5)',
    keyAlgorithm => {
      using bench = createBench()
      const party = createParty({ name: 'judged', keyAlgorithm })
      const tbs = encodeTbsCertList({
        ...fields,
        issuerName: party.certificate.subjectDer,
        signatureAlgorithm: party.algorithm,
        authorityKeyId: party.keyId,
        entries,
      })
      const crlFile = bench.file('list.crl', signed(tbs, party))
      const caFile = certificateFile(bench, 'ca.pem', party)
      const judged = bench.try(
        'crl',
        '-inform',
        'DER',
        '-in',
        crlFile,
        '-CAfile',
        caFile,
        '-verify',
        '-text',
        '-crlnumber',
        '-noout',
      )
      const text = judged.output
      expect(judged.status).toBe(0)
      expect(text).toContain('verify OK')
      expect(text).toContain('Version 2 (0x1)')
      expect(text).toContain('Last Update: Jan  2 03:04:05 2026 GMT')
      expect(text).toContain('Next Update: Jan  9 03:04:05 2026 GMT')
      expect(text).toMatch(/crlNumber=(0x)?0?199AABBCCDD$/im)
      const listed = [...text.matchAll(/Serial Number: ([0-9A-F]+)\s+Revocation Date: (.+ GMT)/g)]
      expect(listed.map(match => [match[1], match[2]])).toEqual([
        ['01', 'Dec 31 23:59:59 2025 GMT'],
        ['FF', 'Jan  1 00:00:00 2051 GMT'],
        ['7FEE', 'Jan  1 01:02:03 2026 GMT'],
        ['0203040506070809', 'Jan  2 00:00:00 2026 GMT'],
      ])
      expect(text.match(/X509v3 CRL Reason Code/g)).toHaveLength(2)
      expect(text).toContain('Key Compromise')
      expect(text).toContain('Certificate Hold')
    },
  )

  test('an issuing distribution point is critical and openssl reads it (RFC 5280 §5.2.5)', () => {
    using bench = createBench()
    const uri = 'http://status.example.org/crl/issuing-1/7.crl'
    const tbs = encodeTbsCertList({
      ...fields,
      distributionPoint: { uris: [uri], onlyContains: 'user-certificates' },
      entries,
    })
    const text = bench.openssl('crl', '-inform', 'DER', '-in', bench.file('s.crl', signed(tbs)), '-text', '-noout')
    expect(text).toMatch(/X509v3 Issuing Distribution Point: critical/i)
    expect(text).toContain(`URI:${uri}`)
    expect(text).toContain('Only User Certificates')
    const parsed = parseCrl(signed(tbs))
    expect(parsed.distributionPoint).toMatchObject({
      fullName: [{ kind: 'uri', value: uri }],
      onlyContainsUserCerts: true,
      onlyContainsCaCerts: false,
      indirectCrl: false,
    })
    expect(parsed.unknownCritical).toEqual([])
  })

  test('openssl verify accepts a certificate under the list and refuses a revoked one', () => {
    using bench = createBench()
    const good = createParty({ name: 'good', issuer: ca, extensions: [] })
    const bad = createParty({ name: 'bad', issuer: ca, extensions: [] })
    const now = Date.now()
    const tbs = encodeTbsCertList({
      ...fields,
      thisUpdate: now - 60_000,
      nextUpdate: now + 3_600_000,
      entries: [{ serial: bad.certificate.serial, revokedAt: now - 60_000, reason: 'superseded' }],
    })
    const args = [
      'verify',
      '-x509_strict',
      '-crl_check_all',
      '-CAfile',
      certificateFile(bench, 'ca.pem', ca),
      '-CRLfile',
      bench.file('list.pem', encodePem('X509 CRL', signed(tbs))),
    ]
    expect(bench.openssl(...args, certificateFile(bench, 'good.pem', good))).toContain('OK')
    const refused = bench.try(...args, certificateFile(bench, 'bad.pem', bad))
    expect(refused.status).not.toBe(0)
    expect(refused.output).toContain('certificate revoked')
  })

  test('@peculiar/x509 reads the same entries', () => {
    const crl = new x509.X509Crl(new Uint8Array(signed(encodeTbsCertList({ ...fields, entries }))))
    expect(crl.issuer).toContain('CN=crl test')
    expect(crl.thisUpdate.getTime()).toBe(fields.thisUpdate)
    expect(crl.nextUpdate?.getTime()).toBe(fields.nextUpdate)
    expect(
      crl.entries.map(entry => [entry.serialNumber.replace(/^00(?=.)/, ''), entry.revocationDate.getTime()]),
    ).toEqual([
      ['01', entries[1]!.revokedAt],
      ['ff', entries[2]!.revokedAt],
      ['7fee', entries[0]!.revokedAt],
      ['0203040506070809', entries[3]!.revokedAt],
    ])
    expect(crl.entries.map(entry => entry.reason ?? null)).toEqual([
      null,
      x509.X509CrlReason.certificateHold,
      x509.X509CrlReason.keyCompromise,
      null,
    ])
  })

  test('revokedCertificates is absent, not empty, when nothing is revoked (RFC 5280 §5.1.2.6)', () => {
    using bench = createBench()
    const der = signed(encodeTbsCertList({ ...fields, entries: [] }))
    const text = bench.openssl('crl', '-inform', 'DER', '-in', bench.file('empty.crl', der), '-text', '-noout')
    expect(text).toContain('No Revoked Certificates.')
    expect(parseCrl(der).size).toBe(0)
    expect([...parseCrl(der).entries()]).toEqual([])
  })

  test('an unspecified reason is left out (RFC 5280 §5.3.1)', () => {
    const entry = { serial: bytes('05'), revokedAt: 0 }
    expect(toHex(encodeRevokedEntry({ ...entry, reason: 'unspecified' }))).toBe(toHex(encodeRevokedEntry(entry)))
  })

  test('the same entries give the same bytes, in whatever order they come', () => {
    const once = encodeTbsCertList({ ...fields, entries })
    expect(toHex(encodeTbsCertList({ ...fields, entries: entries.toReversed() }))).toBe(toHex(once))
  })

  test('a serial occurs once', () => {
    const twice = [entries[0]!, { ...entries[0]!, serial: bytes('007fee') }]
    expect(codeOf(() => encodeTbsCertList({ ...fields, entries: twice }))).toBe('not_encodable')
  })

  test.each([
    ['nextUpdate at thisUpdate', { nextUpdate: fields.thisUpdate }],
    ['a negative number', { crlNumber: -1n }],
    ['a number of 21 octets (RFC 5280 §5.2.3)', { crlNumber: 2n ** 159n }],
    ['a distribution point without a URI', { distributionPoint: { uris: [] } }],
    ['no key identifier', { authorityKeyId: new Uint8Array(0) }],
  ] satisfies [string, Partial<CrlFields>][])('%s is refused', (_, wrong) => {
    expect(codeOf(() => createTbsCertListWriter({ ...fields, ...wrong }))).toBe('not_encodable')
  })

  test('the writer takes entries in ascending order only, and finishes once', () => {
    const writer = createTbsCertListWriter(fields)
    writer.add({ serial: bytes('05'), revokedAt: 0 })
    expect(codeOf(() => writer.add({ serial: bytes('04'), revokedAt: 0 }))).toBe('not_encodable')
    writer.finish()
    expect(codeOf(() => writer.finish())).toBe('not_encodable')
    expect(codeOf(() => writer.add({ serial: bytes('06'), revokedAt: 0 }))).toBe('not_encodable')
  })

  test('copying in slices gives the same bytes as copying at once', () => {
    const feed = () => {
      const writer = createTbsCertListWriter(fields)
      for (const entry of entries.toSorted((a, b) => compareSerials(a.serial, b.serial)))
        writer.addEncoded(entry.serial, encodeRevokedEntry(entry))
      return writer
    }
    const drain = (steps: Generator<void, Uint8Array>) => {
      for (let pauses = 0; ; pauses++) {
        const step = steps.next()
        if (step.done) return { bytes: step.value, pauses }
      }
    }
    const tbs = feed().finish()
    const sliced = drain(feed().finishInSlices(16))
    expect(toHex(sliced.bytes)).toBe(toHex(tbs))
    expect(sliced.pauses).toBe(Math.floor(tbs.length / 16))
    const signature = ca.sign(tbs)
    expect(toHex(drain(concatInSlices(assembleCrlParts(tbs, ca.algorithm, signature), 100)).bytes)).toBe(
      toHex(assembleCrl(tbs, ca.algorithm, signature)),
    )
  })
})

const reasonNames = Object.keys(revocationReasons) as RevocationReason[]
const arbitraryEntry: fc.Arbitrary<RevokedEntry> = fc.record({
  serial: fc
    .uint8Array({ minLength: 1, maxLength: 20 })
    .map(magnitude => (magnitude[0]! >= 0x80 ? magnitude.with(0, magnitude[0]! & 0x7f) : magnitude)),
  revokedAt: fc.integer({ min: 0, max: 4_000_000_000 }).map(seconds => seconds * 1000),
  reason: fc.constantFrom(...reasonNames),
})
/** Content of the INTEGER for a magnitude. */
const canonical = (serial: Uint8Array): string => {
  const hex = toHex(serial).replace(/^(00)+(?=..)/, '')
  return Number.parseInt(hex.slice(0, 2), 16) >= 0x80 ? `00${hex}` : hex
}

describe('round trips', () => {
  test('every list that is written is read back as it was', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(arbitraryEntry, { selector: entry => canonical(entry.serial), maxLength: 30 }),
        fc.bigInt({ min: 0n, max: 2n ** 159n - 1n }),
        fc.option(fc.webUrl(), { nil: undefined }),
        (list, crlNumber, uri) => {
          const point = uri === undefined ? {} : { distributionPoint: { uris: [uri] } }
          const tbs = encodeTbsCertList({ ...fields, crlNumber, ...point, entries: list })
          const crl = parseCrl(assembleCrl(tbs, ca.algorithm, new Uint8Array(70)))
          expect(crl.crlNumber).toBe(crlNumber)
          expect(toHex(crl.tbs)).toBe(toHex(tbs))
          expect(toHex(crl.authorityKeyId!.keyId!)).toBe(toHex(ca.keyId))
          expect([crl.thisUpdate, crl.nextUpdate]).toEqual([fields.thisUpdate, fields.nextUpdate])
          expect(crl.distributionPoint?.fullName ?? null).toEqual(
            uri === undefined ? null : [{ kind: 'uri', value: uri }],
          )
          const key = (entry: RevokedEntry) => `${canonical(entry.serial)} ${entry.revokedAt} ${entry.reason}`
          expect([...crl.entries()].map(key).sort()).toEqual(list.map(key).sort())
          for (const entry of list) {
            const found = crl.findRevoked(bytes(canonical(entry.serial)))
            expect(found && key(found)).toBe(key(entry))
          }
        },
      ),
      { numRuns: 100 },
    )
  })

  test('the signature of a list that was read verifies over its to-be-signed bytes', () => {
    const crl = parseCrl(signed(encodeTbsCertList({ ...fields, entries })))
    checkSignature(ca.certificate.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
    expect(crl.findRevoked(bytes('02'))).toBeUndefined()
  })

  test('a list of 200,000 entries is read back as it was, and every serial is found', () => {
    const issuerName = encodeName([['CN', 'large']])
    const writer = createTbsCertListWriter({ ...fields, issuerName })
    const serialOf = (i: number): Uint8Array => {
      const serial = new Uint8Array(16)
      serial[0] = 0x01
      new DataView(serial.buffer).setUint32(4, i * 7)
      new DataView(serial.buffer).setUint32(12, Math.imul(i, 0x9e3779b1) >>> 0)
      return serial
    }
    const reasonOf = (i: number) => reasonNames[i % reasonNames.length]!
    const timeOf = (i: number) => 1_700_000_000_000 + i * 1000
    const count = 200_000
    for (let i = 0; i < count; i++) writer.add({ serial: serialOf(i), revokedAt: timeOf(i), reason: reasonOf(i) })
    expect(writer.entries).toBe(count)
    const crl = parseCrl(assembleCrl(writer.finish(), ca.algorithm, new Uint8Array(70)))
    expect(crl.size).toBe(count)
    let i = 0
    let different = 0
    for (const entry of crl.entries()) {
      if (
        Buffer.compare(entry.serial, serialOf(i)) !== 0 ||
        entry.revokedAt !== timeOf(i) ||
        entry.reason !== reasonOf(i)
      )
        different++
      i++
    }
    expect([i, different]).toEqual([count, 0])
    for (let at = 0; at < count; at += 997) expect(crl.findRevoked(serialOf(at))?.revokedAt).toBe(timeOf(at))
    expect(crl.findRevoked(serialOf(count))).toBeUndefined()
  })
})
