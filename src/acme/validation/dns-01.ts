// dns-01 (RFC 8555 §8.4): the digest of the key authorization in a TXT record. Nothing but the DNS servers of the configuration is
// connected to.
import { createHash } from 'node:crypto'
import { toBase64url, utf8 } from '../../base/bytes.ts'
import type { Dns } from './dns-questions.ts'
import { type Challenge, ProbeFailure } from './policy.ts'

export const keyAuthorizationDigest = (keyAuthorization: string): Uint8Array =>
  createHash('sha256').update(utf8(keyAuthorization)).digest()

export const probeDns01 = async ({ identifier, keyAuthorization }: Challenge, dns: Dns): Promise<void> => {
  if (identifier.type !== 'dns') throw new ProbeFailure('malformed', 'dns-01 is for DNS names only (RFC 8738 §7)')
  const name = `_acme-challenge.${identifier.value}`
  const expected = toBase64url(keyAuthorizationDigest(keyAuthorization))
  // Several orders can be under way at once: others' records stand beside.
  if (!(await dns.texts(name)).includes(expected))
    throw new ProbeFailure('incorrectResponse', `no TXT record of ${name} has the digest of the key authorization`)
}
