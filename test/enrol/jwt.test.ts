// Tokens of identity providers, against a real provider on loopback: what enrols, and everything that must not.
import { createHash, createHmac, createPublicKey } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { exportSPKI, importJWK } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createLeaf } from '../../src/audit/leaf.ts'
import { keyThumbprint } from '../../src/jws/verify-token.ts'
import { createKey } from '../http/harness.ts'
import { until } from '../story/until.ts'
import { type Admitting, startAdmitting } from './admitting.ts'
import { createProviderKey, type Provider, startProvider } from './provider.ts'

let world: Admitting
let provider: Provider

beforeAll(async () => {
  world = await startAdmitting()
  await world.front.ca.registerAgent('ci-acme')
  await world.front.ca.registerAgent('other')
})
afterAll(() => world?.[Symbol.asyncDispose]())
beforeEach(async () => {
  provider = await startProvider()
})
afterEach(async () => {
  world.removeAll()
  await provider[Symbol.asyncDispose]()
})

const yaml = (of: Provider, more = '', rules = '[{agent: "ci-{owner}", require: {branch: main}}]'): string =>
  `kind: jwt
issuer: ${of.issuer}
audience: https://ca.test
algorithms: [RS256, ES256]
keys: {from: discovery, caFile: ${of.caFile}}
${more}
rules: ${rules}
`
const claims = { owner: 'acme', branch: 'main' }
const jwt = async (choices: Parameters<Provider['token']>[0] = {}) => ({
  type: 'jwt',
  jwt: await provider.token({ ...choices, claims: { ...claims, ...choices.claims } }),
})
const b64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('a token of a configured provider', () => {
  it('makes its holder the agent that the rule names, and says so in the log', async () => {
    world.add('github', yaml(provider))
    const { status, body } = await world.enrol(await jwt())
    expect([status, body.agent]).toEqual([201, 'ci-acme'])
    expect(world.leaves('evidence_admitted')[0]).toMatchObject({
      about: 'agent:ci-acme',
      attestor: 'github',
      type: 'jwt',
      issuer: provider.issuer,
    })
    expect(world.leaves('intent_recorded')[0]).toMatchObject({ attestor: 'github', instance: body.instance })
  })

  it('by RSA is as good as one by an elliptic curve', async () => {
    provider.keys = [await createProviderKey('r1', 'RS256'), ...provider.keys]
    world.add('github', yaml(provider))
    expect((await world.enrol(await jwt())).status).toBe(201)
  })

  it('is used once: the same key is answered again, another one is refused and raises an alarm', async () => {
    world.add('github', yaml(provider))
    const [evidence, key] = [await jwt(), await createKey()]
    const first = await world.enrol(evidence, key)
    const again = await world.enrol(evidence, key)
    expect([again.status, again.body.serial]).toEqual([200, first.body.serial])
    const thief = await world.enrol(evidence)
    expect([thief.status, thief.body.code]).toEqual([403, 'token_reuse'])
    expect(thief.body.detail).toBe('this evidence was already used with another key')
    expect(world.leaves('token_reuse')[0]).toMatchObject({ about: 'agent:ci-acme' })
  })

  it('is used once without a jti too, however its signature is spelt', async () => {
    world.add('github', yaml(provider))
    const { jwt: text } = await jwt({ claims: { jti: undefined } })
    expect((await world.enrol({ type: 'jwt', jwt: text })).status).toBe(201)
    // ECDSA: (r, n - s) is as good a signature as (r, s).
    const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
    const [signed, signature] = [text.slice(0, text.lastIndexOf('.')), Buffer.from(text.split('.')[2]!, 'base64url')]
    const s = (n - BigInt(`0x${signature.subarray(32).toString('hex')}`)).toString(16).padStart(64, '0')
    const other = `${signed}.${Buffer.concat([signature.subarray(0, 32), Buffer.from(s, 'hex')]).toString('base64url')}`
    const replayed = await world.enrol({ type: 'jwt', jwt: other })
    expect([replayed.status, replayed.body.code]).toEqual([403, 'token_reuse'])
  })

  it('is used once although nothing of it is in memory any more', async () => {
    world.add('github', yaml(provider))
    const evidence = await jwt()
    expect((await world.enrol(evidence)).status).toBe(201)
    world.removeAll()
    world.add('github', yaml(provider))
    expect((await world.enrol(evidence)).body.code).toBe('token_reuse')
  })

  it('is one of its subject: the same jti of another subject is another token, and nobody gets what it led to', async () => {
    world.add('github', yaml(provider, '', '[{agent: ci-acme, require: {sub: a}}, {agent: other, require: {sub: b}}]'))
    const [a, b] = [await jwt({ claims: { sub: 'a', jti: '1' } }), await jwt({ claims: { sub: 'b', jti: '1' } })]
    expect((await world.enrol(a)).body.agent).toBe('ci-acme')
    expect(await world.enrol(b)).toMatchObject({ status: 201, body: { agent: 'other' } })
  })

  it.each([
    ['no rule takes any more', '[{agent: "ci-{owner}", require: {branch: release}}]', 'branch: another value'],
    ['stands for another agent now', '[{agent: other, require: {branch: main}}]', 'admitted for another before'],
  ])('that was admitted, and that %s, is refused', async (_what, rules, missed) => {
    world.add('github', yaml(provider))
    const [evidence, key] = [await jwt(), await createKey()]
    const context = { requestId: 'r', who: 'anonymous', source: '127.0.0.1' }
    await world.admission.admit(evidence as never, { csr: key.csr, context })
    world.removeAll()
    world.add('github', yaml(provider, '', rules))
    const { status, body } = await world.enrol(evidence, key)
    expect([status, body.code]).toEqual([403, 'evidence_not_matched'])
    expect(world.leaves('evidence_refused')[0].missed).toContain(missed)
  })

  it('that can be older than a restore is refused, while a fresh one enrols', async () => {
    world.add('github', yaml(provider, 'clockSkew: 30s'))
    const restoredAt = Date.now() - 60_000
    try {
      world.restored({ restoredAt, endedAt: restoredAt + 1 })
      const old = await world.enrol(await jwt({ now: restoredAt + 29_000 }))
      expect([old.status, old.body.code]).toEqual([401, 'evidence_before_restore'])
      expect(world.leaves('evidence_refused')[0]).toMatchObject({ code: 'evidence_before_restore' })
      expect((await world.enrol(await jwt({ now: restoredAt + 32_000 }))).status).toBe(201)
    } finally {
      world.restored(null)
    }
  })

  it('leaves nothing in the ledger in maintenance, and with a request that nobody signed', async () => {
    world.add('github', yaml(provider))
    const { id } = world.ledger.registrations.find('agent', 'ci-acme')!
    const admitted = () => world.ledger.tokens.list({ registrationId: id, limit: 1 })[0]?.id
    const before = admitted()
    const key = await createKey()
    const spoilt = Buffer.from(key.csr)
    spoilt[spoilt.length - 1]! ^= 1
    const unsigned = await world.enrol(await jwt(), { ...key, csrText: spoilt.toString('base64') })
    expect(unsigned.body.code).toBe('csr_signature_invalid')
    try {
      world.restored({ restoredAt: Date.now() - 3_600_000, endedAt: null })
      expect((await world.enrol(await jwt())).body.code).toBe('maintenance')
    } finally {
      world.restored(null)
    }
    expect(admitted()).toBe(before)
  })

  it('that leads to nothing is taken a thousand times for an agent, and goes when it has ended', async () => {
    world.add('github', yaml(provider))
    const { id } = world.ledger.registrations.find('agent', 'ci-acme')!
    const { tokens } = world.ledger
    const now = Date.now()
    const leaf = createLeaf('evidence_admitted', { at: now, who: 'test' }, 'agent:ci-acme', {})
    const evidence = { type: 'jwt', attestor: 'github', issuer: 'i', subject: 's' } as const
    const unclaimed = (n: number) =>
      tokens.create(
        {
          ...{
            id: `unclaimed-${n}`,
            hash: createHash('sha256').update(`unclaimed-${n}`).digest('hex'),
            registrationId: id,
          },
          ...{ audience: 'ca', uses: 1, boundKeyHash: null, expiresAt: now + 600_000 },
          ...{ createdAt: now, createdBy: 'attestor:github', evidence },
        },
        leaf,
      )
    const left = 1_000 - tokens.unclaimedEvidence({ registrationId: id, now, limit: 1_000 })
    await Promise.all(Array.from({ length: left }, (_, n) => unclaimed(n)))
    const { status, body } = await world.enrol(await jwt())
    expect([status, body.code]).toEqual([429, 'evidence_limit_reached'])
    const used = tokens.list({ registrationId: id, limit: 1_000_000 }).filter(({ usesTaken }) => usesTaken > 0)
    const step = { before: now + 86_400_000, limit: 600 }
    expect(await tokens.pruneEvidence({ ...step, before: now - 3_600_000 })).toBe(0)
    expect([await tokens.pruneEvidence(step), (await tokens.pruneEvidence(step)) > 0]).toEqual([600, true])
    expect(tokens.list({ registrationId: id, limit: 1_000_000 })).toEqual(used)
    expect((await world.enrol(await jwt())).status).toBe(201)
  })

  it('of two at once with different keys enrols one', async () => {
    world.add('github', yaml(provider))
    const evidence = await jwt()
    const answers = await Promise.all([world.enrol(evidence), world.enrol(evidence), world.enrol(evidence)])
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 403, 403])
  })

  it('that is bound to a key (cnf.jkt) enrols that key only', async () => {
    world.add('github', yaml(provider))
    const key = await createKey()
    const spki = new Uint8Array(key.publicKey.export({ type: 'spki', format: 'der' }))
    const bound = { cnf: { jkt: await keyThumbprint(spki) } }
    const thief = await world.enrol(await jwt({ claims: bound }))
    expect([thief.status, thief.body.code]).toEqual([403, 'key_not_bound'])
    expect((await world.enrol(await jwt({ claims: bound }), key)).status).toBe(201)
    const unreadable = await world.enrol(await jwt({ claims: { cnf: { kid: 'x' } } }))
    expect([unreadable.status, unreadable.body.code]).toEqual([403, 'evidence_not_matched'])
  })
})

