// Each lint against the defect it exists for, in certificates that are otherwise those of the template.
import { describe, expect, it } from 'vitest'
import { concatBytes, fromHex, toHex } from '../../src/base/bytes.ts'
import { encodeSignatureAlgorithm } from '../../src/pki/algorithms.ts'
import { type CertificateDraft, encodeTbsCertificate } from '../../src/pki/certificate.ts'
import { explicit, integer, sequence, time } from '../../src/pki/der.ts'
import * as ext from '../../src/pki/extensions.ts'
import { dnsName, type GeneralName, ipName, uriName } from '../../src/pki/general-names.ts'
import { createLeafTemplate, type LeafFields, type LeafTemplateOptions } from '../../src/pki/leaf-template.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { agentSpiffeId, operatorSpiffeId, parseTrustDomain, serviceSpiffeId } from '../../src/pki/spiffe.ts'
import { findingsOf, lints, lintTbs } from '../../src/policy/lint.ts'
import { createTestKey } from '../pki/keys.ts'

const domain = parseTrustDomain('example.org')
const now = Date.UTC(2026, 5, 1, 12)
const crl = 'http://ca.example.org/crl/issuing-1.crl'
const ocsp = 'http://ca.example.org/ocsp'
const caIssuers = 'http://ca.example.org/aia/issuing-1.cer'

const options: LeafTemplateOptions = {
  issuerDer: encodeName([['CN', 'issuing']]),
  signatureAlgorithm: 'ecdsa-with-SHA256',
  authorityKeyId: new Uint8Array(20).fill(3),
  keyUsage: ['digitalSignature'],
  extendedKeyUsage: [oidOf.clientAuth],
  crlDistributionPoint: crl,
  authorityInfoAccess: { ocsp: [ocsp], caIssuers: [caIssuers] },
}
const fields: LeafFields = {
  serial: Uint8Array.from([1, ...new Uint8Array(15).fill(7)]),
  notBefore: now - 60_000,
  notAfter: now + 3_600_000,
  subjectCn: 'agent-a',
  spkiDer: createTestKey('P-256').spki.der,
  spiffeId: agentSpiffeId(domain, 'a', '1'),
  scopesVersion: 1,
}
const agent = createLeafTemplate(options).draft(fields)
const serviceOptions = { ...options, extendedKeyUsage: [oidOf.clientAuth, oidOf.serverAuth] }
const service = createLeafTemplate(serviceOptions).draft({
  ...fields,
  subjectCn: 'svc-a',
  spiffeId: serviceSpiffeId(domain, 'a'),
  dnsNames: ['a.example.org', '*.a.example.org', 'localhost'],
  ipAddresses: [Uint8Array.of(127, 0, 0, 1), new Uint8Array(16)],
})
const operator = createLeafTemplate(options).draft({
  ...fields,
  subjectCn: 'op-a',
  spiffeId: operatorSpiffeId(domain, 'a'),
})
const { crlDistributionPoint: _c, authorityInfoAccess: _a, ...bare } = options
const short = createLeafTemplate({ ...bare, noRevAvail: 'present' }).draft({ ...fields, notAfter: now + 900_000 })

/** The draft with one extension exchanged, added or, `null`, left out. */
const withExtension = (draft: CertificateDraft, oid: string, extension: ext.Extension | null): CertificateDraft => ({
  ...draft,
  extensions: [...draft.extensions.filter(each => each.oid !== oid), ...(extension === null ? [] : [extension])],
})
const withNames = (draft: CertificateDraft, ...names: readonly GeneralName[]): CertificateDraft =>
  withExtension(draft, oidOf.subjectAltName, ext.subjectAltName(names))
const flipped = (draft: CertificateDraft, oid: string): CertificateDraft => {
  const found = draft.extensions.find(each => each.oid === oid)!
  return withExtension(draft, oid, { ...found, critical: !found.critical })
}
const lintsOf = (tbs: Uint8Array): readonly string[] => findingsOf(tbs).map(({ lint }) => lint)
const uri = (id: string) => uriName(id)
const agentId = uri(fields.spiffeId!)
const serviceId = uri('spiffe://example.org/service/a')

const p224 = fromHex(
  `304e301006072a8648ce3d020106052b81040021033a0004${'b70e0cbd6bb4bf7f321390b94a03c1d356c21122343280d6115c1d21'}${'bd376388b5f723fb4c22dfe6cd4375a05a07476444d5819985007e34'}`,
)!
const offCurve = Uint8Array.from(fields.spkiDer)
offCurve[offCurve.length - 1]! ^= 1

