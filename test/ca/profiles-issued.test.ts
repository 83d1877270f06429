// Every profile of ca-config through a real authority, judged by OpenSSL: what it may be used for, under which names.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createRequester, createTestAuthority, leaf, profiles, type TestAuthority } from './authority.ts'

let ca: TestAuthority
beforeAll(async () => {
  ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const hostName = 'orders.internal'
const addresses = ['127.0.0.1', '2001:db8::1']

/** A certificate under this profile, for a registration of its kind named like it. */
const issueUnder = async (profile: string): Promise<Uint8Array> => {
  const { kind, name } = profiles.get(profile)
  // Addresses are for services only, and operators' profiles look at no name.
  const dnsNames = kind === 'agent' ? [hostName] : [hostName, ...addresses]
  const owner = await ca.ledger.owners.ensure('finance', Date.now(), leaf('owner_created'))
  await ca.ledger.registrations.create(
    {
      ...{ kind, name, profile: name, owner: owner.name, purpose: '', roles: [], attributes: {}, instanceLimit: null },
      ...{ dnsNames, operatorRole: kind === 'operator' ? 'viewer' : null, until: null, at: Date.now() },
    },
    leaf('registration_created'),
  )
  const { csr } = await createRequester()
  const issued = await ca.issuance.issue({
    operation: 'issue',
    evidence: { kind: 'registration', subject: kind, name },
    csr,
    context: { requestId: 'r', who: 'operator:test', source: '127.0.0.1' },
  })
  return issued.certificate
}

const accepts = (certificate: Uint8Array, ...conditions: readonly string[]): boolean => {
  try {
    const chain = ['-CAfile', 'root.pem', '-untrusted', 'issuing.pem', 'leaf.pem']
    const said = ca.openssl(['verify', '-x509_strict', ...conditions, ...chain], {
      'root.pem': encodePem('CERTIFICATE', ca.root.der),
      'issuing.pem': encodePem('CERTIFICATE', ca.issuing.der),
      'leaf.pem': encodePem('CERTIFICATE', certificate),
    })
    return said === 'leaf.pem: OK\n'
  } catch {
    return false
  }
}

describe.each(profiles.list().map(({ name, kind }) => ({ name, kind })))('profile $name', ({ name, kind }) => {
  let certificate: Uint8Array
  beforeAll(async () => {
    certificate = await issueUnder(name)
  })

  it('is a client', () => expect(accepts(certificate, '-purpose', 'sslclient')).toBe(true))

  it('is a server exactly when it is of kind service', () =>
    expect(accepts(certificate, '-purpose', 'sslserver')).toBe(kind === 'service'))

  it('has the registered names exactly when its profile gives them, and no others', () => {
    const named = profiles.get(name).dnsNames === 'registration'
    expect(accepts(certificate, '-verify_hostname', hostName)).toBe(named)
    expect(accepts(certificate, '-verify_ip', '127.0.0.1')).toBe(named && kind === 'service')
    expect(accepts(certificate, '-verify_ip', '2001:db8:0::1')).toBe(named && kind === 'service')
    expect(accepts(certificate, '-verify_hostname', 'billing.internal')).toBe(false)
    expect(accepts(certificate, '-verify_ip', '127.0.0.2')).toBe(false)
  })
})
