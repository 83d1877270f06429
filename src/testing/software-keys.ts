// Keys of a test authority, made in software and kept nowhere but in memory. The only place outside an HSM where keys of a CA are made
// (test/server/keys-only-in-hsm.test.ts), and nothing of the server leads here.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { ExternalKey } from '../pki/peculiar.ts'
import { parseSubjectPublicKeyInfo, type SubjectPublicKeyInfo } from '../pki/spki.ts'

export interface SoftwareKey {
  readonly label: string
  readonly spki: SubjectPublicKeyInfo
  /** ECDSA-Sig-Value over SHA-256. */
  sign(data: Uint8Array): Uint8Array
}

const spkiOf = (key: KeyObject): SubjectPublicKeyInfo =>
  parseSubjectPublicKeyInfo(new Uint8Array(key.export({ type: 'spki', format: 'der' })))

/** P-256, the root's too: it lives for a test. */
export const makeSoftwareKey = (label: string): SoftwareKey => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { label, spki: spkiOf(publicKey), sign: data => new Uint8Array(sign('sha256', data, privateKey)) }
}

export const externalKey = (key: SoftwareKey): ExternalKey => ({
  publicKeySpki: key.spki.der,
  sign: async data => key.sign(data),
  signatureForm: 'der',
})