const defects: readonly (readonly [lint: string, defect: string, draft: CertificateDraft])[] = [
  ['serial-number', 'of 21 octets', { ...agent, serial: new Uint8Array(21).fill(1) }],
  ['serial-number', 'too short for 64 random bits', { ...agent, serial: Uint8Array.of(1) }],
  ['validity', 'ends before it begins', { ...agent, notAfter: agent.notBefore }],
  ['validity', 'of an agent for more than a week', { ...agent, notAfter: now + 7 * 86_400_000 + 60_000 }],
  ['validity', 'of a service for more than 90 days', { ...service, notAfter: now + 91 * 86_400_000 }],
  ['validity', 'of an operator for more than 90 days', { ...operator, notAfter: now + 91 * 86_400_000 }],
  ['public-key', 'on P-224', { ...agent, spkiDer: p224 }],
  ['public-key', 'off its curve', { ...agent, spkiDer: offCurve }],
  [
    'known-extensions',
    'names constraints',
    withExtension(agent, '', ext.nameConstraints({ permitted: [dnsName('a')], excluded: [] })),
  ],
  ['known-extensions', 'OCSP responder', withExtension(agent, '', ext.ocspNoCheck())],
  ['known-extensions', 'key usage not critical', flipped(agent, oidOf.keyUsage)],
  ['known-extensions', 'critical extended key usage', flipped(agent, oidOf.extendedKeyUsage)],
  ['known-extensions', 'critical scopes version', flipped(agent, oidOf.agentScopesVersion)],
  ['subject-alt-name', 'critical beside a subject', flipped(agent, oidOf.subjectAltName)],
  ['spiffe-id', 'two URIs', withNames(agent, agentId, uri('spiffe://example.org/agent/a/i/2'))],
  ['spiffe-id', 'no URI', withNames(agent, dnsName('a.example.org'))],
  ['spiffe-id', 'not of our layout', withNames(agent, uri('spiffe://example.org/workload'))],
  ['spiffe-id', 'no SPIFFE ID', withNames(agent, uri('https://example.org/'))],
  ['host-names', 'an underscore', withNames(service, serviceId, dnsName('a_b.example.org'))],
  ['host-names', 'upper case', withNames(service, serviceId, dnsName('A.example.org'))],
  ['host-names', 'an address as a DNS name', withNames(service, serviceId, dnsName('127.0.0.1'))],
  ['host-names', 'a mask', withNames(service, serviceId, ipName(new Uint8Array(8)))],
  ['host-names', 'an e-mail address', withNames(service, serviceId, { kind: 'email', value: 'a@example.org' })],
  ['host-names', 'an address of an agent', withNames(agent, agentId, ipName(new Uint8Array(4)))],
  [
    'host-names',
    'a DNS name of an operator',
    withNames(operator, uri('spiffe://example.org/operator/a'), dnsName('a')),
  ],
  ['common-name', 'of somebody else', { ...agent, subjectDer: encodeName([['CN', 'postgres']]) }],
  [
    'common-name',
    'twice',
    {
      ...agent,
      subjectDer: encodeName([
        ['CN', 'agent-a'],
        ['CN', 'agent-a'],
      ]),
    },
  ],
  [
    'common-name',
    'beside an organisation',
    {
      ...agent,
      subjectDer: encodeName([
        ['O', 'x'],
        ['CN', 'agent-a'],
      ]),
    },
  ],
  [
    'basic-constraints',
    'a CA',
    withExtension(agent, oidOf.basicConstraints, ext.basicConstraints({ isCa: true, pathLength: null })),
  ],
  [
    'basic-constraints',
    'a path length',
    withExtension(agent, oidOf.basicConstraints, ext.basicConstraints({ isCa: false, pathLength: 0 })),
  ],
  ['key-usage', 'missing', withExtension(agent, oidOf.keyUsage, null)],
  [
    'key-usage',
    'signs certificates',
    withExtension(agent, oidOf.keyUsage, ext.keyUsage(['digitalSignature', 'keyCertSign'])),
  ],
  ['extended-key-usage', 'missing', withExtension(agent, oidOf.extendedKeyUsage, null)],
  [
    'extended-key-usage',
    'any',
    withExtension(agent, oidOf.extendedKeyUsage, ext.extendedKeyUsage([oidOf.anyExtendedKeyUsage])),
  ],
  [
    'extended-key-usage',
    'an agent as a server',
    withExtension(agent, oidOf.extendedKeyUsage, ext.extendedKeyUsage([oidOf.serverAuth])),
  ],
  [
    'extended-key-usage',
    'one twice',
    withExtension(agent, oidOf.extendedKeyUsage, ext.extendedKeyUsage([oidOf.clientAuth, oidOf.clientAuth])),
  ],
  ['authority-key-identifier', 'missing', withExtension(agent, oidOf.authorityKeyIdentifier, null)],
  [
    'authority-key-identifier',
    'empty',
    withExtension(agent, oidOf.authorityKeyIdentifier, {
      oid: oidOf.authorityKeyIdentifier,
      critical: false,
      value: sequence(),
    }),
  ],
  [
    'crl-distribution-points',
    'over https',
    withExtension(agent, oidOf.crlDistributionPoints, ext.crlDistributionPoints(['https://ca.example.org/a.crl'])),
  ],
  [
    'authority-info-access',
    'over https',
    withExtension(
      agent,
      oidOf.authorityInfoAccess,
      ext.authorityInfoAccess({ ocsp: ['https://ca.example.org/ocsp'], caIssuers: [] }),
    ),
  ],
  [
    'authority-info-access',
    'empty',
    withExtension(agent, oidOf.authorityInfoAccess, ext.authorityInfoAccess({ ocsp: [], caIssuers: [] })),
  ],
  ['no-rev-avail', 'beside a CRL', withExtension(short, '', ext.crlDistributionPoints([crl]))],
  ['no-rev-avail', 'beside OCSP', withExtension(short, '', ext.authorityInfoAccess({ ocsp: [ocsp], caIssuers: [] }))],
  ['no-rev-avail', 'for an hour', { ...short, notAfter: now + 3_600_000 }],
]

