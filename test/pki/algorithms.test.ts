import { describe, expect, it } from 'vitest'
import {
  type DigestName,
  encodeDigestAlgorithm,
  encodeSignatureAlgorithm,
  keyAlgorithms,
  parseDigestAlgorithm,
  parseSignatureAlgorithm,
  type SignatureAlgorithm,
  signatureAlgorithms,
} from '../../src/pki/algorithms.ts'
import { integer, nullValue, oid, sequence } from '../../src/pki/der.ts'
import { codeOf } from './refusal.ts'

const names = Object.keys(signatureAlgorithms) as SignatureAlgorithm[]
const identifier = (name: SignatureAlgorithm, ...parameters: Uint8Array[]) =>
  sequence(oid(signatureAlgorithms[name].oid), ...parameters)

describe('signature algorithms', () => {
  it.each(names)('%s is written and read again', name => {
    expect(parseSignatureAlgorithm(encodeSignatureAlgorithm(name))).toBe(name)
  })

  it.each(names)(
    '%s: RSA takes NULL or nothing (RFC 4055 §5), the others nothing (RFC 5758 §3.2, RFC 8410 §3)',
    name => {
      const rsa = signatureAlgorithms[name].family === 'RSA'
      expect(codeOf(() => parseSignatureAlgorithm(identifier(name)))).toBe('accepted')
      expect(codeOf(() => parseSignatureAlgorithm(identifier(name, nullValue())))).toBe(
        rsa ? 'accepted' : 'algorithm_malformed',
      )
      expect(codeOf(() => parseSignatureAlgorithm(identifier(name, integer(1))))).toBe('algorithm_malformed')
      expect(codeOf(() => parseSignatureAlgorithm(identifier(name, nullValue(), nullValue())))).toBe(
        'algorithm_malformed',
      )
    },
  )

  it('SHA-1, MD5 and RSA-PSS are not accepted', () => {
    for (const dotted of ['1.2.840.10045.4.1', '1.2.840.113549.1.1.5', '1.2.840.113549.1.1.4', '1.2.840.113549.1.1.10'])
      expect(codeOf(() => parseSignatureAlgorithm(sequence(oid(dotted), nullValue())))).toBe('algorithm_not_allowed')
  })

  it('the one a key signs with is of the family of the key', () => {
    for (const { family, signatureAlgorithm } of Object.values(keyAlgorithms))
      expect(signatureAlgorithms[signatureAlgorithm].family).toBe(family)
  })
})

describe('digest algorithms of OCSP', () => {
  it.each<DigestName>(['sha1', 'sha256', 'sha384', 'sha512'])(
    '%s is written and read again, with NULL or without',
    digest => {
      const der = encodeDigestAlgorithm(digest)
      expect(parseDigestAlgorithm(der)).toBe(digest)
      expect(parseDigestAlgorithm(sequence(der.subarray(2, -2)))).toBe(digest)
      expect(codeOf(() => parseDigestAlgorithm(sequence(der.subarray(2, -2), integer(1))))).toBe('algorithm_malformed')
    },
  )

  it('MD5 is not accepted', () => {
    expect(codeOf(() => parseDigestAlgorithm(sequence(oid('1.2.840.113549.2.5'), nullValue())))).toBe(
      'algorithm_not_allowed',
    )
  })
})
