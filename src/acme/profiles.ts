// Which profile an order is under: the one it names, or else the registration's own if that is for ACME, or else the first of its kind; of
// those, one that probes is taken only where there is no other, so that a new file in the directory switches no probing on.
import type { Registration } from '../store/records.ts'
import type { AcmeProfile } from './deps.ts'
import { AcmeError } from './errors.ts'

const ofKind = (profiles: readonly AcmeProfile[], { kind }: Registration): readonly AcmeProfile[] =>
  profiles.filter(profile => profile.kind === kind)

/** @throws AcmeError `unauthorized` where ACME has no profile for this kind of registration */
export const defaultProfile = (profiles: readonly AcmeProfile[], registration: Registration): AcmeProfile => {
  const fitting = ofKind(profiles, registration)
  const own = fitting.find(({ name }) => name === registration.profile)
  const profile = own ?? fitting.find(({ challenges }) => challenges.length === 0) ?? fitting[0]
  if (profile !== undefined) return profile
  throw new AcmeError('unauthorized', `no profile lets an ${registration.kind} order by ACME`, {
    hint: 'give a profile of this kind an acme section, then reload: agentca profile list',
  })
}

/** @throws AcmeError `invalidProfile` */
export const profileOf = (
  profiles: readonly AcmeProfile[],
  registration: Registration,
  name: string | undefined,
): AcmeProfile => {
  if (name === undefined) return defaultProfile(profiles, registration)
  const fitting = ofKind(profiles, registration)
  const profile = fitting.find(each => each.name === name)
  if (profile !== undefined) return profile
  throw new AcmeError('invalidProfile', `no profile of this name is for ${registration.kind}s`, {
    hint: `expected one of ${fitting.map(each => each.name).join(', ')}, as the directory lists them`,
  })
}

/** As far as the signer lets notBefore be from its own clock. */
const maxNotBeforeSkewMs = 60_000

export const isNow = (notBefore: number | null, now: number): boolean =>
  notBefore !== null && Math.abs(notBefore - now) <= maxNotBeforeSkewMs
