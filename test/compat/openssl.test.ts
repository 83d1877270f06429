// OpenSSL's own command as a relying party.
import { join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { runProgram } from '../story/served-ca.ts'
import { compat } from './compat.ts'
import type { Subject } from './subject.ts'
import { compatWorld, endWorld } from './world.ts'

const openssl: Subject = { name: 'OpenSSL', programs: ['openssl'], version: ['version'], from: 'Debian: openssl' }
afterAll(endWorld)

const verified = async (path: string, who: string, ...more: readonly string[]): Promise<string> => {
  const { etc } = await compatWorld()
  const leaf = join(etc, who, 'tls.crt')
  const lists = [
    '-x509_strict',
    '-crl_check_all',
    '-CRLfile',
    'crls.pem',
    '-CAfile',
    'orders/ca.crt',
    '-purpose',
    'sslclient',
  ]
  const { code, out, err } = await runProgram(path, ['verify', ...lists, ...more, '-untrusted', leaf, leaf], {
    cwd: etc,
  })
  return code === 0 ? 'accepted' : `${out}${err}`
}

compat(openssl, '`openssl verify` with all lists accepts a good agent', async ({ path }) => {
  expect(await verified(path('openssl'), 'good')).toBe('accepted')
})
compat(openssl, '`openssl verify` refuses a revoked, an expired and a foreign agent', async ({ path }) => {
  expect(await verified(path('openssl'), 'revoked')).toContain('certificate revoked')
  expect(await verified(path('openssl'), 'expired')).toContain('certificate has expired')
  expect(await verified(path('openssl'), 'foreign')).toContain('unable to get')
  // Its end is all that is wrong with it.
  expect(await verified(path('openssl'), 'expired', '-no_check_time')).toBe('accepted')
})
