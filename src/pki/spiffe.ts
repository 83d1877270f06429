// SPIFFE IDs (SPIFFE-ID §2) and the three kinds agentca issues. Text becomes a SpiffeId only here. Whether an ID may be granted
// to someone is decided by policy.
import { PkiError } from './errors.ts'
import { checkRegisteredName, isRegisteredName } from './names.ts'

declare const trustDomainBrand: unique symbol
declare const spiffeIdBrand: unique symbol

export type TrustDomain = string & { readonly [trustDomainBrand]: true }
/** A legal SPIFFE ID, canonical: lower-case scheme and trust domain. */
export type SpiffeId = string & { readonly [spiffeIdBrand]: true }

/** What an ID of agentca's own layout names. */
export type Principal =
  | { readonly kind: 'agent'; readonly trustDomain: TrustDomain; readonly agent: string; readonly instance: string }
  | { readonly kind: 'service' | 'operator'; readonly trustDomain: TrustDomain; readonly name: string }

const maxIdLength = 2048
const maxTrustDomainLength = 255

const fault = (message: string): PkiError => new PkiError('spiffe_id_malformed', message)

/** SPIFFE-ID §2.1: `[a-z0-9._-]`, at most 255. @throws PkiError trust_domain_malformed */
export const parseTrustDomain = (text: string): TrustDomain => {
  if (!/^[a-z0-9._-]+$/.test(text) || text.length > maxTrustDomainLength)
    throw new PkiError('trust_domain_malformed', 'a trust domain is 1 to 255 of a-z, 0-9, dot, dash, underscore')
  return text as TrustDomain
}

const checkSegment = (segment: string): void => {
  if (segment === '') throw fault('path cannot contain empty segments')
  if (segment === '.' || segment === '..') throw fault('path cannot contain dot segments')
  if (!/^[A-Za-z0-9._-]+$/.test(segment))
    throw fault('path segment characters are limited to letters, numbers, dots, dashes, underscores')
}

const legal = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)*$/

/** Any legal SPIFFE ID, with or without a path. @throws PkiError spiffe_id_malformed */
export const parseSpiffeId = (text: string): SpiffeId => {
  if (text.length <= maxIdLength && legal.test(text)) return text as SpiffeId
  return explainSpiffeId(text)
}

/** What is wrong, one rule after the other. */
const explainSpiffeId = (text: string): SpiffeId => {
  if (text === '') throw fault('cannot be empty')
  if (text.length > maxIdLength) throw fault(`at most ${maxIdLength} characters`)
  if (!text.startsWith('spiffe://')) throw fault('scheme is missing or invalid')
  const rest = text.slice('spiffe://'.length)
  const slash = rest.indexOf('/')
  const domain = slash < 0 ? rest : rest.slice(0, slash)
  if (domain === '') throw fault('trust domain is missing')
  if (!/^[a-z0-9._-]+$/.test(domain) || domain.length > maxTrustDomainLength)
    throw fault('trust domain characters are limited to lower-case letters, numbers, dots, dashes, underscores')
  if (slash >= 0) {
    if (rest.endsWith('/')) throw fault('path cannot have a trailing slash')
    for (const segment of rest.slice(slash + 1).split('/')) checkSegment(segment)
  }
  return text as SpiffeId
}

export const trustDomainOf = (id: SpiffeId): TrustDomain => id.split('/', 3)[2] as TrustDomain

/** Path with its leading slash, or '' for a trust domain's own ID. */
export const pathOf = (id: SpiffeId): string => id.slice('spiffe://'.length + trustDomainOf(id).length)

const checkInstance = (instance: string): void => {
  checkSegment(instance)
  if (instance.length > 64) throw fault('an instance has at most 64 characters')
}

/** The principal an ID names, or null when it is legal but not of agentca's layout. */
export const principalOf = (id: SpiffeId): Principal | null => {
  const parts = id.split('/', 8)
  const [, , trustDomain, kind, name, i, instance] = parts as [string, string, TrustDomain, ...(string | undefined)[]]
  if (name === undefined || parts.length > 7) return null
  if (
    kind === 'agent' &&
    i === 'i' &&
    instance !== undefined &&
    instance.length <= 64 &&
    isRegisteredName('agent', name)
  )
    return { kind, trustDomain, agent: name, instance }
  if ((kind === 'service' || kind === 'operator') && i === undefined && isRegisteredName(kind, name))
    return { kind, trustDomain, name }
  return null
}

/** @throws PkiError spiffe_id_malformed, agent_name_malformed */
export const agentSpiffeId = (trustDomain: TrustDomain, agent: string, instance: string): SpiffeId => {
  checkRegisteredName('agent', agent)
  checkInstance(instance)
  return parseSpiffeId(`spiffe://${trustDomain}/agent/${agent}/i/${instance}`)
}

/** @throws PkiError agent_name_malformed */
export const serviceSpiffeId = (trustDomain: TrustDomain, name: string): SpiffeId => {
  checkRegisteredName('service', name)
  return parseSpiffeId(`spiffe://${trustDomain}/service/${name}`)
}

/** @throws PkiError agent_name_malformed */
export const operatorSpiffeId = (trustDomain: TrustDomain, name: string): SpiffeId => {
  checkRegisteredName('operator', name)
  return parseSpiffeId(`spiffe://${trustDomain}/operator/${name}`)
}
