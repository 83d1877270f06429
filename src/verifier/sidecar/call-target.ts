// What is called, as every program on the way reads it alike, or a refusal. Proxies, frameworks and file servers disagree about `..`, `//`,
// encoded separators and path parameters; where they could, a rule on paths would hold for one of them and be bypassed at another.
import { RequestRefused } from './errors.ts'

export interface CallTarget {
  readonly method: string
  /** As it came, query included. */
  readonly uri: string
  /** Without the query, and without percent-encoding where it changes nothing (RFC 3986 §6.2.2.2). */
  readonly path: string
}

const maxUriLength = 8192

const ambiguous = (why: string): RequestRefused => new RequestRefused('path_ambiguous', `the path has ${why}`)

/** RFC 3986 §2.3. */
const unreserved = /^[A-Za-z0-9._~-]$/

/** Overlong forms of dots and separators are none. */
const isUtf8 = (encoded: string): boolean => {
  try {
    decodeURIComponent(encoded)
    return true
  } catch {
    return false
  }
}

/** Separators, dots and controls behind an encoding, and encodings of encodings. */
const canonicalPath = (raw: string): string => {
  const path = raw.replaceAll(/%(..?)?/g, (encoded, digits: string | undefined) => {
    if (digits === undefined || !/^[0-9A-Fa-f]{2}$/.test(digits)) throw ambiguous('a percent sign that encodes nothing')
    const code = Number.parseInt(digits, 16)
    const character = String.fromCharCode(code)
    if (code < 0x20 || code === 0x7f) throw ambiguous('an encoded control character')
    if ('/\\%;.?#'.includes(character)) throw ambiguous(`an encoded ${character}`)
    return code < 0x80 && unreserved.test(character) ? character : encoded.toUpperCase()
  })
  if (!isUtf8(path)) throw ambiguous('an encoding that is no UTF-8')
  if (!path.startsWith('/')) throw ambiguous('no / at its beginning')
  if (path.includes('//')) throw ambiguous('an empty segment')
  if (path.includes('\\')) throw ambiguous('a backslash')
  if (path.includes(';')) throw ambiguous('parameters (;)')
  if (path.split('/').some(segment => segment === '.' || segment === '..')) throw ambiguous('a dot segment')
  return path
}

/**
 * @param uri the request target in origin form: path and query
 * @throws RequestRefused `method_malformed`, `path_ambiguous`
 */
export const parseCallTarget = (method: string, uri: string): CallTarget => {
  if (!/^[A-Z]{1,20}(?:-[A-Z]{1,20})?$/.test(method))
    throw new RequestRefused('method_malformed', 'expected a method in capital letters')
  if (uri.length > maxUriLength) throw ambiguous(`more than ${maxUriLength} characters`)
  // Blanks and controls end a request line; whatever is not ASCII has no agreed encoding; a fragment is never sent.
  if (!/^[!-~]+$/.test(uri)) throw ambiguous('characters that must be encoded')
  if (uri.includes('#')) throw ambiguous('a fragment')
  const query = uri.indexOf('?')
  return { method, uri, path: canonicalPath(query < 0 ? uri : uri.slice(0, query)) }
}

/** The path of a rule, in the same form. @throws RequestRefused `path_ambiguous` */
export const parseRulePath = (path: string): string => parseCallTarget('GET', path).path
