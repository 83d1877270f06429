// Objects of ACME as clients read them, where a story does not get to.
import { describe, expect, it } from 'vitest'
import { authorizationAnswer, orderAnswer } from '../../src/acme/answers.ts'
import { certificateChain } from '../../src/acme/certificates.ts'
import type { AcmeDeps } from '../../src/acme/deps.ts'
import type { AccountRequest } from '../../src/acme/request.ts'
import { createUrls } from '../../src/acme/urls.ts'
import type { AcmeAuthorization, AcmeOrder } from '../../src/store/acme-port.ts'

const urls = createUrls('https://ca.example')
const identifier = { type: 'dns', value: '*.a.example' } as const
const problem = { type: 'dns', detail: 'there is no such name', identifier }
const failed: AcmeAuthorization = {
  identifier,
  status: 'invalid',
  challenges: [
    { type: 'dns-01', token: 't1', status: 'invalid', problem },
    { type: 'http-01', token: 't2', status: 'pending' },
  ],
}
const order = {
  id: 'o1',
  profile: 'acme',
  authorizations: [failed],
  notBefore: null,
  notAfter: null,
  replaces: null,
  certificate: null,
  error: null,
  expiresAt: 2000,
} as unknown as AcmeOrder
const deps = { urls, clock: { now: () => 1000 } } as unknown as AcmeDeps

describe('an authorization that failed', () => {
  it('shows what decided it, under the name without its wildcard', () => {
    expect(authorizationAnswer(deps, { order, index: 0, authorization: failed })).toMatchObject({
      status: 'invalid',
      wildcard: true,
      identifier: { type: 'dns', value: 'a.example' },
      challenges: [
        {
          type: 'dns-01',
          url: 'https://ca.example/acme/challenge/o1/0/dns-01',
          error: { type: 'urn:ietf:params:acme:error:dns', detail: 'there is no such name' },
        },
      ],
    })
  })

  it('is the reason of its order, with a subproblem for each name', () => {
    expect(orderAnswer(deps, order, 'invalid')).toMatchObject({
      status: 'invalid',
      error: { type: 'urn:ietf:params:acme:error:dns', subproblems: [{ identifier }] },
    })
    const two = {
      ...order,
      authorizations: [
        failed,
        { ...failed, challenges: [{ ...failed.challenges[0], problem: { ...problem, type: 'tls' } }] },
      ],
    }
    expect(orderAnswer(deps, two as AcmeOrder, 'invalid')).toMatchObject({
      error: { type: 'urn:ietf:params:acme:error:compound', subproblems: [{}, {}] },
    })
  })
})

describe('a certificate', () => {
  const issuer = (id: number, kind: 'root' | 'issuing', spkiHash: string) => ({
    record: { id, kind, spkiHash },
    certificate: { subjectDer: Buffer.from('same subject') },
    online: { signatureAlgorithm: 'ecdsa-with-SHA256' },
  })
  const issuers = [
    issuer(1, 'root', 'r'),
    issuer(2, 'issuing', 'k'),
    issuer(3, 'issuing', 'k'),
    issuer(4, 'issuing', 'other'),
  ]
  const row = {
    serial: 'ab',
    issuerId: 2,
    instanceId: 'i',
    issuedAt: 1,
    tbs: Uint8Array.of(0x30, 0),
    signature: Uint8Array.of(1),
  }
  const ca = {
    certificates: { get: () => row },
    issuers: {
      all: () => issuers,
      byId: (id: number) => issuers.find(({ record }) => record.id === id),
      chainPem: (id: number) => `chain ${id}\n`,
    },
  } as unknown as AcmeDeps
  const request = { account: { id: 'i' } } as unknown as AccountRequest

  it('of a CA that was certified twice has two chains, each naming the other as alternate (RFC 8555 §7.4.2)', () => {
    const [first, second] = [certificateChain(ca, request, 'ab', 0), certificateChain(ca, request, 'ab', 1)]
    expect([first.pem.split('\n').at(-2), first.alternates]).toEqual(['chain 2', [1]])
    expect([second.pem.split('\n').at(-2), second.alternates]).toEqual(['chain 3', [0]])
    expect(() => certificateChain(ca, request, 'ab', 2)).toThrow('no such chain')
  })
})