describe('what does not match', () => {
  it('is refused without saying by which claim, which only the log tells', async () => {
    world.add('github', yaml(provider))
    const { status, body } = await world.enrol(await jwt({ claims: { branch: 'feature' } }))
    expect([status, body.code]).toEqual([403, 'evidence_not_matched'])
    expect(JSON.stringify(body)).not.toContain('branch')
    expect(world.leaves('evidence_refused')[0]).toMatchObject({
      code: 'evidence_not_matched',
      attestor: 'github',
      missed: '1: branch: another value',
    })
  })

  it('is refused for an agent that nobody registered', async () => {
    world.add('github', yaml(provider))
    const { status, body } = await world.enrol(await jwt({ claims: { owner: 'stranger' } }))
    expect([status, body.code]).toEqual([401, 'registration_not_found'])
  })

  it('never becomes the CA itself', async () => {
    world.add('github', yaml(provider, '', '[{service: "agent{owner}", require: {branch: main}}]'))
    const { body } = await world.enrol(await jwt({ claims: { owner: 'ca' } }))
    expect(body.code).toBe('registration_not_found')
  })
})

describe('a token is refused', () => {
  const cases: readonly (readonly [string, string, () => Promise<object>])[] = [
    ['of another issuer', 'evidence_issuer_unknown', () => jwt({ claims: { iss: 'https://elsewhere.test' } })],
    ['for another audience', 'evidence_issuer_unknown', () => jwt({ claims: { aud: 'https://elsewhere.test' } })],
    ['that has expired', 'jwt_expired', () => jwt({ now: Date.now() - 600_000 })],
    ['that is from the future', 'jwt_not_current', () => jwt({ now: Date.now() + 120_000 })],
    ['that begins later', 'jwt_not_current', () => jwt({ claims: { nbf: Math.floor(Date.now() / 1000) + 120 } })],
    ['that lives for too long', 'jwt_life_too_long', () => jwt({ lifeSeconds: 7200 })],
    ['without an end', 'jwt_malformed', () => jwt({ claims: { exp: undefined } })],
    ['without a beginning', 'jwt_malformed', () => jwt({ claims: { iat: undefined } })],
    ['that is none', 'jwt_malformed', async () => ({ type: 'jwt', jwt: 'a.b.c' })],
    [
      'with an algorithm that is not allowed',
      'jwt_algorithm_not_allowed',
      async () => {
        const key = await createProviderKey('p1', 'PS256')
        provider.keys = [key]
        return jwt({ key })
      },
    ],
    [
      'without a signature (none)',
      'jwt_algorithm_not_allowed',
      async () => {
        const body = (await jwt()).jwt.split('.')[1]
        return { type: 'jwt', jwt: `${b64({ alg: 'none', kid: 'k1' })}.${body}.` }
      },
    ],
    [
      'that is signed by HMAC under the public key',
      'jwt_algorithm_not_allowed',
      async () => {
        const body = (await jwt()).jwt.split('.')[1]
        const signed = `${b64({ alg: 'HS256', kid: 'k1' })}.${body}`
        const secret = await exportSPKI((await importJWK(provider.keys[0]!.jwk, 'ES256')) as CryptoKey)
        return { type: 'jwt', jwt: `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}` }
      },
    ],
    [
      'whose signature is of another key under the same kid',
      'jwt_signature_invalid',
      async () => jwt({ key: await createProviderKey('k1') }),
    ],
    [
      'that says RS256 over a key of an elliptic curve',
      'jwt_key_unknown',
      async () => jwt({ key: await createProviderKey('k1', 'RS256') }),
    ],
    [
      'with a critical header that nobody here knows',
      'jwt_malformed',
      async () => {
        const [header, body, signature] = (await jwt()).jwt.split('.')
        const changed = { ...JSON.parse(Buffer.from(header!, 'base64url').toString()), crit: ['x-new'], 'x-new': 1 }
        return { type: 'jwt', jwt: `${b64(changed)}.${body}.${signature}` }
      },
    ],
  ]
  it.each(cases)('%s: %s', async (_what, code, evidence) => {
    world.add('github', yaml(provider))
    const { status, body } = await world.enrol(await evidence())
    expect([body.code, status]).toEqual([code, code === 'jwt_malformed' ? 400 : 401])
  })

  it.each(['../../etc/passwd', 'https://evil.test/keys', "k1' OR '1'='1", '__proto__', 'k1\u0000'])(
    'whose kid is %j: it chooses among known keys and does nothing else',
    async kid => {
      world.add('github', yaml(provider))
      const evil = await createProviderKey(kid)
      const { status, body } = await world.enrol(await jwt({ key: evil }))
      expect([status, body.code]).toEqual([401, 'jwt_key_unknown'])
      expect(new Set(provider.asked)).toEqual(new Set(['/.well-known/openid-configuration', '/keys']))
    },
  )

  it('whose header brings its own key or tells where it is: jku, x5u and jwk are not looked at', async () => {
    world.add('github', yaml(provider))
    const evil = await createProviderKey('k9')
    const header = { jku: `${provider.issuer}/evil`, x5u: `${provider.issuer}/evil`, jwk: evil.jwk }
    const { body } = await world.enrol(await jwt({ key: evil, header }))
    expect(body.code).toBe('jwt_key_unknown')
    expect(provider.asked).not.toContain('/evil')
  })

  it('within the allowed skew it is taken, in both directions', async () => {
    world.add('github', yaml(provider, 'clockSkew: 2m'))
    expect((await world.enrol(await jwt({ now: Date.now() + 60_000 }))).status).toBe(201)
    expect((await world.enrol(await jwt({ now: Date.now() - 360_000, lifeSeconds: 300 }))).status).toBe(201)
  })
})

