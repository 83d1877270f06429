// Steps 2 and 3 of ISSUANCE.md: from a registration, its profile and a parsed request to the exact bytes that will be signed, linted.
// Names come from the registration; what a request asks for beyond that is an error that names it, except its subject and what
// profiles decide about, which are ignored and reported.
import { toHex } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import { type Shard, shardOf } from '../pki/crl-shards.ts'
import type { CertificationRequest } from '../pki/csr.ts'
import type { AuthorityInfoAccess } from '../pki/extensions.ts'
import type { GeneralName } from '../pki/general-names.ts'
import { ipAddressText, isDnsName, parseIpAddress } from '../pki/host-names.ts'
import { createLeafTemplate, type LeafTemplate } from '../pki/leaf-template.ts'
import { commonNameFor } from '../pki/names.ts'
import { oidName, oidOf } from '../pki/oid.ts'
import { encodeSerial, serialHex } from '../pki/serial.ts'
import { agentSpiffeId, operatorSpiffeId, type SpiffeId, serviceSpiffeId, type TrustDomain } from '../pki/spiffe.ts'
import { minLifetimeSeconds } from '../policy/ceilings.ts'
import type { IssuanceProfile } from '../policy/issuance-profile.ts'
import { lintTbs } from '../policy/lint.ts'
import type { Registration } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { Drafter, IssuanceTerms, IssuingKey } from './issuance.ts'

/** The issuing CA at work, with its certificate and the URLs that leaves name. */
export interface ActiveIssuer extends IssuingKey {
  readonly certificate: Certificate
  readonly keyIdentifier: Uint8Array
  /** Of the complete list: what leaves name that are not divided among shards. */
  readonly crlDistributionPoint: string | null
  readonly crlShards: CrlShards | null
  readonly authorityInfoAccess: AuthorityInfoAccess | null
}

/** Where the shards of an issuer's list are. */
export interface CrlShards {
  /** Among how many of them the leaves of today are divided; 1: leaves name the complete list. */
  readonly of: number
  readonly url: (shard: Shard) => string
}

export interface DrafterDeps {
  readonly trustDomain: TrustDomain
  /** @throws CaError `no_active_issuer` */
  readonly activeIssuer: () => ActiveIssuer
  readonly issuerOf: (id: number) => IssuingKey
  /** @throws PolicyError `profile_unknown` */
  readonly profile: (name: string) => IssuanceProfile
  /** First octet of every serial of this replica: 0x01 to 0x7f. */
  readonly serialPrefix: number
  readonly randomBytes: (length: number) => Uint8Array
}

const nameOf = ({ kind, name }: Registration): string => `${kind} ${name}`

const spiffeIdOf = (trustDomain: TrustDomain, registration: Registration, instanceId: string): SpiffeId => {
  switch (registration.kind) {
    case 'agent':
      return agentSpiffeId(trustDomain, registration.name, instanceId)
    case 'service':
      return serviceSpiffeId(trustDomain, registration.name)
    case 'operator':
      return operatorSpiffeId(trustDomain, registration.name)
  }
}

interface HostNames {
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly Uint8Array[]
}

const noHostNames: HostNames = { dnsNames: [], ipAddresses: [] }

/** @throws CaError `name_not_granted` for registered names that no certificate of this kind can carry */
const hostNamesOf = (registration: Registration, hosts: readonly string[] = registration.dnsNames): HostNames => {
  const dnsNames = new Set<string>()
  const ipAddresses = new Map<string, Uint8Array>()
  for (const text of hosts) {
    const address = parseIpAddress(text)
    const name = text.toLowerCase()
    if (address !== null && registration.kind === 'service') ipAddresses.set(ipAddressText(address), address)
    else if (isDnsName(name)) dnsNames.add(name)
    else
      throw new CaError('name_not_granted', `${nameOf(registration)} cannot have the name ${text} in a certificate`, {
        hint: 'register DNS names, and addresses for services only',
        facts: { outside: [text] },
      })
  }
  return { dnsNames: [...dnsNames], ipAddresses: [...ipAddresses.values()] }
}

