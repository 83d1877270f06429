import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PkiError } from '../../src/pki/errors.ts'
import { encodePem, parseOnePem, parsePem } from '../../src/pki/pem.ts'
import { codeOf } from './refusal.ts'

const block = encodePem('CERTIFICATE', Uint8Array.of(1, 2, 3))

describe('PEM (RFC 7468)', () => {
  it('what is encoded is parsed again, for any number of blocks', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 4 }), ders => {
        expect(parsePem(ders.map(der => encodePem('CERTIFICATE', der)).join('\n'), 'CERTIFICATE')).toEqual(ders)
      }),
    )
  })

  it('lines have 64 characters', () => {
    const lines = encodePem('X509 CRL', new Uint8Array(100)).split('\n')
    expect(lines[1]).toHaveLength(64)
    expect(lines.at(-2)).toBe('-----END X509 CRL-----')
  })

  it('takes CRLF, white space around lines, and NEW CERTIFICATE REQUEST (§7)', () => {
    expect(parseOnePem(block.replaceAll('\n', '\r\n'), 'CERTIFICATE')).toEqual(Uint8Array.of(1, 2, 3))
    expect(parseOnePem(`\n  ${block}  \n`, 'CERTIFICATE')).toEqual(Uint8Array.of(1, 2, 3))
    const request = encodePem('CERTIFICATE REQUEST', Uint8Array.of(9)).replaceAll(
      'CERTIFICATE REQUEST',
      'NEW CERTIFICATE REQUEST',
    )
    expect(parseOnePem(request, 'CERTIFICATE REQUEST')).toEqual(Uint8Array.of(9))
  })

  it('says so when a private key is given by mistake', () => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    for (const type of ['pkcs8', 'sec1'] as const)
      expect(codeOf(() => parsePem(String(key.export({ type, format: 'pem' })), 'CERTIFICATE REQUEST'))).toBe(
        'pem_private_key',
      )
  })

  it('a private key behind the expected block is refused as well', () => {
    expect(
      codeOf(() => parsePem(`${block}${block.replaceAll('CERTIFICATE', 'ENCRYPTED PRIVATE KEY')}`, 'CERTIFICATE')),
    ).toBe('pem_private_key')
  })

  it('refuses other labels, text, damage, emptiness and size, each by its code', () => {
    const cases: readonly (readonly [string, string])[] = [
      [block.replaceAll('CERTIFICATE', 'X509 CRL'), 'pem_wrong_label'],
      ['', 'pem_malformed'],
      ['hello', 'pem_malformed'],
      [`subject=CN = x\n${block}`, 'pem_malformed'],
      [block.replace('END', 'FIN'), 'pem_malformed'],
      [block.replace('AQID', 'AQI'), 'pem_malformed'],
      [block.replace('AQID', 'AQ=='), 'accepted'],
      [block.replace('AQID', 'AR=='), 'pem_malformed'],
      [block.replace('AQID', 'AQ*D'), 'pem_malformed'],
      [block.replace('AQID', ''), 'pem_malformed'],
      [block + block, 'pem_malformed'],
      [block.repeat(30_000), 'input_too_large'],
    ]
    for (const [text, code] of cases) expect(codeOf(() => parseOnePem(text, 'CERTIFICATE'))).toBe(code)
  })

  it('any text is parsed or refused, never more', () => {
    const noise = fc
      .array(
        fc.constantFrom('-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----', 'AQID', '\n', '-----', ' ', 'x'),
      )
      .map(parts => parts.join('\n'))
    fc.assert(fc.property(fc.oneof(noise, fc.string()), text => void codeOf(() => parsePem(text, 'CERTIFICATE'))))
  })
})

it('one block in the usual form is read as any other form of it is, or refused with it', () => {
  const der = new Uint8Array(300).map((_, i) => (i * 7) & 0xff)
  const usual = encodePem('CERTIFICATE REQUEST', der)
  const variants = [
    usual,
    usual.trimEnd(),
    usual.replaceAll('\n', '\r\n'),
    `\n${usual}\n`,
    usual.replaceAll('\n', ' \n'),
  ]
  for (const text of variants) expect(parseOnePem(text, 'CERTIFICATE REQUEST')).toEqual(der)
  const broken = [
    usual.replace('\nAAcO', '\nAA=O'),
    usual.replace('\nAAcO', '\n\u0141AcO'),
    usual.replace('\nAAcO', '\nAAc'),
    `${usual}x`,
    usual.replace('END CERTIFICATE REQUEST', 'END CERTIFICATE'),
    '-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n',
  ]
  for (const text of broken) expect(() => parseOnePem(text, 'CERTIFICATE REQUEST'), text).toThrow(PkiError)
  for (const text of broken)
    expect(() => parseOnePem(text.replaceAll('\n', '\r\n'), 'CERTIFICATE REQUEST'), text).toThrow(PkiError)
})
