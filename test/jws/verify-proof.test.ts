// Proofs of possession: one good one for each kind of key, and every way to be wrong.
import { createHash, createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { CompactSign, exportJWK } from 'jose'
import { describe, expect, it } from 'vitest'
import { createReplayMemory } from '../../src/jws/replay-memory.ts'
import { checkProof, readProof } from '../../src/jws/verify-proof.ts'

const audience = 'https://ca.example/v1/recover'
const now = Date.UTC(2026, 10, 24)
const csr = new Uint8Array([0x30, 0x03, 0x02, 0x01, 0x00])
const csrHash = createHash('sha256').update(csr).digest('base64url')
const claims = { csrHash, aud: audience, iat: now / 1000, jti: 'one' }

const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const hashOf = (key: KeyObject) =>
  createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')

interface Parts {
  readonly keys?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
  readonly alg?: string
  readonly header?: Readonly<Record<string, unknown>>
  readonly payload?: unknown
}

const sign = async ({ keys = p256, alg = 'ES256', header = {}, payload = claims }: Parts = {}): Promise<string> =>
  new CompactSign(new TextEncoder().encode(typeof payload === 'string' ? payload : JSON.stringify(payload)))
    .setProtectedHeader({ alg, jwk: await exportJWK(keys.publicKey), ...header })
    .sign(keys.privateKey)

/** Any header over any signature: what no library would make. */
const forge = (header: unknown, signature: (input: string) => Uint8Array | Buffer): string => {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${Buffer.from(signature(input)).toString('base64url')}`
}

const check = async (jws: string, at = now) => checkProof(readProof(jws), { audience, csr, now: at })
const codeOf = (jws: string | Promise<string>, at = now): Promise<string> =>
  Promise.resolve(jws)
    .then(text => check(text, at))
    .then(
      () => 'accepted',
      (error: { code?: string; message: string }) => error.code ?? error.message,
    )

describe('a proof of possession', () => {
  it.each([
    ['ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['ES384', generateKeyPairSync('ec', { namedCurve: 'P-384' })],
    ['EdDSA', generateKeyPairSync('ed25519')],
    ['RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
  ])('is accepted by %s, and names its key as the ledger does', async (alg, keys) => {
    expect(await check(await sign({ keys, alg }))).toEqual({ keyHash: hashOf(keys.publicKey), jti: 'one', madeAt: now })
  })

  it('is refused when its signature is by another key than it shows', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    expect(await codeOf(sign({ header: { jwk: await exportJWK(other.publicKey) } }))).toBe('jws_signature_invalid')
  })

  it('is refused when payload or signature were changed', async () => {
    const [header, , signature] = (await sign()).split('.') as [string, string, string]
    const payload = Buffer.from(JSON.stringify({ ...claims, jti: 'two' })).toString('base64url')
    expect(await codeOf(`${header}.${payload}.${signature}`)).toBe('jws_signature_invalid')
    const good = await sign()
    expect(await codeOf(`${good.slice(0, -86)}${'A'.repeat(86)}`)).toBe('jws_signature_invalid')
  })

  it('takes its algorithm from the key, never from the header (RFC 8725 §3.1)', async () => {
    const jwk = await exportJWK(p256.publicKey)
    const spki = p256.publicKey.export({ type: 'spki', format: 'pem' })
    const hmac = (input: string) => createHmac('sha256', spki).update(input).digest()
    expect(await codeOf(forge({ alg: 'HS256', jwk }, hmac))).toBe('jws_malformed')
    expect(await codeOf(forge({ alg: 'none', jwk }, () => new Uint8Array()))).toBe('jws_malformed')
    expect(await codeOf(forge({ alg: 'ES384', jwk }, () => new Uint8Array(96)))).toBe('jws_malformed')
    expect(await codeOf(forge({ alg: 'HS256', jwk: { kty: 'oct', k: 'c2VjcmV0' } }, hmac))).toBe('jws_malformed')
    const rsa = await exportJWK(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey)
    expect(await codeOf(forge({ alg: 'PS256', jwk: rsa }, () => new Uint8Array(256)))).toBe('jws_malformed')
  })

  it('is refused for keys that nobody can be enrolled with', async () => {
    for (const keys of [
      generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
      generateKeyPairSync('ec', { namedCurve: 'P-521' }),
      generateKeyPairSync('rsa', { modulusLength: 1024 }),
    ]) {
      const jwk = await exportJWK(keys.publicKey)
      expect(await codeOf(forge({ alg: 'RS256', jwk }, () => new Uint8Array(64)))).toBe('jws_malformed')
    }
  })

  it('is refused with a private key in it, and says so', async () => {
    const jwk = await exportJWK(p256.privateKey)
    await expect(sign({ header: { jwk } }).then(check)).rejects.toMatchObject({
      code: 'jws_malformed',
      hint: expect.stringContaining('never send the private key'),
    })
  })

  it('is refused for another audience', async () => {
    for (const aud of ['https://ca.example/v1/renew', 'https://other.example/v1/recover', [audience], undefined])
      expect(await codeOf(sign({ payload: { ...claims, aud } }))).toBe('jws_wrong_audience')
  })

  it('is current for 60 s in both directions', async () => {
    const jws = await sign()
    expect(await codeOf(jws, now + 60_000)).toBe('accepted')
    expect(await codeOf(jws, now - 60_000)).toBe('accepted')
    expect(await codeOf(jws, now + 60_001)).toBe('jws_not_current')
    expect(await codeOf(jws, now - 60_001)).toBe('jws_not_current')
  })

  it('is bound to its certification request', async () => {
    const other = createHash('sha256').update('another').digest('base64url')
    expect(await codeOf(sign({ payload: { ...claims, csrHash: other } }))).toBe('jws_signature_invalid')
    expect(await codeOf(sign({ payload: { ...claims, csrHash: undefined } }))).toBe('jws_signature_invalid')
  })

  it('is refused when it is not what it should be', async () => {
    const jwk = await exportJWK(p256.publicKey)
    expect(await codeOf('')).toBe('jws_malformed')
    expect(await codeOf('a.b')).toBe('jws_malformed')
    expect(await codeOf('a.b.c')).toBe('jws_malformed')
    expect(await codeOf(forge({ alg: 'ES256' }, () => new Uint8Array(64)))).toBe('jws_malformed')
    expect(await codeOf(sign({ header: { kid: 'x' } }))).toBe('jws_malformed')
    expect(await codeOf(forge({ alg: 'ES256', jwk, crit: ['exp'], exp: 1 }, () => new Uint8Array(64)))).toBe(
      'jws_malformed',
    )
    expect(await codeOf(sign({ payload: 'text' }))).toBe('jws_malformed')
    expect(await codeOf(sign({ payload: 'null' }))).toBe('jws_malformed')
    for (const bad of [{ jti: undefined }, { jti: '' }, { jti: 'a b' }, { jti: 'x'.repeat(129) }, { iat: '1' }])
      expect(await codeOf(sign({ payload: { ...claims, ...bad } }))).toBe('jws_malformed')
  })
})

describe('the memory of used proofs', () => {
  it('knows a proof for its window, then forgets it', () => {
    let at = 0
    const memory = createReplayMemory(() => at, 1000, 10)
    expect(memory.take('a', 'proof')).toBe('fresh')
    at = 999
    expect(memory.take('a', 'another')).toBe('replayed')
    expect(memory.take('a', 'proof')).toBe('again')
    at = 1000
    expect(memory.take('a', 'another')).toBe('fresh')
  })

  it('is bounded, and refuses rather than forgets', () => {
    let at = 0
    const memory = createReplayMemory(() => at, 1000, 2)
    expect(['a', 'b', 'c', 'a'].map(id => memory.take(id, id))).toEqual(['fresh', 'fresh', 'full', 'again'])
    at = 1000
    expect(memory.take('c', 'c')).toBe('fresh')
  })
})
