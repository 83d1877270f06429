// The proof that an agent signs is the proof that the CA accepts: both sides of one contract, and OpenSSL's view of the signature.
import { generateKeyPairSync, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signProof } from '../../src/jws/sign-proof.ts'
import { checkProof, readProof } from '../../src/jws/verify-proof.ts'
import { spkiHashHex } from '../../src/pki/spki.ts'

const csr = new Uint8Array([0x30, 0x01, 0x00])
const audience = 'https://ca.example.org:8443/v1/recover'
const now = 1_800_000_000_123

const pairs = {
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
} as const

describe.each(Object.keys(pairs) as (keyof typeof pairs)[])('a proof by %s', algorithm => {
  it('is accepted for the key, the request and the audience it was made for', async () => {
    const { publicKey, privateKey } = pairs[algorithm]()
    const proof = readProof(await signProof({ privateKey, csr, audience, now }))
    expect(proof.keyHash).toBe(spkiHashHex(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))))
    expect(await checkProof(proof, { audience, csr, now })).toMatchObject({ keyHash: proof.keyHash })
  })

  it('is refused for another request and another audience', async () => {
    const proof = readProof(await signProof({ privateKey: pairs[algorithm]().privateKey, csr, audience, now }))
    const other = new Uint8Array([0x30, 0x00])
    await expect(checkProof(proof, { audience, csr: other, now })).rejects.toMatchObject({
      code: 'jws_signature_invalid',
    })
    await expect(checkProof(proof, { audience: `${audience}x`, csr, now })).rejects.toMatchObject({
      code: 'jws_wrong_audience',
    })
  })
})

describe('a proof', () => {
  it('is never the same twice, so that one that was seen cannot pass for a new one', async () => {
    const { privateKey } = pairs.ES256()
    const jtis = await Promise.all(
      [1, 2].map(async () => {
        const proof = readProof(await signProof({ privateKey, csr, audience, now }))
        return (await checkProof(proof, { audience, csr, now })).jti
      }),
    )
    expect(jtis[0]).not.toBe(jtis[1])
  })

  it('carries a raw signature over its first two parts (RFC 7515 §5.1), and no private member in its key', async () => {
    const { publicKey, privateKey } = pairs.ES256()
    const [header, payload, signature] = (await signProof({ privateKey, csr, audience, now })).split('.')
    const signed = Buffer.from(`${header}.${payload}`)
    const raw = Buffer.from(signature as string, 'base64url')
    expect(verify('sha256', signed, { key: publicKey, dsaEncoding: 'ieee-p1363' }, raw)).toBe(true)
    expect(Object.keys(JSON.parse(Buffer.from(header as string, 'base64url').toString()).jwk).sort()).toEqual([
      'crv',
      'kty',
      'x',
      'y',
    ])
  })

  it('is not made by a key that no profile accepts', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
    await expect(signProof({ privateKey, csr, audience, now })).rejects.toThrow(TypeError)
  })
})
