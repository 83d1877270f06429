// What a registration gets under a profile, judged by @peculiar/x509 (same input, same to-be-signed bytes), by the signer's own checks
// and by the names and keys that requests may not have.
import '../../src/pki/reflect-metadata.ts'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import type { AgentCaError } from '../../src/base/errors.ts'
import { type ActiveIssuer, createDrafter } from '../../src/ca/draft.ts'
import type { IssuanceTerms, LintedDraft } from '../../src/ca/issuance.ts'
import { statusUrls } from '../../src/ca/issuers.ts'
import type { KeyAlgorithm } from '../../src/pki/algorithms.ts'
import { type Certificate, parseCertificate, parseTbsCertificate } from '../../src/pki/certificate.ts'
import { createCsr, parseCertificationRequest, type RequestDraft } from '../../src/pki/csr.ts'
import { integer } from '../../src/pki/der.ts'
import { dnsName, type GeneralName, ipName, uriName } from '../../src/pki/general-names.ts'
import { parseIpAddress } from '../../src/pki/host-names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { buildCaCertificate } from '../../src/pki/peculiar.ts'
import { parseTrustDomain } from '../../src/pki/spiffe.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { faultsOfProfile } from '../../src/policy/ceilings.ts'
import { createProfileBook, type ProfileBook } from '../../src/policy/profile-book.ts'
import { parseProfile } from '../../src/schema/profile.ts'
import { loadProfiles } from '../../src/server/profiles.ts'
import { defaultCeilings } from '../../src/signer/config.ts'
import { createHighWater } from '../../src/signer/high-water.ts'
import { checkPurpose } from '../../src/signer/purpose-checks.ts'
import type { PurposeKey } from '../../src/signer/refusal.ts'
import type { Registration } from '../../src/store/records.ts'
import { createTestKey, type TestKey } from '../pki/keys.ts'

const trustDomain = parseTrustDomain('example.org')
const now = Date.UTC(2026, 5, 1, 12, 0, 0, 250)
const second = Math.floor(now / 1000) * 1000
const day = 86_400_000
const urls = statusUrls('http://ca.example.org')
const profiles = loadProfiles(join(import.meta.dirname, '../../ca-config/profiles'))
const issuingKey = createTestKey('P-256')
const leafKey = createTestKey('P-256')
const stateDirectory = mkdtempSync(join(tmpdir(), 'agentca-draft-'))
afterAll(() => rmSync(stateDirectory, { recursive: true, force: true }))

let issuing: Certificate
beforeAll(async () => {
  issuing = await buildCaCertificate({
    subject: [
      ['O', 'Example'],
      ['CN', 'issuing'],
    ],
    spki: issuingKey.spki,
    issuer: 'self',
    issuerKey: issuingKey.external,
    serial: Uint8Array.of(1),
    notBefore: second - day,
    notAfter: second + 365 * day,
    pathLength: 0,
  })
})

const registrationOf = (more: Partial<Registration> & Pick<Registration, 'kind' | 'profile'>): Registration => ({
  id: 1,
  name: 'orders',
  owner: 'finance',
  purpose: '',
  roles: [],
  attributes: {},
  scopes: [],
  boundKeyHash: null,
  managedBy: null,
  dnsNames: [],
  instanceLimit: null,
  operatorRole: null,
  until: null,
  state: 'active',
  version: 7,
  createdAt: 0,
  changedAt: 0,
  ...more,
})
const agent = registrationOf({ kind: 'agent', profile: 'agent' })
const service = registrationOf({
  kind: 'service',
  profile: 'service',
  dnsNames: ['orders.internal', 'Orders.Example.org', '127.0.0.1', '::1', '0:0::1', 'orders.internal'],
})

const requestOf = async (key: TestKey, more: Omit<RequestDraft, 'spkiDer'> = {}) =>
  parseCertificationRequest(await createCsr({ spkiDer: key.spki.der, sign: key.signDer, ...more }))
const asking = (...subjectAltNames: readonly GeneralName[]) => requestOf(leafKey, { subjectAltNames })
const ip = (text: string) => ipName(parseIpAddress(text)!)

interface Circumstances {
  readonly request?: Awaited<ReturnType<typeof requestOf>>
  readonly book?: ProfileBook
  readonly issuer?: Partial<ActiveIssuer>
  readonly at?: number
  readonly terms?: IssuanceTerms
}