/** @throws CaError `name_not_granted` naming what the registration listed when it was ordered, and lists no more */
const checkListed = (registration: Registration, listed: readonly string[] = []): void => {
  if (listed.length === 0) return
  const form = ({ dnsNames, ipAddresses }: HostNames) => [...dnsNames, ...ipAddresses.map(ipAddressText)]
  const present = new Set(form(hostNamesOf(registration)))
  const outside = form(hostNamesOf(registration, listed)).filter(name => !present.has(name))
  if (outside.length === 0) return
  throw new CaError('name_not_granted', `${nameOf(registration)} has lost names of the order: ${outside.join(', ')}`, {
    hint: 'order again, without them',
    facts: { outside },
  })
}

/** One text for one name: DNS names without regard to case (RFC 4343), addresses in their one form. */
const textOf = (name: GeneralName): string => {
  switch (name.kind) {
    case 'dns':
      return `dns:${name.value.toLowerCase()}`
    case 'uri':
    case 'email':
      return `${name.kind}:${name.value}`
    case 'ip':
      return `ip:${name.bytes.length === 4 || name.bytes.length === 16 ? ipAddressText(name.bytes) : toHex(name.bytes)}`
    case 'registeredId':
      return `registeredId:${name.oid}`
    case 'directory':
    case 'other':
      return name.kind
  }
}

/** @throws CaError `name_not_granted` naming every subject alternative name outside the grant */
const checkRequestedNames = (csr: CertificationRequest, spiffeId: SpiffeId, hosts: HostNames): void => {
  if (csr.subjectAltNames.length === 0) return
  const granted = new Set([
    `uri:${spiffeId}`,
    ...hosts.dnsNames.map(name => `dns:${name}`),
    ...hosts.ipAddresses.map(address => `ip:${ipAddressText(address)}`),
  ])
  const outside = csr.subjectAltNames.map(textOf).filter(name => !granted.has(name))
  if (outside.length === 0) return
  throw new CaError('name_not_granted', `the request asks for names outside its grant: ${outside.join(', ')}`, {
    hint: 'leave them out of the request, or have them registered (--dns NAME)',
    facts: { outside },
  })
}

/** @throws CaError `key_not_accepted` */
const checkKey = (csr: CertificationRequest, profile: IssuanceProfile): void => {
  const { algorithm } = csr.spki
  if (profile.keyAlgorithms.includes(algorithm)) return
  const accepted = profile.keyAlgorithms.join(', ')
  throw new CaError('key_not_accepted', `profile ${profile.name} accepts ${accepted} keys, got ${algorithm}`, {
    hint: `generate a ${profile.keyAlgorithms[0]} key`,
    facts: { algorithm, accepted: profile.keyAlgorithms },
  })
}

interface Validity {
  readonly notBefore: number
  readonly notAfter: number
}

/**
 * The profile's life from now, cut to the issuer's and to the registration's end; both ends on whole seconds.
 * @throws CaError `registration_ended`, `no_active_issuer` when less than the floor would remain
 */
const validityOf = (
  profile: IssuanceProfile,
  issuer: Certificate,
  { registration, now, terms }: { registration: Registration; now: number; terms?: IssuanceTerms | undefined },
): Validity => {
  const second = Math.floor(now / 1000) * 1000
  const floor = second + minLifetimeSeconds * 1000
  const until = registration.until === null ? Number.POSITIVE_INFINITY : Math.floor(registration.until / 1000) * 1000
  if (until < floor)
    throw new CaError('registration_ended', `${nameOf(registration)} ends in less than ${minLifetimeSeconds} s`, {
      hint: 'register a new name, or move its end date before it is reached',
      facts: { until },
    })
  if (issuer.notAfter < floor)
    throw new CaError('no_active_issuer', 'the issuing CA is about to expire', {
      hint: 'agentca ca prepare, then agentca ca activate',
      facts: { notAfter: issuer.notAfter },
    })
  return {
    // A leaf is not older than its issuer, unless that one is valid only from the future.
    notBefore:
      terms?.notBefore ?? Math.max(second - profile.backdateSeconds * 1000, Math.min(issuer.notBefore, second)),
    notAfter: Math.min(second + profile.lifetimeSeconds * 1000, issuer.notAfter, until, terms?.notAfter ?? until),
  }
}

const nothing: readonly string[] = []

/** What profiles decide about and requests have no say in: a function of the request, so that a repeated answer says the same. */
export const notGrantedOf = (csr: CertificationRequest): readonly string[] =>
  csr.subject.rdns.length === 0 && csr.requestedExtensions.length === 0 ? nothing : leftOutOf(csr)

