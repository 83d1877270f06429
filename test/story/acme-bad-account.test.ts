// Bad input about accounts: bindings that are not good, other accounts' things, keys that are in use, and two who want the same at once.
import { createHash, createPublicKey } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LeafAnswer } from '../../src/schema/admin-answers.ts'
import type { Reply } from '../http/harness.ts'
import { type AcmeStory, startIssuedStory, urn } from './acme-refusals.ts'
import {
  type Account,
  type AccountKey,
  AcmeRequests,
  accountKey,
  bound,
  createAccountKey,
  derOf,
  encoded,
  flipped,
  keyChange,
  must,
  type OrderedCertificate,
  requestFor,
  revocationOf,
  signed,
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

// First, while the signer, whose clock is the machine's, still goes along with the story's.
describe('two at once', () => {
  it('with one binding: one account is made', async () => {
    const binding = await story.binding()
    const replies = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const client = await AcmeRequests.at(story.api)
        const reply = await client.newAccount(createAccountKey(), binding)
        client.close()
        return reply
      }),
    )
    expect(replies.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(403)])
    for (const { status, body } of replies) if (status === 403) expect(body.type).toBe(`${urn}unauthorized`)
  })

  it('with one nonce: one request is done', async () => {
    const nonce = await acme.nonce()
    const clients = await Promise.all(Array.from({ length: 8 }, () => AcmeRequests.at(story.api)))
    const replies = await Promise.all(
      clients.map(client => client.post(account.kid, undefined, account, { header: { nonce } })),
    )
    for (const client of clients) client.close()
    expect(replies.map(({ status }) => status).sort()).toEqual([200, ...Array(7).fill(400)])
    for (const { status, body } of replies) if (status === 400) expect(body.type).toBe(`${urn}badNonce`)
  })

  it('that finalize one order with different keys: one certificate comes of it', async () => {
    const order = must(await acme.newOrder(account, [name]), 201)
    const clients = await Promise.all(Array.from({ length: 4 }, () => AcmeRequests.at(story.api)))
    const before = (await story.operator.json<unknown[]>('cert list --all')).length
    const replies = await Promise.all(
      clients.map(async client => client.post(order.body.finalize, { csr: derOf(await requestFor([name])) }, account)),
    )
    for (const client of clients) client.close()
    expect(replies.map(({ status, text }) => (status === 200 ? status : text))).toEqual([200, 200, 200, 200])
    const done = await acme.settled(account, order.headers.location as string)
    expect(done.body.status).toBe('valid')
    expect((await story.operator.json<unknown[]>('cert list --all')).length).toBe(before + 1)
  })
})

describe('a client that lies about where it is', () => {
  it('gets URLs of publicUrl, whatever it calls the host, and no leave for pages of others (CORS)', async () => {
    const headers = { Host: 'evil.example', Origin: 'https://evil.example' }
    const { body, headers: answered } = await acme.send(`${story.api}/acme/directory`, { headers })
    for (const url of [body.newNonce, body.newAccount, body.newOrder, body.revokeCert, body.keyChange])
      expect(url.startsWith(`${story.api}/acme/`)).toBe(true)
    const order = await acme.post(acme.directory.newOrder, { identifiers: [{ type: 'dns', value: name }] }, account, {
      headers,
    })
    for (const url of [must(order, 201).headers.location, order.body.finalize, ...order.body.authorizations])
      expect(url.startsWith(`${story.api}/acme/`)).toBe(true)
    for (const header of Object.keys({ ...answered, ...order.headers })) expect(header).not.toMatch(/^access-control-/)
  })
})

describe('an account', () => {
  it('of an agent that is held orders and finalizes nothing, and is told why; released, it goes on', async () => {
    const own = await story.account([name])
    const order = must(await acme.newOrder(own, [name]), 201)
    await story.operator.json(`agent hold ${own.agent}`)
    await story.withoutIssuance(async () => {
      const replies = [
        await acme.newOrder(own, [name]),
        await acme.post(order.body.finalize, { csr: derOf(await requestFor([name])) }, own),
      ]
      for (const reply of replies) {
        await story.expectRefused(reply, [403, 'unauthorized'])
        expect(reply.body.detail).toMatch(/held/)
      }
    })
    await story.operator.json(`agent release ${own.agent}`)
    await acme.certificate(own, [name])
  })

  it('of an agent that is retired, or that was deactivated, is over', async () => {
    const retired = await story.account([name])
    await story.operator.json(`agent retire ${retired.agent} --yes`)
    const deactivated = await story.account([name])
    must(await acme.post(deactivated.kid, { status: 'deactivated' }, deactivated), 200)
    await story.withoutIssuance(async () => {
      for (const own of [retired, deactivated])
        await story.expectRefused(await acme.newOrder(own, [name]), [401, 'unauthorized'])
    })
  })
})

