// What an agent believes of a chain (RFC 5280 §6.1), and of the other end of a connection.
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import type { PeerCertificate } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { checkChain, checkValidity } from '../../src/agent/chain.ts'
import { spkiOf } from '../../src/agent/key-pair.ts'
import { checkIsCa, checkIsPeer } from '../../src/agent/server-identity.ts'
import {
  assembleCertificate,
  type Certificate,
  encodeTbsCertificate,
  parseCertificate,
} from '../../src/pki/certificate.ts'
import { basicConstraints, type Extension, keyUsage, subjectAltName } from '../../src/pki/extensions.ts'
import { dnsName, type GeneralName, uriName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { encodeSerial } from '../../src/pki/serial.ts'
import type { SpiffeId } from '../../src/pki/spiffe.ts'

const now = Date.UTC(2027, 0, 1)
const day = 86_400_000

interface Made {
  readonly key: KeyObject
  readonly name: string
  readonly certificate: Certificate
}

const make = (
  name: string,
  issuer: Made | 'self',
  extensions: readonly Extension[],
  [notBefore, notAfter] = [now - day, now + day],
): Made => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const by = issuer === 'self' ? { key, name } : issuer
  const tbs = encodeTbsCertificate({
    serial: encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) }),
    signatureAlgorithm: 'ecdsa-with-SHA256',
    issuerDer: encodeName([['CN', by.name]]),
    notBefore,
    notAfter,
    subjectDer: encodeName([['CN', name]]),
    spkiDer: spkiOf(key),
    extensions,
  })
  const der = assembleCertificate(tbs, 'ecdsa-with-SHA256', new Uint8Array(sign('sha256', tbs, by.key)))
  return { key, name, certificate: parseCertificate(der) }
}

const ca = (pathLength: number | null = null): Extension[] => [
  basicConstraints({ isCa: true, pathLength }),
  keyUsage(['keyCertSign', 'cRLSign']),
]
const leafWith = (...names: readonly GeneralName[]): Extension[] => [
  keyUsage(['digitalSignature']),
  subjectAltName(names),
]
const agentLeaf = leafWith(uriName('spiffe://example.org/agent/a/i/1'))

const root = make('root', 'self', ca())
const issuing = make('issuing', root, ca(0))
const leaf = make('leaf', issuing, agentLeaf)

