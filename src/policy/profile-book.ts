// The profiles that are in force: read from files, held under the ceilings, found by name. A book never changes; a reload makes a new
// one, so a bad file leaves the old one at work.
import { SchemaError } from '../schema/errors.ts'
import type { Profile } from '../schema/profile.ts'
import { faultsOfProfile } from './ceilings.ts'
import { PolicyError } from './errors.ts'
import type { IssuanceProfile } from './issuance-profile.ts'

/** A profile in force, with what its file says for whoever shows it. */
export interface BookedProfile extends IssuanceProfile {
  readonly content: Profile
}

export interface ProfileBook {
  /** @throws PolicyError `profile_unknown` */
  get(name: string): BookedProfile
  /** By name. */
  list(): readonly BookedProfile[]
}

const booked = (profile: Profile): BookedProfile => ({
  name: profile.name,
  hash: profile.hash,
  kind: profile.kind,
  keyAlgorithms: profile.keyAlgorithms,
  lifetimeSeconds: profile.lifetime,
  backdateSeconds: profile.backdate,
  extendedKeyUsage: profile.extendedKeyUsage,
  dnsNames: profile.dnsNames,
  revocationUrls: profile.revocationUrls,
  noRevAvail: profile.noRevAvail,
  rules: {
    profileHash: profile.hash,
    instanceLimit: profile.instances,
    keyReuse: profile.keyReuse,
    recovery: {
      mode: profile.recovery.mode,
      count: profile.recovery.count,
      windowSeconds: profile.recovery.window,
    },
  },
  content: profile,
})

/** @throws SchemaError with every fault of every profile; its paths begin with the profile's name */
export const createProfileBook = (profiles: readonly Profile[]): ProfileBook => {
  const faults = profiles.flatMap(profile =>
    faultsOfProfile(profile).map(({ path, problem }) => ({ path: `${profile.name}.${path}`, problem })),
  )
  const byName = new Map<string, BookedProfile>()
  for (const profile of profiles) {
    if (byName.has(profile.name)) faults.push({ path: profile.name, problem: 'this profile is there twice' })
    byName.set(profile.name, booked(profile))
  }
  if (faults.length > 0) throw new SchemaError('profiles', faults)
  const list = [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    get: name => {
      const profile = byName.get(name)
      if (profile !== undefined) return profile
      throw new PolicyError('profile_unknown', `no profile is named ${name}`, { hint: 'agentca profile list' })
    },
    list: () => list,
  }
}