const draft = async (registration: Registration, circumstances: Circumstances = {}): Promise<LintedDraft> => {
  const { request = await requestOf(leafKey), book = profiles, issuer = {}, at = now, terms } = circumstances
  const active: ActiveIssuer = {
    id: 2,
    keyLabel: 'issuing-1',
    spki: issuingKey.spki,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    certificate: issuing,
    keyIdentifier: keyIdentifier(issuingKey.spki),
    crlDistributionPoint: urls.crl('issuing-1'),
    crlShards: null,
    authorityInfoAccess: { ocsp: [urls.ocsp], caIssuers: [urls.aia('issuing-1')] },
    ...issuer,
  }
  const drafter = createDrafter({
    trustDomain,
    activeIssuer: () => active,
    issuerOf: () => active,
    profile: book.get,
    serialPrefix: 5,
    randomBytes: () => new Uint8Array(10).fill(9),
  })
  return drafter.draft({ registration, instanceId: 'i1', csr: request, now: at, terms })
}

const refusal = (drafting: Promise<LintedDraft>): Promise<{ readonly code: string; readonly outside?: unknown }> =>
  drafting.then(
    () => ({ code: 'drafted' }),
    ({ code, facts }: AgentCaError) => ({ code, outside: facts.outside }),
  )

/** The same certificate from @peculiar/x509's own classes. */
const foreignTbs = async (
  drafted: LintedDraft,
  subject: string,
  extensions: readonly x509.Extension[],
): Promise<string> => {
  const built = await x509.X509CertificateGenerator.create({
    serialNumber: drafted.serial,
    subject: new x509.Name([{ CN: [{ utf8String: subject }] }]),
    issuer: new x509.Name(new Uint8Array(issuing.subjectDer).buffer),
    notBefore: new Date(drafted.notBefore),
    notAfter: new Date(drafted.notAfter),
    publicKey: new x509.PublicKey(new Uint8Array(leafKey.spki.der)),
    signature: new Uint8Array(64).fill(1),
    signingAlgorithm: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      ...extensions,
      new x509.Extension(oidOf.agentScopesVersion, false, new Uint8Array(integer(7))),
    ],
  })
  return toHex(parseCertificate(new Uint8Array(built.rawData)).tbs)
}
const usages = (...names: readonly ('clientAuth' | 'serverAuth')[]) =>
  new x509.ExtendedKeyUsageExtension(names.map(name => x509.ExtendedKeyUsage[name]))
const authorityKey = () => new x509.AuthorityKeyIdentifierExtension(toHex(keyIdentifier(issuingKey.spki)))
const statusExtensions = () => [
  new x509.CRLDistributionPointsExtension(['http://ca.example.org/crl/issuing-1.crl']),
  new x509.AuthorityInfoAccessExtension({
    ocsp: new x509.GeneralName('url', 'http://ca.example.org/ocsp'),
    caIssuers: new x509.GeneralName('url', 'http://ca.example.org/aia/issuing-1.cer'),
  }),
]

describe('the drafted bytes are those that @peculiar/x509 makes', () => {
  it('for an agent', async () => {
    const drafted = await draft(agent)
    expect(toHex(drafted.tbs)).toBe(
      await foreignTbs(drafted, 'agent-orders', [
        usages('clientAuth'),
        authorityKey(),
        ...statusExtensions(),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org/agent/orders/i/i1' }]),
      ]),
    )
  })

  it('for a life too short to be revoked: no URLs, and an extension that says so (RFC 9608)', async () => {
    const drafted = await draft({ ...agent, profile: 'agent-short' })
    expect(toHex(drafted.tbs)).toBe(
      await foreignTbs(drafted, 'agent-orders', [
        usages('clientAuth'),
        authorityKey(),
        new x509.Extension(oidOf.noRevAvail, false, new Uint8Array([5, 0])),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org/agent/orders/i/i1' }]),
      ]),
    )
  })

  it('for a service with DNS names and addresses, each once', async () => {
    const drafted = await draft(service)
    expect(toHex(drafted.tbs)).toBe(
      await foreignTbs(drafted, 'svc-orders', [
        usages('clientAuth', 'serverAuth'),
        authorityKey(),
        ...statusExtensions(),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: 'spiffe://example.org/service/orders' },
          { type: 'dns', value: 'orders.internal' },
          { type: 'dns', value: 'orders.example.org' },
          { type: 'ip', value: '127.0.0.1' },
          { type: 'ip', value: '::1' },
        ]),
      ]),
    )
  })

  it('for an operator', async () => {
    const drafted = await draft(registrationOf({ kind: 'operator', profile: 'operator' }))
    expect(toHex(drafted.tbs)).toBe(
      await foreignTbs(drafted, 'op-orders', [
        usages('clientAuth'),
        authorityKey(),
        ...statusExtensions(),
        new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org/operator/orders' }]),
      ]),
    )
  })
})

