// Bad input at the ACME door of a CA as it is served: requests that are signed wrongly or by the wrong key, and requests for certificates
// that were not ordered so.
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dnsName } from '../../src/pki/general-names.ts'
import { createKey, type Reply } from '../http/harness.ts'
import { type AcmeStory, startIssuedStory } from './acme-refusals.ts'
import {
  type Account,
  type AccountKey,
  type AcmeRequests,
  accountKey,
  createAccountKey,
  derOf,
  encoded,
  flipped,
  identifiers,
  type Jws,
  keyChange,
  macced,
  must,
  type OrderedCertificate,
  requestFor,
  revocationOf,
  someNonce,
} from './acme-requests.ts'

const name = 'invoices.internal'
let story: AcmeStory
let acme: AcmeRequests
let account: Account
let issued: OrderedCertificate
/** Granted and not yet finalized. */
let ready: Reply

beforeAll(async () => {
  ;({ story, acme, account, issued, ready } = await startIssuedStory(name))
}, 120_000)
afterAll(async () => {
  await story?.[Symbol.asyncDispose]()
})

/** Every resource that takes a JWS, with a payload that is right there. */
const endpoints: readonly (readonly [string, () => { url: string; payload?: unknown; by?: AccountKey }])[] = [
  ['newAccount', () => ({ url: acme.directory.newAccount, payload: {}, by: createAccountKey() })],
  ['account', () => ({ url: account.kid, payload: { contact: [] } })],
  ['orders list', () => ({ url: `${account.kid}/orders` })],
  ['keyChange', () => ({ url: acme.directory.keyChange, payload: keyChange(acme, account, createAccountKey()) })],
  ['newOrder', () => ({ url: acme.directory.newOrder, payload: { identifiers: identifiers([name]) } })],
  ['order', () => ({ url: ready.headers.location as string })],
  ['authorization', () => ({ url: ready.body.authorizations[0] })],
  ['finalize', () => ({ url: ready.body.finalize, payload: { csr: derOf(issued.key) } })],
  ['certificate', () => ({ url: issued.order.body.certificate })],
  ['revokeCert', () => ({ url: acme.directory.revokeCert, payload: revocationOf(issued) })],
]

describe.each(endpoints)('a request to %s', (_, asked) => {
  const sent = (spoilt: Parameters<AcmeRequests['post']>[3]): Promise<Reply> => {
    const { url, payload, by } = asked()
    return acme.post(url, payload, by ?? account, spoilt)
  }

  it('with a signature of which one bit is flipped is refused', () =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ signed: flipped }), [400, 'malformed'])
    }))

  it('with a nonce that was used before is refused, and gets another one (RFC 8555 §6.5)', () =>
    story.withoutIssuance(async () => {
      const nonce = await acme.nonce()
      await acme.post(account.kid, undefined, account, { header: { nonce } })
      const reply = await sent({ header: { nonce } })
      await story.expectRefused(reply, [400, 'badNonce'])
      expect(reply.headers['replay-nonce']).toMatch(/^[A-Za-z0-9_-]+$/)
      await story.expectRefused(await sent({ header: { nonce: someNonce() } }), [400, 'badNonce'])
    }))

  it('that was signed for another URL is refused (RFC 8555 §6.4)', () =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ header: { url: `${asked().url}x` } }), [403, 'unauthorized'])
    }))

  it('of another content type is refused (RFC 8555 §6.2)', () =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ headers: { 'Content-Type': 'application/json' } }), [415, 'malformed'])
    }))
})

