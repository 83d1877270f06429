// What operators may write into the registry: text, host names, end dates. Everything else of a registration has a schema or a grammar
// of its own; these rules need the kind, the clock, or the reader's safety.
import { ipAddressText, isDnsName, parseIpAddress } from '../pki/host-names.ts'
import type { SubjectKind } from '../store/records.ts'
import { CaError } from './errors.ts'

export const invalidValue = (field: string, message: string, hint?: string): CaError =>
  new CaError('value_invalid', `${field}: ${message}`, {
    facts: { field },
    ...(hint === undefined ? {} : { hint }),
  })

/** Shown on terminals and hashed into the log: one line, and text that has exactly one encoding. @throws CaError `value_invalid` */
export const checkText = (field: string, text: string): void => {
  if (!text.isWellFormed() || /\p{Cc}/u.test(text)) throw invalidValue(field, 'expected one line of text')
}

/** @throws CaError `value_invalid` */
export const checkName = (field: string, name: string): void => {
  checkText(field, name)
  if (name.trim() !== name || name === '') throw invalidValue(field, 'expected a name without white space around it')
}

/** @throws CaError `value_invalid` */
export const checkAttributes = (attributes: Readonly<Record<string, string>>): void => {
  for (const [key, value] of Object.entries(attributes)) {
    checkName('attributes', key)
    checkText(`attributes.${key}`, value)
  }
}

/** @throws CaError `value_invalid` */
export const checkRoles = (roles: readonly string[]): void => {
  for (const role of roles) checkName('roles', role)
  if (new Set(roles).size !== roles.length) throw invalidValue('roles', 'the same role twice')
}

/**
 * The names a registration may be reached by, addresses in their one canonical form (RFC 5952).
 * @throws CaError `value_invalid`
 */
export const parseHosts = (kind: SubjectKind, hosts: readonly string[]): readonly string[] => {
  if (hosts.length > 0 && kind === 'operator') throw invalidValue('dns', 'operators have no host names')
  const parsed = hosts.map(host => {
    const address = parseIpAddress(host)
    if (address !== null) {
      if (kind !== 'service') throw invalidValue('dns', `only services have addresses, got ${host}`)
      return ipAddressText(address)
    }
    checkText('dns', host)
    if (!isDnsName(host)) throw invalidValue('dns', `expected a DNS name in lower case or an IP address, got ${host}`)
    return host
  })
  if (new Set(parsed).size !== parsed.length) throw invalidValue('dns', 'the same name twice')
  return parsed
}

/** @throws CaError `value_invalid` */
export const checkUntil = (until: number | null, now: number): void => {
  if (until === null || until > now) return
  throw invalidValue('until', `expected a time in the future, got ${new Date(until).toISOString()}`)
}
