// Software keys for the tests, in the shape of keys that live in an HSM.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { KeyAlgorithm } from '../../src/pki/algorithms.ts'
import type { ExternalKey } from '../../src/pki/peculiar.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from '../../src/pki/spki.ts'

export interface TestKey {
  readonly spki: SubjectPublicKeyInfo
  readonly privateKey: KeyObject
  /** ECDSA as DER. */
  readonly signDer: (data: Uint8Array) => Uint8Array
  readonly external: ExternalKey
}

const generate = (algorithm: KeyAlgorithm): { publicKey: KeyObject; privateKey: KeyObject } => {
  if (algorithm === 'RSA') return generateKeyPairSync('rsa', { modulusLength: 2048 })
  if (algorithm === 'Ed25519') return generateKeyPairSync('ed25519')
  return generateKeyPairSync('ec', { namedCurve: algorithm })
}

export const spkiDerOf = (publicKey: KeyObject): Uint8Array =>
  new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))

export const createTestKey = (algorithm: KeyAlgorithm): TestKey => {
  const { publicKey, privateKey } = generate(algorithm)
  const spki = parseSubjectPublicKeyInfo(spkiDerOf(publicKey))
  const hash = algorithm === 'Ed25519' ? null : algorithm === 'P-384' ? 'sha384' : 'sha256'
  return {
    spki,
    privateKey,
    signDer: data => new Uint8Array(sign(hash, data, privateKey)),
    external: {
      publicKeySpki: spki.der,
      signatureForm: 'raw',
      sign: async data => new Uint8Array(sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' })),
    },
  }
}
