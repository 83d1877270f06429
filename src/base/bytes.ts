// Bytes and their text forms. Uint8Array everywhere; Buffer only inside this file, because it is the fastest codec Node has.

export const concatBytes = (parts: readonly Uint8Array[]): Uint8Array => {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Not constant-time: for public values only. Secrets are compared with node:crypto's timingSafeEqual. */
export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && Buffer.compare(a, b) === 0

const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Lower-case hex without separators: the text form of serials and hashes everywhere in agentca. */
export const toHex = (bytes: Uint8Array): string => view(bytes).toString('hex')

/** One character an octet: a key for maps and sets, at a fraction of the cost of hex. */
export const toLatin1 = (bytes: Uint8Array): string => view(bytes).toString('latin1')

/** @returns null when the text is not an even number of hex digits (either case) */
export const fromHex = (text: string): Uint8Array | null =>
  text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text) ? plain(Buffer.from(text, 'hex')) : null

export const toBase64 = (bytes: Uint8Array): string => view(bytes).toString('base64')
export const toBase64url = (bytes: Uint8Array): string => view(bytes).toString('base64url')

/** Not copied: a backing store of its own costs a small value more than its decoding. */
const plain = (bytes: Buffer): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)

/** Strict RFC 4648 §4: padding demanded, no white space, canonical. @returns null otherwise */
export const fromBase64 = (text: string): Uint8Array | null => {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) return null
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? plain(bytes) : null
}

/** Strict RFC 4648 §5 without padding, canonical. @returns null otherwise */
export const fromBase64url = (text: string): Uint8Array | null => {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return null
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? plain(bytes) : null
}

const decoder = new TextDecoder('utf-8', { fatal: true })

export const utf8 = (text: string): Uint8Array => plain(Buffer.from(text, 'utf8'))

/** @throws TypeError when the bytes are not UTF-8 */
export const fromUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes)
