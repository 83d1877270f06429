// The path of a request target, in the one form that resources are looked up by.

/**
 * Without the query and, in the absolute form that proxies use (RFC 9112 §3.2.2), without scheme and authority. Escaped unreserved
 * characters are what they stand for (RFC 3986 §6.2.2.2); an escaped slash stays another thing than a slash, and dots mean nothing.
 * @returns null when it cannot be read: no path, or an escape that is none
 */
export const pathOf = (target: string): string | null => {
  if (/^\/[A-Za-z0-9._~/-]*$/.test(target)) return target
  const absolute = /^https?:\/\/[^/?#]*(?=[/?]|$)/i.exec(target)
  const local = absolute === null ? target : target.slice(absolute[0].length)
  const query = local.indexOf('?')
  const path = query < 0 ? local : local.slice(0, query)
  if (!path.startsWith('/') || /%(?![0-9A-Fa-f]{2})/.test(path)) return null
  return path.replace(/%[0-9A-Fa-f]{2}/g, escaped => {
    const character = String.fromCharCode(Number.parseInt(escaped.slice(1), 16))
    return /[A-Za-z0-9._~-]/.test(character) ? character : escaped
  })
}
