// When an identity is renewed, and whether its holder may call: rules over values, without a server.
import { describe, expect, it } from 'vitest'
import type { IssuedCertificate } from '../../src/ca/issuance.ts'
import { instanceStates, registrationStates } from '../../src/ca/state-table.ts'
import type { HolderCaller } from '../../src/http/call.ts'
import { checkCallerState } from '../../src/http/caller-state.ts'
import { identityAnswer, identityJson } from '../../src/http/identity-answer.ts'
import { assembleCertificate, encodeTbsCertificate, parseCertificate } from '../../src/pki/certificate.ts'
import * as ext from '../../src/pki/extensions.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { serialFromHex } from '../../src/pki/serial.ts'
import type { CertificateRecord, CertificateState, Instance, Registration } from '../../src/store/records.ts'
import { createTestKey } from '../pki/keys.ts'

const notBefore = Date.UTC(2026, 10, 24)
const life = 3_660_000
const notAfter = notBefore + life
const key = createTestKey('P-256')
const serialOf = (n: number): string => `01${n.toString(16).padStart(30, '0')}`

const certificateOf = (serial: string, usages: readonly string[] = [oidOf.clientAuth]) => {
  const tbs = encodeTbsCertificate({
    serial: serialFromHex(serial),
    signatureAlgorithm: 'ecdsa-with-SHA256',
    issuerDer: encodeName([['CN', 'issuer']]),
    notBefore,
    notAfter,
    subjectDer: encodeName([['CN', 'agent-a']]),
    spkiDer: key.spki.der,
    extensions: [
      ...(usages.length === 0 ? [] : [ext.extendedKeyUsage(usages)]),
      ext.subjectAltName([{ kind: 'uri', value: 'spiffe://example.org/agent/a/i/1' }]),
    ],
  })
  return parseCertificate(assembleCertificate(tbs, 'ecdsa-with-SHA256', key.signDer(tbs)))
}

const recordOf = (serial: string): CertificateRecord => ({
  serial,
  issuerId: 1,
  kind: 'agent',
  registrationId: 1,
  instanceId: '1',
  generation: 1,
  predecessor: null,
  replaced: false,
  keyHash: '',
  state: 'issued',
  profile: 'agent',
  profileHash: '',
  requester: 'token:1',
  tokenId: null,
  registrationVersion: 1,
  epoch: 1,
  deadline: 0,
  createdAt: notBefore,
  issuedAt: notBefore,
  notBefore,
  notAfter,
  revokedAt: null,
  reason: null,
})

const registration: Registration = {
  id: 1,
  kind: 'agent',
  name: 'a',
  owner: 'alice',
  purpose: '',
  profile: 'agent',
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
  version: 1,
  createdAt: notBefore,
  changedAt: notBefore,
}

const instance: Instance = {
  id: '1',
  registrationId: 1,
  state: 'active',
  headSerial: null,
  lockReason: null,
  recoveries: [],
  createdAt: notBefore,
  changedAt: notBefore,
}

const issuers = { chainPem: () => 'chain', bundlePem: () => 'bundle' }
const issuedOf = (serial: string, notGranted: readonly string[] = []): IssuedCertificate => ({
  record: recordOf(serial),
  certificate: certificateOf(serial).der,
  spiffeId: 'spiffe://example.org/agent/a/i/1',
  registration,
  notGranted,
  answer: 'new',
})

const answerOf = (serial: string, now: number) => identityAnswer(issuedOf(serial), { issuers }, now)