describe('names come from the registration', () => {
  it('and a request may repeat them, in any spelling of a name', async () => {
    const own = uriName('spiffe://example.org/agent/orders/i/i1')
    await expect(draft(agent, { request: await asking(own) })).resolves.toMatchObject({ notGranted: [] })
    const request = await asking(
      dnsName('ORDERS.internal'),
      ip('0:0:0::1'),
      uriName('spiffe://example.org/service/orders'),
    )
    await expect(draft(service, { request })).resolves.toMatchObject({ notGranted: [] })
  })

  it.each<[string, Registration, GeneralName, string]>([
    [
      'another agent',
      agent,
      uriName('spiffe://example.org/agent/billing/i/i1'),
      'uri:spiffe://example.org/agent/billing/i/i1',
    ],
    [
      'another instance',
      agent,
      uriName('spiffe://example.org/agent/orders/i/i2'),
      'uri:spiffe://example.org/agent/orders/i/i2',
    ],
    ['a DNS name under a profile without', agent, dnsName('orders.internal'), 'dns:orders.internal'],
    ['another DNS name', service, dnsName('billing.internal'), 'dns:billing.internal'],
    ['another address', service, ip('10.0.0.1'), 'ip:10.0.0.1'],
    ['a mask', service, ipName(Uint8Array.of(10, 0, 0, 0, 255, 0, 0, 0)), 'ip:0a000000ff000000'],
    ['an e-mail address', service, { kind: 'email', value: 'root@example.org' }, 'email:root@example.org'],
    ['a registered id', service, { kind: 'registeredId', oid: '1.2.3' }, 'registeredId:1.2.3'],
    ['a directory name', service, { kind: 'directory', nameDer: Uint8Array.of(0x30, 0) }, 'directory'],
    ['a name of no known kind', service, { kind: 'other', der: Uint8Array.of(0xa0, 0) }, 'other'],
  ])('refused, and named: %s', async (_, registration, name, text) =>
    expect(await refusal(draft(registration, { request: await asking(name) }))).toEqual({
      code: 'name_not_granted',
      outside: [text],
    }),
  )

  it('names every one outside the grant at once', async () => {
    const request = await asking(dnsName('orders.internal'), dnsName('a'), dnsName('b'))
    expect(await refusal(draft(service, { request }))).toEqual({
      code: 'name_not_granted',
      outside: ['dns:a', 'dns:b'],
    })
  })

  it('what an order rests on the registration for has to be registered still, in whatever form it is written', async () => {
    const terms = { profile: 'service', hosts: ['orders.internal'], notBefore: null, notAfter: null }
    const listed = ['orders.internal', 'ORDERS.example.org', '0:0::1']
    expect(await refusal(draft(service, { terms: { ...terms, listed } }))).toMatchObject({ code: 'drafted' })
    expect(
      await refusal(draft(service, { terms: { ...terms, listed: ['orders.internal', 'lost.internal'] } })),
    ).toEqual({
      code: 'name_not_granted',
      outside: ['lost.internal'],
    })
  })

  it.each(['a_b.internal', 'a b', '*', 'ä.example'])(
    'a registered name that no certificate can have is refused: %s',
    async name =>
      expect(await refusal(draft({ ...service, dnsNames: ['good', name] }))).toEqual({
        code: 'name_not_granted',
        outside: [name],
      }),
  )

  it('an agent has DNS names where its profile says so, addresses never', async () => {
    const book = createProfileBook([parseProfile('agent', 'kind: agent\ndnsNames: registration')])
    const { tbs } = await draft({ ...agent, dnsNames: ['orders.internal'] }, { book })
    expect(parseTbsCertificate(tbs).dnsNames).toEqual(['orders.internal'])
    expect(await refusal(draft({ ...agent, dnsNames: ['10.0.0.1'] }, { book }))).toMatchObject({
      code: 'name_not_granted',
    })
  })

  it('the subject and the extensions of a request are ignored and reported', async () => {
    const request = await requestOf(leafKey, { subjectCn: 'postgres' })
    const drafted = await draft(agent, { request })
    expect(drafted.notGranted).toEqual(['subject'])
    const asked = {
      ...request,
      requestedExtensions: [{ oid: oidOf.extendedKeyUsage, critical: false, value: new Uint8Array() }],
    }
    expect((await draft(agent, { request: asked })).notGranted).toEqual(['subject', 'extendedKeyUsage'])
  })
})

