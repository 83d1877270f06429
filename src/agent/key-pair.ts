// Private keys of an agent: made here, never sent anywhere. A KeyObject shows nothing when it is logged; its PEM exists only at the
// two places that need it, TLS and the credential directory.
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import { createCsr } from '../pki/csr.ts'

export type AgentKeyAlgorithm = 'P-256' | 'P-384' | 'Ed25519'

const generate = promisify(generateKeyPair)

export const generateKey = async (algorithm: AgentKeyAlgorithm): Promise<KeyObject> =>
  (algorithm === 'Ed25519' ? await generate('ed25519') : await generate('ec', { namedCurve: algorithm })).privateKey

/** PKCS#8. */
export const encodePrivateKey = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string

/** DER of a PKCS#8 key. @throws Error when it is none */
export const parsePrivateKey = (der: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })

/** DER of the SubjectPublicKeyInfo. */
export const spkiOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))

/** PKCS#10 without a subject and without extensions: names come from the registration. */
export const createRequest = (key: KeyObject): Promise<Uint8Array> => {
  const hash = { prime256v1: 'sha256', secp384r1: 'sha384' }[key.asymmetricKeyDetails?.namedCurve ?? ''] ?? null
  return createCsr({ spkiDer: spkiOf(key), sign: info => new Uint8Array(sign(hash, info, key)) })
}