describe('a JWS', () => {
  const order = () => ({ identifiers: identifiers([name]) })
  const sent = (spoilt: Parameters<AcmeRequests['post']>[3]): Promise<Reply> =>
    acme.post(acme.directory.newOrder, order(), account, spoilt)

  it.each([
    ['with two signatures', ({ payload, ...one }: Jws) => ({ payload, signatures: [one, one] })],
    ['with one signature in general form', ({ payload, ...one }: Jws) => ({ payload, signatures: [one] })],
    ['with an unprotected header', (jws: Jws) => ({ ...jws, header: { kid: 'x' } })],
    ['without a signature', ({ signature: _, ...rest }: Jws) => rest],
    ['with an empty signature', (jws: Jws) => ({ ...jws, signature: '' })],
    ['in compact form', (jws: Jws) => `${jws.protected}.${jws.payload}.${jws.signature}`],
    ['that is cut off', (jws: Jws) => JSON.stringify(jws).slice(0, -2)],
    ['in base64 with padding', (jws: Jws) => ({ ...jws, signature: `${jws.signature}==` })],
    ['that is a list', (jws: Jws) => [jws]],
  ])('%s is refused', (_, spoil) =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ signed: spoil }), [400, 'malformed'])
    }),
  )

  it.each([
    ['b64 false (RFC 8555 §6.2)', { b64: false, crit: ['b64'] }],
    ['b64 false without crit', { b64: false }],
    ['a critical extension that nobody knows', { crit: ['exp'], exp: 1 }],
    ['jwk and kid', () => ({ jwk: account.key.jwk })],
    ['neither jwk nor kid', { kid: undefined }],
    ['8 kB and more of header', { more: 'x'.repeat(10_000) }],
    ['no url', { url: undefined }],
  ])('with %s is refused', (_, header) =>
    story.withoutIssuance(async () => {
      const spoilt = typeof header === 'function' ? header() : header
      await story.expectRefused(await sent({ header: spoilt }), [400, 'malformed'])
    }),
  )

  it('with a header of 200 kB is refused before anybody reads it', () =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ header: { more: 'x'.repeat(200_000) } }), [413, 'malformed'])
    }))

  it('without a nonce is refused as one with a bad nonce (RFC 8555 §6.5.2)', () =>
    story.withoutIssuance(async () => {
      await story.expectRefused(await sent({ header: { nonce: undefined } }), [400, 'badNonce'])
    }))

  it('by alg none, by a MAC, or by an algorithm of another key is refused, and the algorithms are told (RFC 8555 §6.2)', () =>
    story.withoutIssuance(async () => {
      for (const alg of ['none', 'HS256', 'ES384', 'RS256', 'PS256', 'ES256K']) {
        const unsigned = alg === 'none' ? { signed: (jws: Jws) => ({ ...jws, signature: 'AA' }) } : {}
        const reply = await sent({ header: { alg }, ...unsigned })
        await story.expectRefused(reply, [400, 'badSignatureAlgorithm'])
        expect(reply.body.algorithms, alg).toEqual(['ES256', 'ES384', 'EdDSA', 'RS256'])
      }
      // The public key as the secret of a MAC (RFC 8725 §2.1).
      const url = acme.directory.newOrder
      const spki = createPublicKey(account.key.privateKey).export({ type: 'spki', format: 'der' })
      const header = { alg: 'HS256', kid: account.kid, nonce: await acme.nonce(), url }
      const jws = macced(header, order(), spki)
      await story.expectRefused(await acme.sendJws(url, jws), [400, 'badSignatureAlgorithm'])
    }))

  it('by the key of another account is refused under this one’s URL', () =>
    story.withoutIssuance(async () => {
      const stranger = { key: createAccountKey(), kid: account.kid }
      await story.expectRefused(await acme.newOrder(stranger, [name]), [400, 'malformed'])
    }))

  it('by an account that does not exist is refused (RFC 8555 §6.2)', () =>
    story.withoutIssuance(async () => {
      const nobody = { key: account.key, kid: `${account.kid}0` }
      await story.expectRefused(await acme.newOrder(nobody, [name]), [400, 'accountDoesNotExist'])
    }))

  it('by a key that is too weak is refused (RFC 8555 §6.2)', () =>
    story.withoutIssuance(async () => {
      const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
      const other = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
      for (const [{ privateKey, publicKey }, alg] of [
        [weak, 'RS256'],
        [other, 'ES256'],
      ] as const) {
        const key = accountKey(privateKey, publicKey, alg)
        await story.expectRefused(await acme.newAccount(key, null), [400, 'badPublicKey'])
      }
    }))
})

describe('finalize', () => {
  const refusedCsr = (csr: string, type = 'badCSR'): Promise<void> =>
    story.withoutIssuance(async () => {
      const order = must(await acme.newOrder(account, [name]), 201)
      await story.expectRefused(await acme.post(order.body.finalize, { csr }, account), [400, type])
      expect((await acme.settled(account, order.headers.location as string)).body.status).toBe('ready')
    })

  it.each([
    ['another name', ['other.internal']],
    ['a name more', [name, 'other.internal']],
    ['no name', []],
  ])('with a request for %s is refused (RFC 8555 §7.4)', async (_, names) => {
    await refusedCsr(derOf(await requestFor(names)))
  })

  it('with a common name that was not ordered is refused', async () => {
    await refusedCsr(derOf(await createKey([dnsName(name)], 'other.internal')))
  })

  it('with the account’s own key is refused (RFC 8555 §11.1)', async () => {
    const key = await requestFor([name])
    const own = { key: accountKey(key.privateKey, key.publicKey, 'ES256'), kid: '' }
    const binding = await story.binding([name])
    const { kid } = await acme.account(binding, own.key)
    await story.withoutIssuance(async () => {
      const order = must(await acme.newOrder({ ...own, kid }, [name]), 201)
      const reply = await acme.post(order.body.finalize, { csr: derOf(key) }, { ...own, kid })
      await story.expectRefused(reply, [400, 'badCSR'])
    })
  })

  it('with a key that belongs to another account’s certificate is refused', async () => {
    const other = await story.account([name])
    await story.withoutIssuance(async () => {
      const order = must(await acme.newOrder(other, [name]), 201)
      const reply = await acme.post(order.body.finalize, { csr: derOf(issued.key) }, other)
      await story.expectRefused(reply, [400, 'badCSR'])
    })
  })

  it('with what is no request is refused', async () => {
    for (const csr of ['AAAA', 'x'.repeat(20_000)]) await refusedCsr(csr)
    for (const csr of ['', '====']) await refusedCsr(csr, 'malformed')
  })
})

describe('a revocation', () => {
  it('by somebody who has neither the account, the names nor the key is refused', () =>
    story.withoutIssuance(async () => {
      const url = acme.directory.revokeCert
      await story.expectRefused(await acme.post(url, revocationOf(issued), createAccountKey()), [403, 'unauthorized'])
      const reason = { ...revocationOf(issued), reason: 7 }
      await story.expectRefused(await acme.post(url, reason, account), [400, 'badRevocationReason'])
      const foreign = { certificate: encoded('no certificate') }
      await story.expectRefused(await acme.post(url, foreign, account), [400, 'malformed'])
    }))
})