const leftOutOf = (csr: CertificationRequest): readonly string[] => [
  ...(csr.subject.rdns.length > 0 ? ['subject'] : []),
  ...csr.requestedExtensions.filter(({ oid }) => oid !== oidOf.subjectAltName).map(({ oid }) => oidName(oid)),
]

/** Fixed for the life of the certificate, and known from its serial ever after (pki/crl-shards.ts). */
const shardFor = ({ crlShards }: ActiveIssuer, serial: Uint8Array): Shard | null =>
  crlShards === null || crlShards.of === 1 ? null : shardOf(serial, crlShards.of)

const createTemplate = (issuer: ActiveIssuer, profile: IssuanceProfile, shard: Shard | null): LeafTemplate => {
  const { authorityInfoAccess, crlShards } = issuer
  const crlDistributionPoint = shard === null ? issuer.crlDistributionPoint : (crlShards?.url(shard) ?? null)
  const named = profile.revocationUrls === 'present'
  return createLeafTemplate({
    issuerDer: issuer.certificate.subjectDer,
    signatureAlgorithm: issuer.signatureAlgorithm,
    authorityKeyId: issuer.keyIdentifier,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: profile.extendedKeyUsage.map(usage => oidOf[usage]),
    ...(named && crlDistributionPoint !== null ? { crlDistributionPoint } : {}),
    ...(named && authorityInfoAccess !== null ? { authorityInfoAccess } : {}),
    noRevAvail: profile.noRevAvail,
  })
}

export const createDrafter = (deps: DrafterDeps): Drafter => {
  // One template per (issuer, profile content, shard): all are in the key, so a reload or a rotation makes a new one.
  const templates = new Map<string, LeafTemplate>()
  // The last one by the objects themselves: a text as the key costs more than the rest of the look-up.
  let last: {
    readonly issuer: ActiveIssuer
    readonly profile: IssuanceProfile
    readonly template: LeafTemplate
  } | null = null
  const templateFor = (issuer: ActiveIssuer, profile: IssuanceProfile, serial: Uint8Array): LeafTemplate => {
    const shard = shardFor(issuer, serial)
    if (shard === null && last?.issuer === issuer && last.profile === profile) return last.template
    const key =
      shard === null ? `${issuer.id}/${profile.hash}` : `${issuer.id}/${profile.hash}/${shard.number}-${shard.of}`
    let template = templates.get(key)
    if (template === undefined) {
      template = createTemplate(issuer, profile, shard)
      templates.set(key, template)
    }
    if (shard === null) last = { issuer, profile, template }
    return template
  }

  /** A profile is for one kind: an agent under a service's profile would become a server. */
  const profileOf = (registration: Registration, name: string = registration.profile): IssuanceProfile => {
    const profile = deps.profile(name)
    if (profile.kind === registration.kind) return profile
    throw new CaError(
      'profile_unknown',
      `profile ${profile.name} is for kind ${profile.kind}, not for ${nameOf(registration)}`,
      {
        hint: 'agentca profile list',
      },
    )
  }

  return {
    rules: (registration, profile) => profileOf(registration, profile).rules,
    issuerOf: deps.issuerOf,
    draft: ({ registration, instanceId, csr, now, terms }) => {
      const profile = profileOf(registration, terms?.profile)
      const issuer = deps.activeIssuer()
      checkKey(csr, profile)
      const spiffeId = spiffeIdOf(deps.trustDomain, registration, instanceId)
      checkListed(registration, terms?.listed)
      const hosts = profile.dnsNames === 'registration' ? hostNamesOf(registration, terms?.hosts) : noHostNames
      checkRequestedNames(csr, spiffeId, hosts)
      const { notBefore, notAfter } = validityOf(profile, issuer.certificate, { registration, now, terms })
      const serial = encodeSerial({ prefix: deps.serialPrefix, nowMs: now, random10: deps.randomBytes(10) })
      const tbs = templateFor(issuer, profile, serial).encode({
        serial,
        notBefore,
        notAfter,
        dnsNames: hosts.dnsNames,
        ipAddresses: hosts.ipAddresses,
        subjectCn: commonNameFor(registration.kind, registration.name),
        spkiDer: csr.spki.der,
        spiffeId,
        scopesVersion: registration.version,
      })
      return {
        tbs: lintTbs(tbs),
        serial: serialHex(serial),
        spiffeId,
        notBefore,
        notAfter,
        issuer,
        profile: profile.name,
        profileHash: profile.hash,
        notGranted: notGrantedOf(csr),
      }
    },
  }
}