describe('an external account binding', () => {
  const refusedBinding = async (reply: Reply, type = 'malformed', status = 400): Promise<void> =>
    story.withoutIssuance(() => story.expectRefused(reply, [status, type]))

  const withBinding = (key: AccountKey, binding: unknown): Promise<Reply> =>
    acme.newAccount(key, null, { externalAccountBinding: binding })

  it('is required', async () => {
    await refusedBinding(await acme.newAccount(createAccountKey(), null), 'externalAccountRequired', 403)
  })

  it('with a wrong MAC, of another key, URL or algorithm makes no account, and is not used up by it', async () => {
    const binding = await story.binding()
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
    // Whoever cannot make its MAC is not called by its name either; whoever can is.
    const leaves = await story.operator.json<LeafAnswer[]>('audit tail -n 200')
    const named = leaves.filter(({ content }) => JSON.stringify(content).includes(`eab:${binding.kid}`))
    expect(named.map(({ content }) => content?.event)).toEqual(['request_refused'])
    must(await withBinding(key, good), 201)
  })

  it('makes one account, and no second one', async () => {
    const binding = await story.binding()
    const { key, kid } = await acme.account(binding)
    await refusedBinding(await acme.newAccount(createAccountKey(), binding), 'unauthorized', 403)
    // Its own account is found again by its key (RFC 8555 §7.3.1).
    const again = must(await acme.newAccount(key, binding), 200)
    expect(again.headers.location).toBe(kid)
  })

  it('that was revoked, or of an agent that is held, makes none', async () => {
    const revoked = await story.binding()
    await story.operator.json(`acme eab revoke ${revoked.kid}`)
    await refusedBinding(await acme.newAccount(createAccountKey(), revoked), 'unauthorized', 403)
    const held = await story.binding()
    await story.operator.json(`agent hold ${held.agent}`)
    await refusedBinding(await acme.newAccount(createAccountKey(), held), 'unauthorized', 403)
    await story.operator.json(`agent release ${held.agent}`)
    must(await acme.newAccount(createAccountKey(), held), 201)
  })
})

describe('another account', () => {
  it('sees and changes nothing of this one’s', () =>
    story.withoutIssuance(async () => {
      const other = await story.account(['other.internal'])
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
        [acme.directory.revokeCert, revocationOf(issued)],
      ]
      for (const [url, payload] of attempts)
        await story.expectRefused(await acme.post(url, payload, other), [403, 'unauthorized'])
      expect((await acme.settled(account, ready.headers.location as string)).body.status).toBe('ready')
    }))

  it('orders no name that was granted to this one only', () =>
    story.withoutIssuance(async () => {
      const other = await story.account(['other.internal'])
      const reply = await acme.newOrder(other, ['other.internal', name])
      await story.expectRefused(reply, [400, 'rejectedIdentifier'])
      expect(reply.body.subproblems).toMatchObject([
        { type: `${urn}rejectedIdentifier`, identifier: { type: 'dns', value: name } },
      ])
    }))
})

describe('a change of the account key', () => {
  const change = (inner: unknown, of: Account = account): Promise<Reply> =>
    acme.post(acme.directory.keyChange, inner, of)

  it('to a key in use is refused, and tells where (RFC 8555 §7.3.5)', async () => {
    const other = await story.account()
    const reply = await change(keyChange(acme, account, other.key))
    await story.expectRefused(reply, [409, 'malformed'])
    expect(reply.headers.location).toBe(other.kid)
  })

  it('to a key that was revoked, or that a certificate has, is refused', async () => {
    const stolen = createAccountKey()
    const spki = createPublicKey(stolen.privateKey).export({ type: 'spki', format: 'der' })
    const hash = createHash('sha256').update(spki).digest('hex')
    await story.operator.json(`revoke --key ${hash} --reason keyCompromise --yes`)
    await story.expectRefused(await change(keyChange(acme, account, stolen)), [400, 'badPublicKey'])
    const certified = accountKey(issued.key.privateKey, issued.key.publicKey, 'ES256')
    await story.expectRefused(await change(keyChange(acme, account, certified)), [409, 'malformed'])
    must(await acme.post(account.kid, undefined, account), 200)
  })

  it('that the new key did not sign, or for another account, old key or URL, is refused', async () => {
    const key = createAccountKey()
    const other = await story.account()
    const url = acme.directory.keyChange
    const claims = { account: account.kid, oldKey: account.key.jwk }
    const header = { alg: key.alg, jwk: key.jwk, url }
    for (const inner of [
      flipped(keyChange(acme, account, key)),
      signed(header, claims, createAccountKey()),
      keyChange(acme, other, key),
      keyChange(acme, account, key, other.key),
      signed({ ...header, url: `${url}x` }, claims, key),
      signed({ ...header, nonce: await acme.nonce() }, claims, key),
      signed({ alg: key.alg, kid: account.kid, url }, claims, key),
      claims,
    ])
      await story.expectRefused(await change(inner), [400, 'malformed'])
    must(await acme.post(account.kid, undefined, account), 200)
  })
})
