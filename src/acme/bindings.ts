// External account bindings as operators make and revoke them (RFC 8555 §7.3.4): a kid and a MAC key of 256 bits, shown once, for one
// account of one agent or service. How one is redeemed is accounts.ts's.
import { acmeBindingCreated, acmeBindingRevoked } from '../audit/acme-events.ts'
import { toBase64url, toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { CaError } from '../ca/errors.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import { checkText, invalidValue } from '../ca/operator-values.ts'
import type { ChangeOptions, Subject } from '../ca/registration-change.ts'
import { refuseUnusable } from '../ca/tokens.ts'
import { ipAddressText, isDnsName, parseIpAddress } from '../pki/host-names.ts'
import type { AcmeBinding, AcmeBindingsPort, AcmeIdentifier } from '../store/acme-port.ts'
import type { RegistrationsPort } from '../store/ports.ts'
import type { Sealer } from './eab-seal.ts'
import { maxIdentifiers, textOf } from './identifiers.ts'

export interface BindingDeps {
  /** As far as it can be trusted: an end that is counted from a false future would keep a binding good for as long. */
  readonly clock: Pick<Clock, 'now'>
  readonly registrations: Pick<RegistrationsPort, 'find' | 'byId'>
  readonly bindings: Pick<AcmeBindingsPort, 'create' | 'get' | 'revoke'>
  readonly sealer: Sealer
  readonly randomBytes: (length: number) => Uint8Array
}

export interface NewBinding extends Subject {
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
  readonly ttlSeconds: number
}

export interface Bindings {
  /**
   * @returns the MAC key, base64url, which nobody can read again; null for a dry run
   * @throws CaError `value_invalid`, `not_found`, `registration_held`, `registration_retired`, `registration_ended`
   */
  create(
    binding: NewBinding,
    options: Pick<ChangeOptions, 'context' | 'dryRun'>,
  ): Promise<{ readonly hmacKey: string | null; readonly binding: AcmeBinding }>
  /** No account is made with it any more; one that was stays. @throws CaError `not_found` */
  revoke(kid: string, options: Pick<ChangeOptions, 'context' | 'dryRun' | 'why'>): Promise<AcmeBinding>
}

const namesOf = ({ kind, dnsNames, ipAddresses }: NewBinding): readonly AcmeIdentifier[] => {
  const dns = dnsNames.map((text): AcmeIdentifier => {
    const value = text.toLowerCase()
    if (!isDnsName(value)) throw invalidValue('dns', `expected a DNS name, got ${JSON.stringify(text)}`)
    return { type: 'dns', value }
  })
  const ip = ipAddresses.map((text): AcmeIdentifier => {
    const octets = parseIpAddress(text)
    if (octets === null) throw invalidValue('ip', `expected an IP address, got ${JSON.stringify(text)}`)
    if (kind !== 'service') throw invalidValue('ip', 'only services have IP addresses in their certificates')
    return { type: 'ip', value: ipAddressText(octets) }
  })
  const names = [...new Map([...dns, ...ip].map(each => [textOf(each), each])).values()]
  if (names.length > maxIdentifiers) throw invalidValue('dns', `expected at most ${maxIdentifiers} names`)
  return names
}

/** 256 bits whose text does not begin like an option: clients take it from their command line. */
const drawSecret = ({ randomBytes }: BindingDeps): Uint8Array => {
  for (;;) {
    const secret = randomBytes(32)
    if (!toBase64url(secret).startsWith('-')) return secret
  }
}

export const createBindings = (deps: BindingDeps): Bindings => ({
  create: async (wanted, { context, dryRun }) => {
    const at = deps.clock.now()
    const { kind, name, ttlSeconds } = wanted
    const registration = deps.registrations.find(kind, name)
    if (registration === null)
      throw new CaError('not_found', `no ${kind} is called ${name}`, { hint: `agentca ${kind} create ${name}` })
    refuseUnusable(registration, at)
    const names = namesOf(wanted)
    const kid = toHex(deps.randomBytes(16))
    const expiresAt = Math.min(at + ttlSeconds * 1000, registration.until ?? Number.POSITIVE_INFINITY)
    const facts = { kid, registrationId: registration.id, names, expiresAt, createdAt: at, createdBy: context.who }
    if (dryRun)
      return { hmacKey: null, binding: { ...facts, sealedKey: new Uint8Array(), state: 'active', account: null } }
    const secret = drawSecret(deps)
    const binding = await deps.bindings.create(
      { ...facts, sealedKey: deps.sealer.seal(kid, secret) },
      acmeBindingCreated(leafContextOf(context, at), { kind, name }, { kid, names: names.map(textOf), expiresAt }),
    )
    return { hmacKey: toBase64url(secret), binding }
  },
  revoke: async (kid, { context, why, dryRun }) => {
    const at = deps.clock.now()
    if (why !== undefined) checkText('why', why)
    const binding = deps.bindings.get(kid)
    const registration = binding === null ? null : deps.registrations.byId(binding.registrationId)
    if (binding === null || registration === null)
      throw new CaError('not_found', `no external account binding has kid ${kid}`, { hint: 'agentca acme eab list' })
    if (dryRun) return { ...binding, state: 'revoked' }
    const { kind, name } = registration
    return deps.bindings.revoke(kid, at, acmeBindingRevoked(leafContextOf(context, at), { kind, name }, { kid, why }))
  },
})
