// The trust domain's bundle as SPIFFE defines it (SPIFFE Trust Domain and Bundle §4, X509-SVID §6): a JWK set with a key for each
// root that is trusted.
import { toBase64 } from '../base/bytes.ts'
import type { IssuerView } from '../ca/issuers.ts'
import { toKeyObject } from '../pki/spki.ts'

/** How often peers look for a new one. */
export const refreshHintSeconds = 300

/** No `kid` and exactly one certificate: go-spiffe refuses the whole bundle otherwise. */
const jwkOf = ({ certificate }: IssuerView) => ({
  use: 'x509-svid',
  ...toKeyObject(certificate.spki).export({ format: 'jwk' }),
  x5c: [toBase64(certificate.der)],
})

/**
 * @param all every CA of this home, retired ones included: a root enters the bundle once and leaves it once, so that counting both
 * gives a sequence number that changes with the content, never goes back, and is the same after a restart and on every replica
 */
export const encodeSpiffeBundle = (all: readonly IssuerView[]): string => {
  const roots = all.filter(view => view.record.kind === 'root')
  const trusted = roots.filter(view => view.record.state !== 'retired')
  return JSON.stringify({
    keys: trusted.map(jwkOf),
    spiffe_sequence: roots.length + (roots.length - trusted.length),
    spiffe_refresh_hint: refreshHintSeconds,
  })
}
