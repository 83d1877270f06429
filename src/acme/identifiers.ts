// Identifiers of orders (RFC 8555 §7.1.3, RFC 8738): from JSON to names in their one form, and whose they are: a name may be ordered that
// the registration or the external account binding lists, letter for letter, and the one name that every registration has by itself.
import { ipAddressText, isDnsName, parseIpAddress } from '../pki/host-names.ts'
import { commonNameFor } from '../pki/names.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import type { AcmeIdentifier, AcmeProblem } from '../store/acme-port.ts'
import type { Registration } from '../store/records.ts'
import { AcmeError, malformed } from './errors.ts'

/** A leaf with more names than this helps nobody; the signer takes as many. */
export const maxIdentifiers = 100

export const textOf = ({ type, value }: AcmeIdentifier): string => `${type}:${value}`

const typed = (value: unknown): { readonly type: string; readonly value: string } => {
  const { type, value: name } = (value ?? {}) as { type?: unknown; value?: unknown }
  if (typeof type !== 'string' || typeof name !== 'string')
    throw malformed('expected each identifier to have a type and a value, both texts')
  if (name.length > 253) throw malformed('an identifier has at most 253 characters')
  return { type, value: name }
}

/** @returns the identifier in its one form, or what is wrong with it */
const readIdentifier = ({ type, value }: { type: string; value: string }): AcmeIdentifier | AcmeProblem => {
  // Named as it came, but bounded and of one line.
  const asked = { type, value } as AcmeIdentifier
  if (type === 'dns') {
    const name = value.toLowerCase()
    if (isDnsName(name)) return { type: 'dns', value: name }
    return { type: 'malformed', detail: 'expected a DNS name', identifier: asked }
  }
  if (type === 'ip') {
    const octets = parseIpAddress(value)
    if (octets !== null) return { type: 'ip', value: ipAddressText(octets) }
    return { type: 'malformed', detail: 'expected an IP address', identifier: asked }
  }
  return { type: 'unsupportedIdentifier', detail: 'expected type dns or ip', identifier: asked }
}

const isProblem = (read: AcmeIdentifier | AcmeProblem): read is AcmeProblem => 'detail' in read

/** Several faults are one error of type compound (RFC 8555 §6.7.1), one fault is its own. */
export const errorOf = (problems: readonly AcmeProblem[], code: 'malformed' | 'rejectedIdentifier'): AcmeError => {
  const types = new Set(problems.map(({ type }) => type))
  const [only] = types
  const names = problems.map(({ identifier }) => (identifier === undefined ? '' : printable(textOf(identifier))))
  return new AcmeError(
    types.size === 1 ? (only as AcmeError['code']) : 'compound',
    `${problems[0]?.detail ?? code}: ${names.join(', ')}`.slice(0, 1000),
    { subproblems: problems },
  )
}

const printable = (text: string): string => text.replaceAll(/[^!-~]/g, '?')

/**
 * The identifiers of a newOrder payload, sorted as they came, each once.
 * @throws AcmeError malformed, unsupportedIdentifier, compound: with a subproblem for each
 */
export const parseIdentifiers = (value: unknown): readonly AcmeIdentifier[] => {
  if (!Array.isArray(value) || value.length === 0)
    throw malformed('expected identifiers: a list of at least one', {
      hint: 'an agent without DNS names orders the one it has by itself: NAME.agent.TRUSTDOMAIN',
    })
  if (value.length > maxIdentifiers) throw malformed(`expected at most ${maxIdentifiers} identifiers`)
  const read = value.map(each => readIdentifier(typed(each)))
  const problems = read.filter(isProblem)
  if (problems.length > 0) throw errorOf(problems, 'malformed')
  const identifiers = read as readonly AcmeIdentifier[]
  return [...new Map(identifiers.map(each => [textOf(each), each])).values()]
}

/**
 * A name for whoever has none, so that every ACME client can order something: it is made of what the certificate says anyway.
 * @returns null where the trust domain is no DNS name
 */
export const ownName = ({ kind, name }: Pick<Registration, 'kind' | 'name'>, trustDomain: TrustDomain) => {
  const value = `${name}.${kind}.${trustDomain}`
  return isDnsName(value) ? ({ type: 'dns', value } as const) : null
}

const commonNameOf = ({ kind, name }: Pick<Registration, 'kind' | 'name'>): string => `dns:${commonNameFor(kind, name)}`

/**
 * What of an account's names no proof is needed for. The common name of its certificates is among them: certbot and lego read from the
 * certificate what they are to renew, and take it for one more DNS name.
 */
export const grantedNames = (
  registration: Registration,
  names: readonly AcmeIdentifier[],
  trustDomain: TrustDomain,
): ReadonlySet<string> => {
  const registered = registration.dnsNames.map(text => {
    const octets = parseIpAddress(text)
    return octets === null ? `dns:${text.toLowerCase()}` : `ip:${ipAddressText(octets)}`
  })
  const own = ownName(registration, trustDomain)
  const always = [...(own === null ? [] : [textOf(own)]), commonNameOf(registration)]
  return new Set([...registered, ...names.map(textOf), ...always])
}

/** The same for an account without a binding: the common name beside names that it proves; alone it would need no proof at all. */
export const grantedUnbound = (
  registration: Registration,
  identifiers: readonly AcmeIdentifier[],
): ReadonlySet<string> => new Set(identifiers.length > 1 ? [commonNameOf(registration)] : [])