describe('two providers', () => {
  it('with the same key id are two: neither signs for the other', async () => {
    await using second = await startProvider()
    world.add('first', yaml(provider))
    world.add('second', yaml(second, '', '[{agent: other, require: {branch: main}}]'))
    const [a, b] = [
      await world.enrol(await jwt()),
      await world.enrol({ type: 'jwt', jwt: await second.token({ claims }) }),
    ]
    expect([a.body.agent, b.body.agent]).toEqual(['ci-acme', 'other'])
    const forged = await second.token({ claims: { ...claims, iss: provider.issuer } })
    const refused = await world.enrol({ type: 'jwt', jwt: forged })
    expect(refused.body.code).toBe('jwt_signature_invalid')
  })

  it('have token ids of their own', async () => {
    await using second = await startProvider()
    world.add('first', yaml(provider))
    world.add('second', yaml(second, '', '[{agent: other, require: {branch: main}}]'))
    const jti = 'the-same'
    expect((await world.enrol(await jwt({ claims: { jti } }))).status).toBe(201)
    expect((await world.enrol({ type: 'jwt', jwt: await second.token({ claims: { ...claims, jti } }) })).status).toBe(
      201,
    )
  })
})

describe("a provider's keys", () => {
  it('roll over: a token of a key that is new is taken at once, and of one that is gone refused', async () => {
    const attestor = world.add('github', yaml(provider))
    await until('the keys are known', () => attestor.status().state === 'ready')
    const [old, next] = [provider.keys[0]!, await createProviderKey('k2')]
    provider.keys = [next]
    expect((await world.enrol(await jwt({ key: next }))).body.code).toBe('jwt_key_unknown')
    // Within seconds of the last look the provider is not asked again, whoever makes up keys.
    world.time.aheadMs += 10_000
    expect((await world.enrol(await jwt({ key: next }))).status).toBe(201)
    const { body } = await world.enrol(await jwt({ key: old }))
    expect(body.code).toBe('jwt_key_unknown')
  })

  it('are not fetched for every made-up key id', async () => {
    world.add('github', yaml(provider))
    expect((await world.enrol(await jwt())).status).toBe(201)
    const before = provider.asked.length
    const made = await createProviderKey('made-up')
    for (let i = 0; i < 20; i++) expect((await world.enrol(await jwt({ key: made }))).status).toBe(401)
    expect(provider.asked.length - before).toBeLessThanOrEqual(4)
  })

  it('that were known are used while the provider gives garbage', async () => {
    const attestor = world.add('github', yaml(provider))
    await until('the keys are known', () => attestor.status().state === 'ready')
    provider.answerKeys = response => response.end('<html>down for maintenance</html>')
    world.time.aheadMs += 10_000
    await world.enrol(await jwt({ key: await createProviderKey('unknown') }))
    expect(attestor.status().state).toBe('stale')
    expect((await world.enrol(await jwt())).status).toBe(201)
    // A key that nobody could look up may be a new one: not refused, but asked to come again.
    const { status, headers } = await world.enrol(await jwt({ key: await createProviderKey('newer') }))
    expect([status, Number(headers['retry-after']) > 0]).toEqual([503, true])
    // Not for ever: what was known a day ago is not known any more.
    world.time.aheadMs += 86_400_001
    expect((await world.enrol(await jwt())).body.code).toBe('attestor_unavailable')
    expect(attestor.status().state).toBe('down')
  })

  type Answer = (response: ServerResponse, provider: Provider) => void
  const text =
    (body: string): Answer =>
    response =>
      response.end(body)
  const discovery =
    (keys: (provider: Provider) => string): Answer =>
    (response, of) =>
      response.end(JSON.stringify({ issuer: of.issuer, jwks_uri: keys(of) }))
  const broken: readonly (readonly [string, 'answerKeys' | 'answerDiscovery', Answer])[] = [
    ['not JSON', 'answerKeys', text('{"keys": [')],
    ['no key set', 'answerKeys', text('[]')],
    ['an empty set', 'answerKeys', text('{"keys": []}')],
    ['secret keys only', 'answerKeys', text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')],
    ['an answer without end', 'answerKeys', response => flood(response)],
    ['status 500', 'answerKeys', response => response.writeHead(500).end()],
    ['a redirect', 'answerKeys', (r, { issuer }) => r.writeHead(302, { location: `${issuer}/keys2` }).end()],
    ["another's discovery", 'answerDiscovery', text('{"issuer": "https://evil.test", "jwks_uri": ""}')],
    ['keys on another origin', 'answerDiscovery', discovery(() => 'https://127.0.0.2:1/keys')],
    ['keys over plain HTTP', 'answerDiscovery', discovery(({ issuer }) => issuer.replace('https', 'http'))],
  ]
  it.each(broken)('that are %s: nobody is believed, and 503 says when to come again', async (_what, which, answer) => {
    provider[which] = response => answer(response, provider)
    const attestor = world.add('github', yaml(provider))
    const { status, body, headers } = await world.enrol(await jwt())
    expect([status, body.code]).toEqual([503, 'attestor_unavailable'])
    expect(Number(headers['retry-after'])).toBeGreaterThan(0)
    expect(attestor.status()).toMatchObject({ state: 'down', keys: 0 })
    expect(attestor.status().problem).not.toBeNull()
    expect(provider.asked).not.toContain('/keys2')
  })

  it('of a provider that is not there, or is slow, keep no other agent from enrolling', async () => {
    provider.answerDiscovery = () => {}
    world.add('github', yaml(provider))
    const waiting = world.enrol(await jwt())
    const token = await world.front.createToken('other')
    const other = await world.enrol({ type: 'token', token })
    expect(other.status).toBe(201)
    expect((await waiting).body.code).toBe('attestor_unavailable')
  })

  it('of a server whose certificate another authority signed are not believed', async () => {
    await using second = await startProvider()
    world.add('github', yaml(provider).replace(provider.caFile, second.caFile))
    expect((await world.enrol(await jwt())).body.code).toBe('attestor_unavailable')
    expect(provider.asked).toEqual([])
  })
})

const flood = (response: { write(text: string): boolean; end(): void }): void => {
  response.write('{"keys": [')
  for (let i = 0; i < 400; i++) response.write(`"${'x'.repeat(1000)}",`)
}

// A key that says what it is in two places must not be two.
it('the thumbprint is that of RFC 7638, whichever way the key came', async () => {
  const jwk = {
    kty: 'RSA',
    n: '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw',
    e: 'AQAB',
  }
  const spki = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'der' })
  expect(await keyThumbprint(new Uint8Array(spki))).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs')
})