const verdict = (made: Made, intermediates: readonly Made[], roots: readonly Made[] = [root]): string => {
  try {
    checkChain({
      leaf: made.certificate,
      intermediates: intermediates.map(each => each.certificate),
      roots: roots.map(each => each.certificate),
      now,
    })
    return 'believed'
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('a chain', () => {
  it('from leaf over an intermediate to a root is believed, in any order and among strangers', () => {
    const stranger = make('stranger', 'self', ca())
    expect(verdict(leaf, [issuing])).toBe('believed')
    expect(verdict(leaf, [stranger, issuing], [stranger, root])).toBe('believed')
  })

  it('over three intermediates is believed', () => {
    const upper = make('upper', root, ca())
    const lower = make('lower', upper, ca())
    const lowest = make('lowest', lower, ca(0))
    expect(verdict(make('deep', lowest, agentLeaf), [lowest, upper, lower])).toBe('believed')
  })

  const expired = make('expired', root, ca(0), [now - 2 * day, now - day])
  const early = make('early', root, ca(0), [now + day, now + 2 * day])
  const notCa = make('not-ca', root, agentLeaf)
  const crlOnly = make('crl-only', root, [basicConstraints({ isCa: true, pathLength: 0 }), keyUsage(['cRLSign'])])
  const tooDeep = make('too-deep', issuing, ca())
  const namesake = make('issuing', 'self', ca(0))
  const endedRoot = make('ended-root', 'self', ca(), [now - 2 * day, now - day])
  it.each([
    ['without its intermediate', leaf, [], [root]],
    ['without its root', leaf, [issuing], [namesake]],
    ['without any root', leaf, [issuing], []],
    ['signed by a namesake of its issuer', leaf, [namesake], [root]],
    ['over an expired intermediate', make('l1', expired, agentLeaf), [expired], [root]],
    ['over an intermediate of tomorrow', make('l2', early, agentLeaf), [early], [root]],
    ['over a leaf', make('l3', notCa, agentLeaf), [notCa], [root]],
    ['over a CA that may only sign CRLs', make('l4', crlOnly, agentLeaf), [crlOnly], [root]],
    ['longer than its path length allows', make('l5', tooDeep, agentLeaf), [tooDeep, issuing], [root]],
    ['to an expired root', make('l6', endedRoot, agentLeaf), [], [endedRoot]],
  ] as const)('%s is not', (_, made, intermediates, roots) => {
    expect(verdict(made, intermediates, roots)).toBe('answer_not_verified')
  })

  it('of CAs that sign each other ends', () => {
    const one = make('one', 'self', ca())
    const two = make('two', one, ca())
    const oneByTwo = { ...make('one', two, ca()), key: one.key }
    expect(verdict(make('l7', oneByTwo, agentLeaf), [oneByTwo, two, one], [root])).toBe('answer_not_verified')
  })
})

describe('validity', () => {
  it('includes its first and its last second (RFC 5280 §4.1.2.5)', () => {
    const { notBefore, notAfter } = leaf.certificate
    for (const at of [notBefore, notAfter, notAfter + 999])
      expect(() => checkValidity(leaf.certificate, at)).not.toThrow()
    for (const at of [notBefore - 1, notAfter + 1000])
      expect(() => checkValidity(leaf.certificate, at)).toThrow("this machine's clock says")
  })
})

/** As tls.connect hands it over: the text of the names, which must not count, says what an attacker would like to hear. */
const shown = (...names: readonly GeneralName[]): PeerCertificate =>
  ({
    raw: Buffer.from(make('server', issuing, leafWith(...names)).certificate.der),
    subject: { CN: 'server' },
    subjectaltname: `DNS:${names.find(name => name.kind === 'dns')?.value ?? 'ca.example.org'}`,
  }) as unknown as PeerCertificate
const codeOf = (error: Error | undefined): string => (error as { code?: string } | undefined)?.code ?? 'accepted'
const caId = uriName('spiffe://example.org/service/agentca')

describe('the server of the CA', () => {
  const verdictOf = (host: string, trustDomain: string | null, ...names: readonly GeneralName[]): string =>
    codeOf(checkIsCa(trustDomain, () => {})(host, shown(...names)))

  it.each([
    ['its SPIFFE ID, whatever the host', '127.0.0.1', null, [caId], 'accepted'],
    ['its SPIFFE ID in the trust domain that is known', '127.0.0.1', 'example.org', [caId], 'accepted'],
    ['its host name and no SPIFFE ID', 'ca.example.org', null, [dnsName('ca.example.org')], 'accepted'],
    ['the SPIFFE ID of another trust domain', '127.0.0.1', 'other.org', [caId], 'ca_not_verified'],
    ['another host name', 'ca.example.org', null, [dnsName('cb.example.org')], 'ca_not_verified'],
    [
      'another service under the right host name',
      'ca.example.org',
      null,
      [uriName('spiffe://example.org/service/orders'), dnsName('ca.example.org')],
      'ca_not_verified',
    ],
    [
      'an ID that only begins like it',
      '127.0.0.1',
      null,
      [uriName('spiffe://example.org/service/agentca/x')],
      'ca_not_verified',
    ],
    ['two SPIFFE IDs', '127.0.0.1', null, [caId, uriName('spiffe://example.org/service/orders')], 'ca_not_verified'],
  ] as const)('with %s: %s %s', (_what, host, trustDomain, names, expected) => {
    expect(verdictOf(host, trustDomain, ...names)).toBe(expected)
  })

  it('with bytes that are no certificate is refused, not thrown', () => {
    const broken = { ...shown(caId), raw: Buffer.from('3000', 'hex') }
    expect(codeOf(checkIsCa(null, () => {})('127.0.0.1', broken))).toBe('ca_not_verified')
  })

  it('tells which trust domain it has', () => {
    const seen: (string | null)[] = []
    checkIsCa(null, id => seen.push(id))('127.0.0.1', shown(caId))
    checkIsCa(null, id => seen.push(id))('ca.example.org', shown(dnsName('ca.example.org')))
    expect(seen).toEqual(['spiffe://example.org/service/agentca', null])
  })
})

describe('a peer', () => {
  const peer = 'spiffe://example.org/service/orders' as SpiffeId
  it('is exactly the SPIFFE ID that was asked for, by its DER', () => {
    const check = (...names: readonly GeneralName[]) => codeOf(checkIsPeer(peer)('orders', shown(...names)))
    expect(check(uriName(peer))).toBe('accepted')
    expect(check(uriName(`${peer}-2`))).toBe('peer_not_verified')
    expect(check(uriName('spiffe://other.org/service/orders'))).toBe('peer_not_verified')
    expect(check(dnsName('orders'))).toBe('peer_not_verified')
    // A name that looks like a URI in the text form, and is a DNS name in DER.
    expect(check(dnsName(`x, URI:${peer}`))).toBe('peer_not_verified')
  })
})
