// JWS of ACME clients (RFC 8555 §6.2): what is read, whose key it is, and that nothing but the one form gets through.
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { acmeKeyOfSpki, parseAcmeKey, readAcmeJws, verifyAcmeJws, verifyBindingJws } from '../../src/jws/acme-jws.ts'
import type { JwsError } from '../../src/jws/errors.ts'

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value))

const keys = {
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: generateKeyPairSync('ed25519'),
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
}
type Algorithm = keyof typeof keys

const signatureOf = (alg: Algorithm, key: KeyObject, input: string): Buffer => {
  if (alg === 'EdDSA') return sign(null, Buffer.from(input), key)
  if (alg === 'RS256') return sign('sha256', Buffer.from(input), key)
  return sign(alg === 'ES256' ? 'sha256' : 'sha384', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' })
}

const jwsOf = (alg: Algorithm, header: object = {}, payload: unknown = { a: 1 }) => {
  const jwk = keys[alg].publicKey.export({ format: 'jwk' })
  const head = encode({ alg, jwk, nonce: 'n', url: 'https://ca/acme/x', ...header })
  const body = payload === '' ? '' : encode(payload)
  const signature = signatureOf(alg, keys[alg].privateKey, `${head}.${body}`).toString('base64url')
  return { protected: head, payload: body, signature }
}

const codeOf = async (act: () => unknown): Promise<string> => {
  try {
    await act()
  } catch (error) {
    return (error as JwsError).code
  }
  return 'none'
}

const verified = async (jws: object): Promise<string> => {
  const unchecked = readAcmeJws(bytes(jws))
  return Buffer.from(await verifyAcmeJws(unchecked, await parseAcmeKey(unchecked.header.jwk))).toString()
}

describe('a JWS', () => {
  it.each(Object.keys(keys) as Algorithm[])('by %s gives its payload', async alg => {
    expect(await verified(jwsOf(alg))).toBe('{"a":1}')
    expect(await verified(jwsOf(alg, {}, ''))).toBe('')
  })

  it.each([
    ['crit', { crit: ['exp'], exp: 1 }],
    ['b64', { b64: false, crit: ['b64'] }],
    ['b64 alone', { b64: true }],
    ['kid beside jwk', { kid: 'https://ca/acme/account/1' }],
    ['no url', { url: undefined }],
    ['a number for a nonce', { nonce: 1 }],
  ])('whose header has %s is malformed', async (_, header) => {
    expect(await codeOf(() => verified(jwsOf('ES256', header)))).toBe('jws_malformed')
  })

  it('of any other form is malformed', async () => {
    const good = jwsOf('ES256')
    const { payload, signature, protected: header } = good
    const forms: unknown[] = [
      { ...good, header: { alg: 'ES256' } },
      { payload, signatures: [{ protected: header, signature }] },
      { ...good, signatures: [] },
      { ...good, more: 1 },
      { ...good, signature: '' },
      { ...good, signature: `${signature}=` },
      { ...good, payload: `${payload}=` },
      { payload, protected: header },
      [good],
      'text',
      null,
      { ...good, protected: encode({ alg: 'ES256', pad: 'x'.repeat(9000) }) },
    ]
    for (const form of forms)
      expect(await codeOf(() => verified(form as object)), JSON.stringify(form)).toBe('jws_malformed')
    expect(await codeOf(() => readAcmeJws(Buffer.from([0xff, 0xfe])))).toBe('jws_malformed')
  })

  it('with anything changed does not verify, whatever is changed', async () => {
    const good = jwsOf('ES256')
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('protected' as const, 'payload' as const, 'signature' as const),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        async (member, at, mask) => {
          const raw = Buffer.from(good[member], 'base64url')
          raw[at % raw.length]! ^= mask
          const jws = { ...good, [member]: raw.toString('base64url') }
          expect(await codeOf(() => verified(jws))).not.toBe('none')
        },
      ),
      { numRuns: 200 },
    )
  })

  it('never makes the reader throw anything but its own refusals', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.json(), fc.string()), async text => {
        expect(await codeOf(() => readAcmeJws(Buffer.from(text)))).toBe('jws_malformed')
      }),
      { numRuns: 300 },
    )
  })

  it('by none, by a MAC, or by an algorithm of another kind of key is not accepted', async () => {
    for (const alg of ['none', 'HS256', 'ES384', 'PS256', 'RS512', 'ES256K'])
      expect(await codeOf(() => verified(jwsOf('ES256', { alg }))), alg).toBe('jws_algorithm_not_accepted')
  })
})

