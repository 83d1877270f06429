// The hard ceilings: what no profile can exceed, whatever its file says. The signer holds the same lifetimes on its own, as the last
// judge; what passes here passes there, or a profile would load and never issue. RSA's 2048 bits are the key parser's.
import type { PrincipalKind } from '../pki/names.ts'
import type { Fault } from '../schema/errors.ts'
import type { Profile } from '../schema/profile.ts'

const hour = 3600
const day = 24 * hour

/** Longest life by kind, in seconds, counted from issuance. */
export const maxLifetimeSeconds: Readonly<Record<PrincipalKind, number>> = {
  agent: 7 * day,
  service: 90 * day,
  operator: 90 * day,
}

/** Of agents that enrol natively: their programs renew by themselves. Timers of ACME clients run twice a day, so theirs may live longer. */
const maxNativeAgentSeconds = day

/** Below this nobody has the time to renew before the end: half of it, less a retry or two. */
export const minLifetimeSeconds = 300

/** As far as the signer lets notBefore be from its own clock, and more than clocks of a fleet are apart. */
export const maxBackdateSeconds = 300

/**
 * What of notBefore's lying back is not counted as life: two minutes, less the one second by which a validity is longer than its
 * difference, because both ends belong to it (RFC 5280 §4.1.2.5).
 */
export const freeBackdateSeconds = 119

/** RFC 9608 leaves the length to the CA: a life that ends about when a revocation would have reached everybody by CRL. */
export const maxNoRevAvailSeconds = 900

/** Every way in which a profile exceeds the ceilings; empty: none. */
export const faultsOfProfile = (profile: Profile): readonly Fault[] => {
  const { kind, lifetime, backdate } = profile
  const faults: Fault[] = []
  const fault = (path: string, problem: string): void => {
    faults.push({ path, problem })
  }
  const longest = kind === 'agent' && profile.acme === undefined ? maxNativeAgentSeconds : maxLifetimeSeconds[kind]
  if (lifetime < minLifetimeSeconds) fault('lifetime', `expected at least ${minLifetimeSeconds}s, got ${lifetime}s`)
  if (lifetime > longest)
    fault('lifetime', `expected at most ${longest}s for a profile of kind ${kind}, got ${lifetime}s`)
  if (backdate > maxBackdateSeconds) fault('backdate', `expected at most ${maxBackdateSeconds}s, got ${backdate}s`)
  else if (lifetime <= longest && lifetime + backdate > longest + freeBackdateSeconds)
    fault(
      'backdate',
      `expected at most ${longest + freeBackdateSeconds - lifetime}s beside this lifetime, got ${backdate}s`,
    )
  if (profile.extendedKeyUsage.includes('serverAuth') && kind !== 'service')
    fault('extendedKeyUsage', `serverAuth is only for profiles of kind service, got ${kind}`)
  if (profile.dnsNames === 'registration' && kind === 'operator')
    fault('dnsNames', 'expected none: operators have no DNS names')
  if (profile.noRevAvail === 'present' && lifetime > maxNoRevAvailSeconds)
    fault('noRevAvail', `only for a lifetime of ${maxNoRevAvailSeconds}s or less, got ${lifetime}s`)
  // RFC 9608 §3: a certificate that says it has no revocation information must not name a place for it.
  if (profile.noRevAvail === 'present' && profile.revocationUrls === 'present')
    fault('revocationUrls', 'expected absent where noRevAvail is present (RFC 9608)')
  return faults
}
