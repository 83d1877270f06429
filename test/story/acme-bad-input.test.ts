// Bad input at the ACME door of a CA as it is served: each request is refused with the error type of its RFC, nothing is issued for it, and
// an operator finds it in the audit log by the id in the answer.
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { dirname } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dnsName } from '../../src/pki/general-names.ts'
import type { LeafAnswer } from '../../src/schema/admin-answers.ts'
import type { RunningServer } from '../../src/server/serve.ts'
import { createKey, type Reply } from '../http/harness.ts'
import {
  type Account,
  type AccountKey,
  AcmeRequests,
  accountKey,
  type Binding,
  bound,
  createAccountKey,
  derOf,
  encoded,
  flipped,
  identifiers,
  type Jws,
  leafOf,
  macced,
  must,
  type OrderedCertificate,
  requestFor,
  signed,
  someNonce,
} from './acme-requests.ts'
import { createStoryHome, type StoryHome } from './ca-process.ts'
import { createOperator, type Operator } from './operator.ts'
import { serveHere } from './served-here.ts'

let home: StoryHome
let server: RunningServer
let operator: Operator
let acme: AcmeRequests

const urn = 'urn:ietf:params:acme:error:'

const certificates = async (): Promise<number> => (await operator.json<unknown[]>('cert list --all')).length

/** The story's clock. A leaf of its own has each refusal that does not come in a flood of them: they come eleven seconds apart. */
const time = { aheadMs: 0 }

/** The answer, and the leaf that an operator finds by the id in it. */
const expectRefused = async (reply: Reply, [status, type]: readonly [number, string]): Promise<void> => {
  expect([reply.status, reply.body?.type, reply.headers['content-type']], reply.text).toEqual([
    status,
    urn + type,
    'application/problem+json',
  ])
  expect(reply.body.status).toBe(status)
  expect(reply.body.detail).toMatch(/\S/)
  const leaves = await operator.json<LeafAnswer[]>('audit tail -n 50')
  expect(leaves.map(({ content }) => content?.req)).toContain(reply.headers['x-request-id'])
  time.aheadMs += 11_000
}

/** Whatever happens inside, no certificate comes of it. */
const withoutIssuance = async (act: () => Promise<void>): Promise<void> => {
  const before = await certificates()
  await act()
  expect(await certificates()).toBe(before)
}

let made = 0
/** An agent with an account that may order these names. */
const agentAccount = async (names: readonly string[]): Promise<Account & { readonly agent: string }> => {
  const agent = `acme-${++made}`
  return { ...(await acme.account(await bindingFor(agent, names))), agent }
}

const bindingFor = async (agent: string, names: readonly string[], more = ''): Promise<Binding> => {
  await operator.json(`agent create ${agent} --owner stories ${more}`.trim())
  const granted = names.map(name => ` --dns ${name}`).join('')
  return operator.json<Binding>(`acme eab create --agent ${agent}${granted}`)
}

const name = 'invoices.internal'
let account: Account
let issued: OrderedCertificate
/** Granted and not yet finalized. */
let ready: Reply

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_AUDIT_CHECKPOINTEVERY: '1h' })
  server = await serveHere(home, time)
  operator = createOperator(home.env, dirname(home.paths.home))
  acme = await AcmeRequests.at(server.line.api)
  account = await agentAccount([name])
  issued = await acme.certificate(account, [name])
  ready = must(await acme.newOrder(account, [name]), 201)
}, 120_000)
afterAll(async () => {
  acme?.close()
  await server?.close(0)
  home?.remove()
})

/** Every resource that takes a JWS, with a payload that is right there. */
const endpoints: readonly (readonly [string, () => { url: string; payload?: unknown; by?: AccountKey }])[] = [
  ['newAccount', () => ({ url: acme.directory.newAccount, payload: {}, by: createAccountKey() })],
  ['account', () => ({ url: account.kid, payload: { contact: [] } })],
  ['orders list', () => ({ url: `${account.kid}/orders` })],
  ['keyChange', () => ({ url: acme.directory.keyChange, payload: keyChange(account, createAccountKey()) })],
  ['newOrder', () => ({ url: acme.directory.newOrder, payload: { identifiers: identifiers([name]) } })],
  ['order', () => ({ url: ready.headers.location as string })],
  ['authorization', () => ({ url: ready.body.authorizations[0] })],
  ['finalize', () => ({ url: ready.body.finalize, payload: { csr: derOf(issued.key) } })],
  ['certificate', () => ({ url: issued.order.body.certificate })],
  ['revokeCert', () => ({ url: acme.directory.revokeCert, payload: revocation() })],
]

