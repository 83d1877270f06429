// Payloads of requests: from signed bytes to values, with a fault that names the member. Members that nobody here knows are ignored, as
// RFC 8555 §6.1 wants of extensions to come.
import { fromBase64url, fromUtf8 } from '../base/bytes.ts'
import { malformed } from './errors.ts'

export type Payload = Readonly<Record<string, unknown>>

/** @throws AcmeError `malformed`, also for the empty payload of POST-as-GET */
export const readPayload = (bytes: Uint8Array): Payload => {
  if (bytes.length === 0) throw malformed('expected a payload; an empty one is for reading (POST-as-GET)')
  try {
    const value: unknown = JSON.parse(fromUtf8(bytes))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Payload
  } catch {
    // Not JSON, or not UTF-8: both are the same fault.
  }
  throw malformed('expected the payload to be a JSON object in UTF-8')
}

/** RFC 8555 §6.3. */
export const checkPostAsGet = (bytes: Uint8Array): void => {
  if (bytes.length > 0) throw malformed('expected an empty payload: this is read by POST-as-GET')
}

export const optionalText = (payload: Payload, name: string): string | undefined => {
  const value = payload[name]
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string' && value !== '' && value.length <= 2048) return value
  throw malformed(`expected ${name} to be a text`)
}

export const optionalFlag = (payload: Payload, name: string): boolean => {
  const value = payload[name]
  if (value === undefined) return false
  if (typeof value === 'boolean') return value
  throw malformed(`expected ${name} to be true or false`)
}

const rfc3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/i

/** @returns milliseconds since the epoch, on a whole second */
export const optionalTime = (payload: Payload, name: string): number | null => {
  const text = optionalText(payload, name)
  if (text === undefined) return null
  const at = rfc3339.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(at)) throw malformed(`expected ${name} to be a time of RFC 3339`)
  return Math.floor(at / 1000) * 1000
}

export const requiredBytes = (payload: Payload, name: string): Uint8Array => {
  const value = payload[name]
  const bytes = typeof value === 'string' ? fromBase64url(value) : null
  if (bytes === null || bytes.length === 0) throw malformed(`expected ${name} in base64url without padding`)
  return bytes
}