describe('a key', () => {
  it('is known by its public members only: others change nothing about it', async () => {
    const jwk = keys.ES256.publicKey.export({ format: 'jwk' })
    const [plain, decorated] = [await parseAcmeKey(jwk), await parseAcmeKey({ use: 'sig', ...jwk, kid: 'x' })]
    expect({ ...decorated, key: null }).toEqual({ ...plain, key: null })
    expect(acmeKeyOfSpki(keys.ES256.publicKey.export({ type: 'spki', format: 'der' }))?.algorithm).toBe('ES256')
  })

  it.each([
    ['RSA of 1024 bits', generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })],
    ['P-521', generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export({ format: 'jwk' })],
    ['secp256k1', generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({ format: 'jwk' })],
    ['X25519', generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' })],
    ['a point off the curve', { kty: 'EC', crv: 'P-256', x: 'AAAA', y: 'AAAA' }],
    ['a secret', { kty: 'oct' }],
    ['of the kind constructor', { kty: 'constructor' }],
    ['of the kind __proto__', { kty: '__proto__' }],
    ['of a kind that is no text', { kty: { toString: 1 } }],
    ['of a kind in a list', { kty: ['EC'] }],
  ])('that is %s is not accepted', async (_, jwk) => {
    expect(await codeOf(() => parseAcmeKey(jwk))).toBe('jws_key_not_accepted')
  })

  it('has one thumbprint, however its numbers are written', async () => {
    const jwk = keys.RS256.publicKey.export({ format: 'jwk' })
    const plain = await parseAcmeKey(jwk)
    const padded = Buffer.concat([Buffer.alloc(1), Buffer.from(jwk.e as string, 'base64url')]).toString('base64url')
    for (const e of [padded, `${padded}==`]) {
      const { jwk: text, thumbprint } = await parseAcmeKey({ ...jwk, e })
      expect([text, thumbprint]).toEqual([plain.jwk, plain.thumbprint])
    }
  })

  it('that is private is malformed: it must never be sent', async () => {
    expect(await codeOf(() => parseAcmeKey(keys.ES256.privateKey.export({ format: 'jwk' })))).toBe('jws_malformed')
  })
})

describe('an external account binding', () => {
  const secret = Buffer.alloc(32, 1)
  const binding = (alg: string, mac = secret) => {
    const head = encode({ alg, kid: 'k', url: 'https://ca/acme/new-account' })
    const payload = encode({ kty: 'EC' })
    const hash = `sha${alg.slice(2)}`
    const signature = createHmac(hash, mac).update(`${head}.${payload}`).digest('base64url')
    return readAcmeJws({ protected: head, payload, signature })
  }

  it('verifies by its MAC key, and by no other (RFC 8555 §7.3.4)', async () => {
    expect(Buffer.from(await verifyBindingJws(binding('HS256'), secret)).toString()).toBe('{"kty":"EC"}')
    expect(await codeOf(() => verifyBindingJws(binding('HS256', Buffer.alloc(32, 2)), secret))).toBe(
      'jws_signature_invalid',
    )
  })

  it('by a signature is not accepted', async () => {
    const unchecked = readAcmeJws(bytes(jwsOf('ES256')))
    expect(await codeOf(() => verifyBindingJws(unchecked, secret))).toBe('jws_algorithm_not_accepted')
  })
})
