// Steps 2 and 3 of ISSUANCE.md: from a registration, its profile and a parsed request to the exact bytes that will be signed. Names
// come from the registration; what a request asks for beyond that is an error that names it, except its subject, which is ignored.
import type { KeyAlgorithm } from '../pki/algorithms.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CertificationRequest } from '../pki/csr.ts'
import type { GeneralName } from '../pki/general-names.ts'
import { createLeafTemplate, type LeafTemplate } from '../pki/leaf-template.ts'
import { commonNameFor } from '../pki/names.ts'
import { oidOf } from '../pki/oid.ts'
import { encodeSerial, serialHex } from '../pki/serial.ts'
import { agentSpiffeId, operatorSpiffeId, type SpiffeId, serviceSpiffeId, type TrustDomain } from '../pki/spiffe.ts'
import type { Registration } from '../store/records.ts'
import type { DecisionRules } from './decide-issuance.ts'
import { CaError } from './errors.ts'
import type { Drafter, IssuingKey } from './issuance.ts'

/** What issuance needs of a profile; the schema's profile has this shape. */
export interface IssuanceProfile {
  readonly name: string
  /** SHA-256 of its canonical form, hex: pinned in every certificate's row. */
  readonly hash: string
  readonly kind: Registration['kind']
  readonly keyAlgorithms: readonly KeyAlgorithm[]
  readonly lifetimeSeconds: number
  readonly backdateSeconds: number
  readonly extendedKeyUsage: readonly ('clientAuth' | 'serverAuth')[]
  readonly dnsNames: 'none' | 'registration'
  readonly rules: DecisionRules
}

/** The issuing CA at work, with its certificate and the URLs that leaves name. */
export interface ActiveIssuer extends IssuingKey {
  readonly certificate: Certificate
  readonly keyIdentifier: Uint8Array
  readonly crlDistributionPoint: string | null
}

export interface DrafterDeps {
  readonly trustDomain: TrustDomain
  /** @throws CaError `no_active_issuer` */
  readonly activeIssuer: () => ActiveIssuer
  readonly issuerOf: (id: number) => IssuingKey
  /** @throws when no profile has this name */
  readonly profile: (name: string) => IssuanceProfile
  /** First octet of every serial of this replica: 0x01 to 0x7f. */
  readonly serialPrefix: number
  readonly randomBytes: (length: number) => Uint8Array
}

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

const textOf = (name: GeneralName): string =>
  'value' in name && typeof name.value === 'string' ? `${name.kind}:${name.value}` : name.kind

/** @throws CaError `name_not_granted` naming every subject alternative name outside the grant */
const checkRequestedNames = (csr: CertificationRequest, granted: ReadonlySet<string>): void => {
  const outside = csr.subjectAltNames.map(textOf).filter(name => !granted.has(name))
  if (outside.length === 0) return
  throw new CaError('name_not_granted', `the request asks for names outside its grant: ${outside.join(', ')}`, {
    hint: 'leave them out of the request, or have them registered (--dns NAME)',
    facts: { outside },
  })
}

export const createDrafter = (deps: DrafterDeps): Drafter => {
  // One template per (issuer, profile content): both are in the key, so a reload or a rotation makes a new one.
  const templates = new Map<string, LeafTemplate>()
  const templateFor = (issuer: ActiveIssuer, profile: IssuanceProfile): LeafTemplate => {
    const key = `${issuer.id}/${profile.hash}`
    let template = templates.get(key)
    if (template === undefined) {
      template = createLeafTemplate({
        issuerDer: issuer.certificate.subjectDer,
        signatureAlgorithm: issuer.signatureAlgorithm,
        authorityKeyId: issuer.keyIdentifier,
        keyUsage: ['digitalSignature'],
        extendedKeyUsage: profile.extendedKeyUsage.map(usage => oidOf[usage]),
        ...(issuer.crlDistributionPoint === null ? {} : { crlDistributionPoint: issuer.crlDistributionPoint }),
      })
      templates.set(key, template)
    }
    return template
  }

  return {
    rules: registration => deps.profile(registration.profile).rules,
    issuerOf: deps.issuerOf,
    draft: ({ registration, instanceId, csr, now }) => {
      const profile = deps.profile(registration.profile)
      const issuer = deps.activeIssuer()
      const algorithm = csr.spki.algorithm
      if (!profile.keyAlgorithms.includes(algorithm))
        throw new CaError(
          'key_not_accepted',
          `profile ${profile.name} accepts ${profile.keyAlgorithms.join(', ')} keys, got ${algorithm}`,
          {
            hint: 'generate a P-256 key',
          },
        )
      const spiffeId = spiffeIdOf(deps.trustDomain, registration, instanceId)
      const dnsNames = profile.dnsNames === 'registration' ? registration.dnsNames : []
      checkRequestedNames(csr, new Set([`uri:${spiffeId}`, ...dnsNames.map(name => `dns:${name}`)]))
      const serial = encodeSerial({ prefix: deps.serialPrefix, nowMs: now, random10: deps.randomBytes(10) })
      const second = Math.floor(now / 1000) * 1000
      const notBefore = second - profile.backdateSeconds * 1000
      const notAfter = Math.min(
        second + profile.lifetimeSeconds * 1000,
        issuer.certificate.notAfter,
        ...(registration.until === null ? [] : [Math.floor(registration.until / 1000) * 1000]),
      )
      const tbs = templateFor(issuer, profile).encode({
        serial,
        notBefore,
        notAfter,
        subjectCn: commonNameFor(registration.kind, registration.name),
        spkiDer: csr.spki.der,
        spiffeId,
        dnsNames,
        scopesVersion: registration.version,
      })
      return {
        tbs,
        serial: serialHex(serial),
        spiffeId,
        notBefore,
        notAfter,
        issuer,
        profile: profile.name,
        profileHash: profile.hash,
        notGranted: csr.subject.rdns.length > 0 ? ['subject'] : [],
      }
    },
  }
}
