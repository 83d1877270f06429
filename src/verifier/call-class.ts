// What a call is, in few words: the action it needs and the class of what it touches. Identifiers in paths are left out: they would make
// every call another one, and nobody outside needs them.
import type { Call } from './judgement.ts'

export interface CallClass {
  readonly action: string
  readonly resourceClass: string
}

const maxLength = 128
const maxSegments = 6

/** Numbers, UUIDs, hashes, and whatever else is long, encoded or mostly digits. */
const isIdentifier = (segment: string): boolean =>
  segment.length > 32 ||
  /[^A-Za-z0-9._~-]/.test(segment) ||
  (/\d/.test(segment) &&
    !/^v\d{1,2}$/.test(segment) &&
    (/^[0-9a-f-]+$/i.test(segment) || segment.replace(/\D/g, '').length > 3))

/** `/v1/orders/4711/lines?all` is the class `/v1/orders/(any)/lines`, with a star for the identifier */
const pathClass = (url: string): string => {
  const end = url.search(/[?#]/)
  const [, ...segments] = (end < 0 ? url : url.slice(0, end)).split('/')
  const kept = segments.slice(0, maxSegments).map(segment => (isIdentifier(segment) ? '*' : segment))
  return `/${kept.join('/')}${segments.length > maxSegments ? '/*' : ''}`
}

/** One line of printable ASCII, as the CA takes it. */
export const told = (text: string): string => text.replace(/[^ -~]/g, '?').slice(0, maxLength)

/** Scopes that were demanded name the action; where there are none, roles or the method do. Tools are few, and each is one. */
export const classOf = ({ demand, request }: Call): CallClass => {
  const { scopes = [], roles = [], conditional } = demand
  const asked = conditional === undefined ? scopes : [...scopes, conditional.action]
  const action = asked.length > 0 ? asked.join(' ') : roles.length > 0 ? `role:${roles.join(',')}` : request?.method
  const tool = conditional?.resource?.type === 'Tool' ? `Tool::${conditional.resource.id}` : null
  return {
    action: told(action ?? 'call'),
    resourceClass: told(tool ?? (request?.url === undefined ? '' : pathClass(request.url))),
  }
}