describe('an identity', () => {
  it('as JSON that is put together is what JSON.stringify makes of it, with and without a log key', () => {
    const logKey = '-----BEGIN PUBLIC KEY-----\nAA"\\é\n-----END PUBLIC KEY-----\n'
    for (const context of [{ issuers }, { issuers, logIdentity: { caId: 'agentca+1', logKey } }])
      for (const notGranted of [[], ['subject', '1.2.3 "\n']]) {
        const issued = issuedOf(serialOf(7), notGranted)
        const whole = JSON.stringify(identityAnswer(issued, context, notBefore))
        expect(identityJson(issued, context, notBefore)).toBe(whole)
      }
  })

  it('is renewed after 50 to 66 % of its life, drawn from its serial and spread over the range', () => {
    const shares = Array.from({ length: 300 }, (_, n) => {
      const { renewAfter } = answerOf(serialOf(n + 1), notBefore)
      expect(renewAfter).toBe(answerOf(serialOf(n + 1), notBefore + 1_000_000).renewAfter)
      return (Date.parse(renewAfter) - notBefore) / life
    })
    // Times are whole seconds, cut.
    expect(Math.min(...shares)).toBeGreaterThanOrEqual(0.5 - 1000 / life)
    expect(Math.max(...shares)).toBeLessThanOrEqual(0.66)
    for (let from = 0.5; from < 0.65; from += 0.02)
      expect(shares.filter(share => share >= from && share < from + 0.02).length).toBeGreaterThan(10)
  })

  it('counts down to its renewal and to its end, and never below nothing', () => {
    const serial = serialOf(1)
    const { renewAfter, renewBefore, expiresInSeconds, renewInSeconds } = answerOf(serial, notBefore)
    expect(expiresInSeconds).toBe(3660)
    expect(renewInSeconds).toBe((Date.parse(renewAfter) - notBefore) / 1000)
    expect(Date.parse(renewBefore)).toBe(notBefore + 0.9 * life)
    expect(answerOf(serial, notAfter + 1)).toMatchObject({ renewInSeconds: 0, expiresInSeconds: 0 })
  })
})

interface Changes {
  readonly registration?: Partial<Registration>
  readonly instance?: Partial<Instance>
  readonly certificate?: CertificateState
  readonly usages?: readonly string[]
}

const verdict = (changes: Changes, now = notBefore + 1): string => {
  const serial = serialOf(1)
  const caller: HolderCaller = {
    kind: 'holder',
    certificate: certificateOf(serial, changes.usages),
    record: recordOf(serial),
    spiffeId: 'spiffe://example.org/agent/a/i/1',
  }
  try {
    const present = {
      registration: { ...registration, ...changes.registration },
      instance: { ...instance, ...changes.instance },
      certificate: changes.certificate ?? 'issued',
    }
    checkCallerState(caller, present, now)
    return 'accepted'
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('the holder of a certificate', () => {
  it('may call exactly where the state table says that verifiers accept', () => {
    for (const state of Object.keys(registrationStates) as Registration['state'][])
      for (const instanceState of Object.keys(instanceStates) as Instance['state'][]) {
        const accepted = verdict({ registration: { state }, instance: { state: instanceState } }) === 'accepted'
        const both = [registrationStates[state].verify, instanceStates[instanceState].verify]
        expect([state, instanceState, accepted]).toEqual([state, instanceState, both.every(say => say === 'accept')])
      }
  })

  it('may call with an issued certificate only', () => {
    const verdicts: Readonly<Record<CertificateState, string>> = {
      issued: 'accepted',
      held: 'certificate_held',
      revoked: 'certificate_revoked',
      intent: 'certificate_revoked',
      orphaned: 'certificate_revoked',
      void: 'certificate_revoked',
    }
    for (const [state, expected] of Object.entries(verdicts))
      expect(verdict({ certificate: state as CertificateState })).toBe(expected)
  })

  it('may call within the life of the certificate, and until the end date', () => {
    expect(verdict({}, notBefore - 1)).toBe('client_certificate_invalid')
    expect(verdict({}, notBefore)).toBe('accepted')
    expect(verdict({}, notAfter - 1)).toBe('accepted')
    expect(verdict({}, notAfter)).toBe('certificate_expired')
    expect(verdict({ registration: { until: notBefore + 1 } })).toBe('registration_ended')
    expect(verdict({ registration: { until: notBefore + 2 } })).toBe('accepted')
  })

  it('may call with a certificate for clients only', () => {
    expect(verdict({ usages: [oidOf.serverAuth, oidOf.clientAuth] })).toBe('accepted')
    for (const usages of [[], [oidOf.serverAuth], [oidOf.anyExtendedKeyUsage]])
      expect(verdict({ usages })).toBe('client_certificate_invalid')
  })
})
