import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex } from '../../src/base/bytes.ts'
import type { SignatureAlgorithm } from '../../src/pki/algorithms.ts'
import { type CertificationRequest, checkCertificationRequestSignature } from '../../src/pki/csr.ts'
import { PkiError } from '../../src/pki/errors.ts'
import {
  checkSignature,
  ecdsaSignatureFromRaw,
  ecdsaSignatureToRaw,
  verifySignature,
  verifySignatureOnce,
} from '../../src/pki/signature.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from '../../src/pki/spki.ts'
import { createWork, usualBudget } from '../../src/verify/budget.ts'
import { createSignatures, usualAlgorithms } from '../../src/verify/signatures.ts'
import { createTestKey } from './keys.ts'
import { codeOf } from './refusal.ts'

interface VectorFile {
  readonly numberOfTests: number
  readonly testGroups: readonly {
    readonly publicKeyDer: string
    readonly tests: readonly {
      tcId: number
      comment: string
      msg: string
      sig: string
      result: 'valid' | 'invalid' | 'acceptable'
    }[]
  }[]
}

const directory = join(import.meta.dirname, '../vectors/wycheproof')
const readJson = <T>(name: string): T => JSON.parse(readFileSync(join(directory, name), 'utf8')) as T
/** File name → tcId → reason. */
const exceptions = readJson<Record<string, Record<string, string>>>('exceptions.json')

const files: readonly (readonly [string, SignatureAlgorithm, 'der' | 'p1363'])[] = [
  ['ecdsa_secp256r1_sha256.json', 'ecdsa-with-SHA256', 'der'],
  ['ecdsa_secp256r1_sha256_p1363.json', 'ecdsa-with-SHA256', 'p1363'],
  ['ecdsa_secp384r1_sha384.json', 'ecdsa-with-SHA384', 'der'],
  ['ecdsa_secp384r1_sha384_p1363.json', 'ecdsa-with-SHA384', 'p1363'],
  ['ed25519.json', 'Ed25519', 'der'],
  ['rsa_signature_2048_sha256.json', 'sha256WithRSAEncryption', 'der'],
]

const bytesOf = (hex: string): Uint8Array => {
  const bytes = fromHex(hex)
  if (bytes === null) throw new Error(`vector is not hex: ${hex}`)
  return bytes
}

/** null for a key we do not accept: then no signature under it counts as valid. */
const keyOf = (der: Uint8Array): SubjectPublicKeyInfo | null => {
  try {
    return parseSubjectPublicKeyInfo(der)
  } catch (error) {
    if (error instanceof PkiError && error.code === 'key_not_allowed') return null
    throw error
  }
}

/** A certification request of these parts, as far as its signature goes. */
const holdsForRequest: typeof verifySignature = (spki, signatureAlgorithm, info, signature) => {
  const request = { spki, signatureAlgorithm, info, signature } as CertificationRequest
  const code = codeOf(() => checkCertificationRequestSignature(request))
  expect(['accepted', 'csr_signature_invalid']).toContain(code)
  return code === 'accepted'
}

/** A certificate or a list of these parts in a path. */
const holdsInPath: typeof verifySignature = (spki, signatureAlgorithm, tbs, signature) => {
  const work = createWork(usualBudget)
  const signed = { tbs, signatureAlgorithm, signature }
  return createSignatures(usualAlgorithms, work).problemOf(signed, { spki, spkiHashHex: '' }) === null
}

describe.each([
  ['a key that is kept', verifySignature],
  ['a key that is met once', verifySignatureOnce],
  ['a certification request', holdsForRequest],
  ['a path', holdsInPath],
])('Wycheproof, %s', (_key, verified) => {
  it.each(files)('%s gives the results of the vectors, except those with a reason', (name, algorithm, form) => {
    const file = readJson<VectorFile>(name)
    const reasons = exceptions[name] ?? {}
    const divergences: string[] = []
    let count = 0
    for (const group of file.testGroups) {
      const spki = keyOf(bytesOf(group.publicKeyDer))
      const fieldBytes = (spki?.bits ?? 0) / 8
      for (const test of group.tests) {
        count++
        const raw = bytesOf(test.sig)
        // r||s of another length than the field's never reaches the verifier: the conversion is where it is refused.
        const wrongLength = form === 'p1363' && raw.length !== 2 * fieldBytes
        const accepted =
          spki !== null &&
          !wrongLength &&
          verified(spki, algorithm, bytesOf(test.msg), form === 'p1363' ? ecdsaSignatureFromRaw(raw) : raw)
        // 'acceptable' means a legacy encoding: we are strict and refuse.
        if (accepted !== (test.result === 'valid')) divergences.push(String(test.tcId))
      }
    }
    expect(count).toBe(file.numberOfTests)
    expect(divergences.sort()).toEqual(Object.keys(reasons).sort())
  })
})

describe('ECDSA signature forms', () => {
  it('r||s survives the way to DER and back, with any leading zeros', () => {
    const halves = fc.constantFrom(32, 48).chain(size => fc.uint8Array({ minLength: 2 * size, maxLength: 2 * size }))
    fc.assert(
      fc.property(halves, fc.nat(20), (raw, zeros) => {
        raw.fill(0, 0, zeros)
        raw.fill(0, raw.length / 2, raw.length / 2 + zeros)
        expect(ecdsaSignatureToRaw(ecdsaSignatureFromRaw(raw), raw.length / 2)).toEqual(raw)
      }),
    )
  })

  it('r||s of odd length, and r larger than the field, are refused', () => {
    expect(codeOf(() => ecdsaSignatureFromRaw(new Uint8Array(63)))).toBe('signature_malformed')
    expect(codeOf(() => ecdsaSignatureToRaw(ecdsaSignatureFromRaw(new Uint8Array(96).fill(1)), 32))).toBe(
      'signature_malformed',
    )
  })
})

describe('verifySignature', () => {
  const data = new TextEncoder().encode('data')
  const p256 = createTestKey('P-256')
  const ed25519 = createTestKey('Ed25519')

  it('an algorithm of another family than the key never verifies', () => {
    expect(verifySignature(ed25519.spki, 'Ed25519', data, ed25519.signDer(data))).toBe(true)
    expect(verifySignature(ed25519.spki, 'ecdsa-with-SHA256', data, ed25519.signDer(data))).toBe(false)
    expect(verifySignature(p256.spki, 'Ed25519', data, p256.signDer(data))).toBe(false)
    expect(verifySignature(p256.spki, 'sha256WithRSAEncryption', data, p256.signDer(data))).toBe(false)
  })

  it('another hash than the one signed with does not verify', () => {
    const signature = p256.signDer(data)
    expect(verifySignature(p256.spki, 'ecdsa-with-SHA256', data, signature)).toBe(true)
    expect(verifySignature(p256.spki, 'ecdsa-with-SHA384', data, signature)).toBe(false)
  })

  it('checkSignature throws where verifySignature says no', () => {
    expect(codeOf(() => checkSignature(p256.spki, 'ecdsa-with-SHA256', data, p256.signDer(data)))).toBe('accepted')
    expect(codeOf(() => checkSignature(p256.spki, 'ecdsa-with-SHA256', new Uint8Array(0), p256.signDer(data)))).toBe(
      'signature_invalid',
    )
  })
})