describe('a lint', () => {
  it.each(defects)('%s finds: %s', (lint, _, draft) => expect(lintsOf(encodeTbsCertificate(draft))).toEqual([lint]))

  it('of each name has a defect here, or one of the encoding below', () => {
    const tested = new Set([...defects.map(([lint]) => lint), 'version'])
    expect(lints.map(({ name }) => name).filter(name => !tested.has(name))).toEqual([])
  })

  it('says where its rule stands', () => {
    for (const { citation } of lints) expect(citation).toMatch(/§/)
  })

  it('is quiet about what the template makes of every kind', () => {
    for (const draft of [agent, service, operator, short]) expect(findingsOf(encodeTbsCertificate(draft))).toEqual([])
  })
})

describe('the encoding', () => {
  const tbs = encodeTbsCertificate(agent)

  it('is refused with an extension twice (RFC 5280 §4.2)', () => {
    const twice = { ...agent, extensions: [...agent.extensions, ext.keyUsage(['digitalSignature'])] }
    expect(findingsOf(encodeTbsCertificate(twice))).toEqual([
      expect.objectContaining({ lint: 'encoding', problem: 'extension twice: keyUsage' }),
    ])
  })

  it('is that of version 3 (RFC 5280 §4.1.2.1)', () => {
    const { serial, issuerDer, notBefore, notAfter, subjectDer, spkiDer } = agent
    const validity = sequence(time(notBefore), time(notAfter))
    const algorithm = encodeSignatureAlgorithm(agent.signatureAlgorithm)
    const old = sequence(explicit(0, integer(1)), integer(serial), algorithm, issuerDer, validity, subjectDer, spkiDer)
    expect(lintsOf(old)).toContain('version')
  })

  it('has no negative serial (RFC 5280 §4.1.2.2)', () => {
    const negative = fromHex(toHex(tbs).replace('02100107', '02108107'))!
    expect(lintsOf(negative)).toEqual(['serial-number'])
  })

  it('is refused truncated or with something behind', () => {
    expect(lintsOf(tbs.subarray(0, -1))).toEqual(['encoding'])
    expect(lintsOf(concatBytes([tbs, Uint8Array.of(0)]))).toEqual(['encoding'])
  })

  it('throws with every finding: a fault of this program', () => {
    expect(() =>
      lintTbs(encodeTbsCertificate({ ...agent, serial: Uint8Array.of(1), notAfter: agent.notBefore })),
    ).toThrow(
      expect.objectContaining({
        code: 'lint_failed',
        facts: { findings: [expect.stringContaining('serial-number'), expect.stringContaining('validity')] },
      }),
    )
    expect(lintTbs(tbs)).toBe(tbs)
  })
})

describe('a leaf like one that was linted', () => {
  const template = createLeafTemplate(options)
  const good = template.encode(fields)
  const kept = (tbs: Uint8Array): boolean => {
    // What is remembered last is the good one again, whatever a changed one left behind.
    lintTbs(good)
    try {
      return lintTbs(tbs) === tbs
    } catch (error) {
      expect(error).toMatchObject({ code: 'lint_failed' })
      return false
    }
  }

  it('is judged as every lint would judge it, whichever octet is another one', () => {
    let refused = 0
    for (let at = 0; at < good.length; at++)
      for (const change of [0x01, 0x20, 0x80, 0xff]) {
        const changed = good.slice()
        changed[at]! ^= change
        const expected = findingsOf(changed).length === 0
        expect(kept(changed), `octet ${at} changed by ${change}`).toBe(expected)
        if (!expected) refused++
      }
    expect(refused).toBeGreaterThan(good.length)
  })

  it('is judged by its own name, life, key and serial', () => {
    const changes: readonly (readonly [Partial<LeafFields>, boolean])[] = [
      [
        { spiffeId: agentSpiffeId(domain, 'b', '2'), subjectCn: 'agent-b', spkiDer: createTestKey('P-256').spki.der },
        true,
      ],
      [{ spiffeId: agentSpiffeId(domain, 'b', '2') }, false],
      [{ subjectCn: 'agent-b' }, false],
      [{ notBefore: now, notAfter: now - 60_000 }, false],
      [{ notAfter: now + 400 * 86_400_000 }, false],
      [{ notBefore: now - 120_000, notAfter: now + 3_540_000 }, true],
      [{ spkiDer: fields.spkiDer.with(60, fields.spkiDer[60]! ^ 1) }, false],
    ]
    for (const [change, expected] of changes) {
      const changed = template.encode({ ...fields, ...change })
      expect(changed.length).toBe(good.length)
      expect(kept(changed)).toBe(expected)
    }
  })
})