describe('keys', () => {
  it.each<KeyAlgorithm>(['P-256', 'P-384', 'Ed25519', 'RSA'])(
    'of a kind that the profile takes: %s',
    async algorithm => {
      const key = createTestKey(algorithm)
      const { tbs } = await draft(agent, { request: await requestOf(key) })
      expect(toHex(parseTbsCertificate(tbs).spkiDer)).toBe(toHex(key.spki.der))
    },
  )

  it('of another kind are refused', async () => {
    const book = createProfileBook([parseProfile('agent', 'kind: agent\nkeyAlgorithms: [P-384, Ed25519]')])
    await expect(draft(agent, { book })).rejects.toMatchObject({
      code: 'key_not_accepted',
      hint: 'generate a P-384 key',
      facts: { algorithm: 'P-256', accepted: ['P-384', 'Ed25519'] },
    })
  })
})

describe('a profile', () => {
  it.each(['service', 'none'])(
    'is of the own kind, or an agent would become a server, and exists: not %s',
    async profile => expect(await refusal(draft({ ...agent, profile }))).toMatchObject({ code: 'profile_unknown' }),
  )

  it('that the book accepts is accepted by the signer too, at every ceiling', async () => {
    const key: PurposeKey = {
      label: 'issuing-1',
      curve: 'P-256',
      spki: issuingKey.spki.der,
      spkiSha256Hex: '',
      purposes: ['leaf'],
      issuer: {
        subjectDer: issuing.subjectDer,
        keyIdentifier: keyIdentifier(issuingKey.spki),
        notAfter: issuing.notAfter,
      },
      ceilings: defaultCeilings,
    }
    const deps = { trustDomain, highWater: createHighWater(stateDirectory), keys: () => [key], now: () => now }
    const near = (seconds: number) => fc.integer({ min: seconds - 130, max: seconds + 130 })
    const text = (seconds: fc.Arbitrary<number>) => seconds.map(count => `${count}s`)
    const anyProfile = fc.record({
      kind: fc.constantFrom('agent', 'service', 'operator'),
      lifetime: text(fc.oneof(...[300, 900, 86_400, 90 * 86_400].map(near))),
      backdate: text(fc.integer({ min: 1, max: 310 })),
      extendedKeyUsage: fc.constantFrom(['clientAuth'], ['serverAuth']),
      dnsNames: fc.constantFrom('none', 'registration'),
      ...{ noRevAvail: fc.constantFrom('present', 'absent'), revocationUrls: fc.constantFrom('present', 'absent') },
    })
    let accepted = 0
    await fc.assert(
      fc.asyncProperty(anyProfile, async content => {
        // JSON is YAML.
        const profile = parseProfile('p', JSON.stringify(content))
        if (faultsOfProfile(profile).length > 0) return
        accepted++
        const dnsNames = ['a.example.org', ...(profile.kind === 'service' ? ['10.0.0.1'] : [])]
        const subject = registrationOf({ kind: profile.kind, profile: 'p', dnsNames })
        const { tbs } = await draft(subject, { book: createProfileBook([profile]) })
        checkPurpose(deps, key, { purpose: 'leaf', tbs })()
      }),
      { numRuns: 400 },
    )
    expect(accepted).toBeGreaterThan(10)
  })
})

describe('validity', () => {
  it('begins a little back and lasts as the profile says, in whole seconds', async () =>
    expect(await draft(agent)).toMatchObject({ notBefore: second - 60_000, notAfter: second + 3_600_000 }))

  it('ends with the registration and with the issuer, whichever is first', async () => {
    expect(await draft({ ...agent, until: second + 600_999 })).toMatchObject({ notAfter: second + 600_000 })
    const at = issuing.notAfter - 400_000
    expect(await draft(agent, { at })).toMatchObject({ notAfter: issuing.notAfter })
  })

  it('does not begin before the issuer', async () =>
    expect(await draft(agent, { at: issuing.notBefore + 10_000 })).toMatchObject({ notBefore: issuing.notBefore }))

  it('of less than the floor is refused, not issued', async () => {
    expect(await refusal(draft({ ...agent, until: second + 300_000 }))).toEqual({ code: 'drafted' })
    expect(await refusal(draft({ ...agent, until: second + 299_999 }))).toMatchObject({ code: 'registration_ended' })
    expect(await refusal(draft(agent, { at: issuing.notAfter - 299_000 }))).toMatchObject({ code: 'no_active_issuer' })
  })
})

it('a serial has the prefix of this replica and its time', async () => {
  const { serial, tbs } = await draft(agent)
  expect(serial).toMatch(/^05[0-9a-f]{10}(09){10}$/)
  expect(parseTbsCertificate(tbs).serialHex).toBe(serial)
})

it('URLs of status are left out where the CA has none', async () => {
  const { tbs } = await draft(agent, { issuer: { crlDistributionPoint: null, authorityInfoAccess: null } })
  const { crlDistributionPoints, authorityInfoAccess } = parseTbsCertificate(tbs)
  expect([crlDistributionPoints, authorityInfoAccess]).toEqual([null, null])
})