const revocation = (): object => ({ certificate: Buffer.from(leafOf(issued.pem)).toString('base64url') })

/** RFC 8555 §7.3.5: the new key signs that it is to take the old one's place. */
const keyChange = (of: Account, key: AccountKey, oldKey: AccountKey = of.key): Jws => {
  const url = acme.directory.keyChange
  return signed({ alg: key.alg, jwk: key.jwk, url }, { account: of.kid, oldKey: oldKey.jwk }, key)
}

describe.each(endpoints)('a request to %s', (_, asked) => {
  const sent = (spoilt: Parameters<AcmeRequests['post']>[3]): Promise<Reply> => {
    const { url, payload, by } = asked()
    return acme.post(url, payload, by ?? account, spoilt)
  }

  it('with a signature of which one bit is flipped is refused', () =>
    withoutIssuance(async () => {
      await expectRefused(await sent({ signed: flipped }), [400, 'malformed'])
    }))

  it('with a nonce that was used before is refused, and gets another one (RFC 8555 §6.5)', () =>
    withoutIssuance(async () => {
      const nonce = await acme.nonce()
      await acme.post(account.kid, undefined, account, { header: { nonce } })
      const reply = await sent({ header: { nonce } })
      await expectRefused(reply, [400, 'badNonce'])
      expect(reply.headers['replay-nonce']).toMatch(/^[A-Za-z0-9_-]+$/)
      await expectRefused(await sent({ header: { nonce: someNonce() } }), [400, 'badNonce'])
    }))

  it('that was signed for another URL is refused (RFC 8555 §6.4)', () =>
    withoutIssuance(async () => {
      await expectRefused(await sent({ header: { url: `${asked().url}x` } }), [403, 'unauthorized'])
    }))

  it('of another content type is refused (RFC 8555 §6.2)', () =>
    withoutIssuance(async () => {
      await expectRefused(await sent({ headers: { 'Content-Type': 'application/json' } }), [415, 'malformed'])
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
    withoutIssuance(async () => {
      await expectRefused(await sent({ signed: spoil }), [400, 'malformed'])
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
    withoutIssuance(async () => {
      const spoilt = typeof header === 'function' ? header() : header
      await expectRefused(await sent({ header: spoilt }), [400, 'malformed'])
    }),
  )

  it('with a header of 200 kB is refused before anybody reads it', () =>
    withoutIssuance(async () => {
      await expectRefused(await sent({ header: { more: 'x'.repeat(200_000) } }), [413, 'malformed'])
    }))

  it('without a nonce is refused as one with a bad nonce (RFC 8555 §6.5.2)', () =>
    withoutIssuance(async () => {
      await expectRefused(await sent({ header: { nonce: undefined } }), [400, 'badNonce'])
    }))

  it('by alg none, by a MAC, or by an algorithm of another key is refused, and the algorithms are told (RFC 8555 §6.2)', () =>
    withoutIssuance(async () => {
      for (const alg of ['none', 'HS256', 'ES384', 'RS256', 'PS256', 'ES256K']) {
        const unsigned = alg === 'none' ? { signed: (jws: Jws) => ({ ...jws, signature: 'AA' }) } : {}
        const reply = await sent({ header: { alg }, ...unsigned })
        await expectRefused(reply, [400, 'badSignatureAlgorithm'])
        expect(reply.body.algorithms, alg).toEqual(['ES256', 'ES384', 'EdDSA', 'RS256'])
      }
      // The public key as the secret of a MAC (RFC 8725 §2.1).
      const url = acme.directory.newOrder
      const spki = createPublicKey(account.key.privateKey).export({ type: 'spki', format: 'der' })
      const header = { alg: 'HS256', kid: account.kid, nonce: await acme.nonce(), url }
      const jws = macced(header, order(), spki)
      await expectRefused(await acme.sendJws(url, jws), [400, 'badSignatureAlgorithm'])
    }))

  it('by the key of another account is refused under this one’s URL', () =>
    withoutIssuance(async () => {
      const stranger = { key: createAccountKey(), kid: account.kid }
      await expectRefused(await acme.newOrder(stranger, [name]), [400, 'malformed'])
    }))

  it('by an account that does not exist is refused (RFC 8555 §6.2)', () =>
    withoutIssuance(async () => {
      const nobody = { key: account.key, kid: `${account.kid}0` }
      await expectRefused(await acme.newOrder(nobody, [name]), [400, 'accountDoesNotExist'])
    }))

  it('by a key that is too weak is refused (RFC 8555 §6.2)', () =>
    withoutIssuance(async () => {
      const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
      const other = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
      for (const [{ privateKey, publicKey }, alg] of [
        [weak, 'RS256'],
        [other, 'ES256'],
      ] as const) {
        const key = accountKey(privateKey, publicKey, alg)
        await expectRefused(await acme.newAccount(key, null), [400, 'badPublicKey'])
      }
    }))
})

describe('an external account binding', () => {
  const refusedBinding = async (reply: Reply, type = 'malformed', status = 400): Promise<void> =>
    withoutIssuance(() => expectRefused(reply, [status, type]))

  const withBinding = (key: AccountKey, binding: unknown): Promise<Reply> =>
    acme.newAccount(key, null, { externalAccountBinding: binding })

  it('is required', async () => {
    await refusedBinding(await acme.newAccount(createAccountKey(), null), 'externalAccountRequired', 403)
  })

  it('with a wrong MAC, of another key, URL or algorithm makes no account, and is not used up by it', async () => {
    const binding = await bindingFor(`acme-${++made}`, [])
    const key = createAccountKey()
    const url = acme.directory.newAccount
    const good = bound(binding, key, url)
    const other = createAccountKey()
    const spoilt: readonly (readonly [unknown, number, string])[] = [
      [flipped(good), 403, 'unauthorized'],
      [bound({ ...binding, hmacKey: someNonce() }, key, url), 403, 'unauthorized'],
      [bound({ ...binding, kid: someNonce() }, key, url), 403, 'unauthorized'],
      [bound(binding, other, url), 400, 'malformed'],
      [bound(binding, key, `${url}x`), 400, 'malformed'],
      [signed({ alg: 'ES256', kid: binding.kid, url }, key.jwk, key), 400, 'badSignatureAlgorithm'],
      [{ ...good, protected: encoded({ alg: 'none', kid: binding.kid, url }) }, 400, 'badSignatureAlgorithm'],
      [{ ...good, protected: encoded({ alg: 'HS256', kid: binding.kid, url, nonce: someNonce() }) }, 400, 'malformed'],
      ['x', 400, 'malformed'],
    ]
    for (const [jws, status, type] of spoilt) await refusedBinding(await withBinding(key, jws), type, status)
    must(await withBinding(key, good), 201)
  })

  it('makes one account, and no second one', async () => {
    const binding = await bindingFor(`acme-${++made}`, [])
    const { key, kid } = await acme.account(binding)
    await refusedBinding(await acme.newAccount(createAccountKey(), binding), 'unauthorized', 403)
    // Its own account is found again by its key (RFC 8555 §7.3.1).
    const again = must(await acme.newAccount(key, binding), 200)
    expect(again.headers.location).toBe(kid)
  })

  it('that was revoked, or of an agent that is held, makes none', async () => {
    const revoked = await bindingFor(`acme-${++made}`, [])
    await operator.json(`acme eab revoke ${revoked.kid}`)
    await refusedBinding(await acme.newAccount(createAccountKey(), revoked), 'unauthorized', 403)
    const held = await bindingFor(`acme-${++made}`, [])
    await operator.json(`agent hold acme-${made}`)
    await refusedBinding(await acme.newAccount(createAccountKey(), held), 'unauthorized', 403)
    await operator.json(`agent release acme-${made}`)
    must(await acme.newAccount(createAccountKey(), held), 201)
  })
})

describe('another account', () => {
  it('sees and changes nothing of this one’s', () =>
    withoutIssuance(async () => {
      const other = await agentAccount(['other.internal'])
      const key = await requestFor([name])
      const attempts: readonly (readonly [string, unknown])[] = [
        [ready.headers.location as string, undefined],
        [ready.body.authorizations[0], undefined],
        [ready.body.authorizations[0], { status: 'deactivated' }],
        [ready.body.finalize, { csr: derOf(key) }],
        [issued.order.body.certificate, undefined],
        [account.kid, undefined],
        [account.kid, { status: 'deactivated' }],
        [`${account.kid}/orders`, undefined],
        [acme.directory.revokeCert, revocation()],
      ]
      for (const [url, payload] of attempts)
        await expectRefused(await acme.post(url, payload, other), [403, 'unauthorized'])
      expect((await acme.settled(account, ready.headers.location as string)).body.status).toBe('ready')
    }))

  it('orders no name that was granted to this one only', () =>
    withoutIssuance(async () => {
      const other = await agentAccount(['other.internal'])
      const reply = await acme.newOrder(other, ['other.internal', name])
      await expectRefused(reply, [400, 'rejectedIdentifier'])
      expect(reply.body.subproblems).toMatchObject([
        { type: `${urn}rejectedIdentifier`, identifier: { type: 'dns', value: name } },
      ])
    }))
})

describe('finalize', () => {
  const refusedCsr = (csr: string, type = 'badCSR'): Promise<void> =>
    withoutIssuance(async () => {
      const order = must(await acme.newOrder(account, [name]), 201)
      await expectRefused(await acme.post(order.body.finalize, { csr }, account), [400, type])
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
    const binding = await bindingFor(`acme-${++made}`, [name])
    const { kid } = await acme.account(binding, own.key)
    await withoutIssuance(async () => {
      const order = must(await acme.newOrder({ ...own, kid }, [name]), 201)
      const reply = await acme.post(order.body.finalize, { csr: derOf(key) }, { ...own, kid })
      await expectRefused(reply, [400, 'badCSR'])
    })
  })

  it('with a key that belongs to another account’s certificate is refused', async () => {
    const other = await agentAccount([name])
    await withoutIssuance(async () => {
      const order = must(await acme.newOrder(other, [name]), 201)
      const reply = await acme.post(order.body.finalize, { csr: derOf(issued.key) }, other)
      await expectRefused(reply, [400, 'badCSR'])
    })
  })

  it('with what is no request is refused', async () => {
    for (const csr of ['AAAA', 'x'.repeat(20_000)]) await refusedCsr(csr)
    for (const csr of ['', '====']) await refusedCsr(csr, 'malformed')
  })
})

describe('a change of the account key', () => {
  const change = (inner: unknown, of: Account = account): Promise<Reply> =>
    acme.post(acme.directory.keyChange, inner, of)

  it('to a key in use is refused, and tells where (RFC 8555 §7.3.5)', async () => {
    const other = await agentAccount([])
    const reply = await change(keyChange(account, other.key))
    await expectRefused(reply, [409, 'malformed'])
    expect(reply.headers.location).toBe(other.kid)
  })

  it('that the new key did not sign, or for another account, old key or URL, is refused', async () => {
    const key = createAccountKey()
    const other = await agentAccount([])
    const url = acme.directory.keyChange
    const claims = { account: account.kid, oldKey: account.key.jwk }
    const header = { alg: key.alg, jwk: key.jwk, url }
    for (const inner of [
      flipped(keyChange(account, key)),
      signed(header, claims, createAccountKey()),
      keyChange(other, key),
      keyChange(account, key, other.key),
      signed({ ...header, url: `${url}x` }, claims, key),
      signed({ ...header, nonce: await acme.nonce() }, claims, key),
      signed({ alg: key.alg, kid: account.kid, url }, claims, key),
      claims,
    ])
      await expectRefused(await change(inner), [400, 'malformed'])
    must(await acme.post(account.kid, undefined, account), 200)
  })
})

describe('a revocation', () => {
  it('by somebody who has neither the account, the names nor the key is refused', () =>
    withoutIssuance(async () => {
      const url = acme.directory.revokeCert
      await expectRefused(await acme.post(url, revocation(), createAccountKey()), [403, 'unauthorized'])
      const reason = { ...revocation(), reason: 7 }
      await expectRefused(await acme.post(url, reason, account), [400, 'badRevocationReason'])
      const foreign = { certificate: encoded('no certificate') }
      await expectRefused(await acme.post(url, foreign, account), [400, 'malformed'])
    }))
})
