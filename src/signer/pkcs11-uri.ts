// RFC 7512 PKCS#11 URIs, as strictly as a certificate authority wants them: the module by absolute path, the token by label or
// serial, the PIN only by file. Opens nothing; says what it read or what to change.
import { fromUtf8 } from '../base/bytes.ts'
import { TokenError } from './errors.ts'

export interface Pkcs11Uri {
  readonly token: string | undefined
  readonly serial: string | undefined
  /** CKA_LABEL of the key. */
  readonly object: string | undefined
  /** CKA_ID of the key. */
  readonly id: Uint8Array | undefined
  readonly modulePath: string
  /** Absolute path of the file that holds the PIN; undefined means that an operator unlocks by hand. */
  readonly pinFile: string | undefined
}

const pathNames = ['token', 'serial', 'object', 'id', 'type'] as const
const queryNames = ['module-path', 'pin-source'] as const

const fail = (message: string, hint: string): never => {
  throw new TokenError('pkcs11_uri_invalid', message, { hint })
}

// RFC 7512 §2.3: pk11-pchar and pk11-qchar. The query also allows "/", "?" and "|".
const pathChars = /^(?:[A-Za-z0-9\-._~:[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*$/
const queryChars = /^(?:[A-Za-z0-9\-._~:[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*$/

const percentDecode = (text: string): Uint8Array => {
  const out: number[] = []
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '%') {
      out.push(Number.parseInt(text.slice(i + 1, i + 3), 16))
      i += 2
    } else out.push(text.charCodeAt(i))
  }
  return Uint8Array.from(out)
}

const decodeText = (name: string, raw: string): string => {
  try {
    return fromUtf8(percentDecode(raw))
  } catch {
    return fail(`${name} is not UTF-8 after percent-decoding`, `write ${name} as percent-encoded UTF-8`)
  }
}

const readAttributes = (
  text: string,
  rule: { separator: string; allowed: readonly string[]; chars: RegExp },
): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  if (text === '') return found
  for (const part of text.split(rule.separator)) {
    const equals = part.indexOf('=')
    if (equals <= 0)
      fail(`expected name=value, got "${part.slice(0, 32)}"`, `separate attributes by "${rule.separator}"`)
    const name = part.slice(0, equals)
    const value = part.slice(equals + 1)
    if (name === 'pin-value') {
      fail(
        'pin-value is refused: it puts the PIN into configuration, arguments and logs',
        'put the PIN into a 0600 file and name it: pin-source=file:/absolute/path',
      )
    }
    if (!rule.allowed.includes(name))
      fail(`attribute ${name} is not known here`, `allowed here: ${rule.allowed.join(', ')}`)
    // RFC 7512 §2.3: an attribute must not appear twice.
    if (found.has(name)) fail(`attribute ${name} appears twice`, `keep one ${name}`)
    if (!rule.chars.test(value))
      fail(`${name} contains a character that must be percent-encoded`, 'percent-encode it, for example a space as %20')
    found.set(name, value)
  }
  return found
}

/** @returns the path of a `file:` pin-source (RFC 8089 forms `file:/p` and `file:///p`, or a bare absolute path) */
const parsePinSource = (raw: string): string => {
  const text = decodeText('pin-source', raw)
  if (text.startsWith('|')) fail('pin-source must not be a command', 'use pin-source=file:/absolute/path')
  const path = text.startsWith('file:///') ? text.slice(7) : text.startsWith('file:') ? text.slice(5) : text
  if (!path.startsWith('/') || path.startsWith('//'))
    fail('pin-source must name a file by its absolute path', 'use pin-source=file:/absolute/path')
  return path
}

/**
 * @example pkcs11:token=agentca;object=issuing-1?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin
 * @throws TokenError `pkcs11_uri_invalid`, with the cure as hint
 */
export const parsePkcs11Uri = (text: string): Pkcs11Uri => {
  if (!text.startsWith('pkcs11:'))
    fail(
      'expected a URI that starts with "pkcs11:"',
      'for example pkcs11:token=agentca;object=issuing-1?module-path=/usr/lib/softhsm/libsofthsm2.so',
    )
  const body = text.slice('pkcs11:'.length)
  const mark = body.indexOf('?')
  const path = readAttributes(mark < 0 ? body : body.slice(0, mark), {
    separator: ';',
    allowed: pathNames,
    chars: pathChars,
  })
  const query = readAttributes(mark < 0 ? '' : body.slice(mark + 1), {
    separator: '&',
    allowed: queryNames,
    chars: queryChars,
  })

  const type = path.get('type')
  if (type !== undefined && type !== 'private') fail(`type must be "private", got "${type}"`, 'leave type out')
  const rawModule = query.get('module-path')
  if (rawModule === undefined) return fail('module-path is missing', 'add ?module-path=/usr/lib/softhsm/libsofthsm2.so')
  const modulePath = decodeText('module-path', rawModule)
  // A bare name would go through the loader's search path, where whoever sets LD_LIBRARY_PATH chooses the code that gets the PIN.
  if (!modulePath.startsWith('/')) fail('module-path must be absolute', 'give the full path of the PKCS#11 library')
  const token = path.get('token')
  const serial = path.get('serial')
  if (token === undefined && serial === undefined)
    fail('neither token nor serial is given', 'add token=LABEL; slots are never chosen by index')
  const object = path.get('object')
  const id = path.get('id')
  const pinSource = query.get('pin-source')
  return {
    token: token === undefined ? undefined : decodeText('token', token),
    serial: serial === undefined ? undefined : decodeText('serial', serial),
    object: object === undefined ? undefined : decodeText('object', object),
    id: id === undefined ? undefined : percentDecode(id),
    modulePath,
    pinFile: pinSource === undefined ? undefined : parsePinSource(pinSource),
  }
}

const encodeText = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** The form that `parsePkcs11Uri` reads back to the same value. */
export const encodePkcs11Uri = (uri: Pkcs11Uri): string => {
  const path: string[] = []
  if (uri.token !== undefined) path.push(`token=${encodeText(uri.token)}`)
  if (uri.serial !== undefined) path.push(`serial=${encodeText(uri.serial)}`)
  if (uri.object !== undefined) path.push(`object=${encodeText(uri.object)}`)
  if (uri.id !== undefined)
    path.push(`id=${[...uri.id].map(b => `%${b.toString(16).padStart(2, '0').toUpperCase()}`).join('')}`)
  const slashes = (text: string): string => encodeText(text).replaceAll('%2F', '/')
  const query = [`module-path=${slashes(uri.modulePath)}`]
  if (uri.pinFile !== undefined) query.push(`pin-source=file:${slashes(uri.pinFile)}`)
  return `pkcs11:${path.join(';')}?${query.join('&')}`
}
