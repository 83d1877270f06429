// Where a call came from. Of a call that a proxy forwards the socket says where the proxy is; where its caller is, the proxy may say in one
// configured header. A proxy appends what it sees itself at the end of the list: what is before that anybody may have written.
import type { IncomingHttpHeaders } from 'node:http'
import { parseIpAddress } from '../pki/host-names.ts'

/** `x-forwarded-for`: addresses; `forwarded`: RFC 7239. */
export const forwardedForHeaders = ['x-forwarded-for', 'forwarded'] as const
export type ForwardedForHeader = (typeof forwardedForHeaders)[number]

/** Of a call that a proxy speaks for. */
export interface CallSource {
  /** Of the caller; null: nobody says. */
  readonly address: string | null
  /** Of the proxy; null: it came over a socket in the file system. */
  readonly proxy: string | null
}

/** IPv4 in IPv6 is IPv4; null for what is no address. */
export const plainAddress = (text: string | undefined): string | null => {
  const plain = (text ?? '').replace(/^::ffff:(?=\d+\.)/i, '')
  return parseIpAddress(plain.split('%', 1)[0] ?? '') === null ? null : plain
}

/** RFC 7239 §6: a port may follow, an IPv6 address is in brackets then; names that hide an address are none. */
const withoutPort = (node: string): string =>
  /^\[([^\]]*)\](?::\d{1,5})?$/.exec(node)?.[1] ?? /^([0-9.]+):\d{1,5}$/.exec(node)?.[1] ?? node

/** Elements are separated by commas outside quotes, their parameters by semicolons (RFC 7239 §4). null: it cannot be read. */
const lastFor = (value: string): string | null => {
  const element = /(?:^|,)((?:[^,"]|"(?:[^"\\]|\\.)*")*)$/.exec(value)?.[1]
  if (element === undefined) return null
  const found = /(?:^|;)\s*for=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(?:;|$)/i.exec(element.trim())
  return found === null ? null : (found[1]?.replaceAll(/\\(.)/g, '$1') ?? found[2] ?? null)
}

/** What the last proxy says; null: nothing, or nothing that is an address. @param value fields of this name, joined by commas */
export const forwardedAddress = (header: ForwardedForHeader, value: string | undefined): string | null => {
  if (value === undefined) return null
  const node = header === 'forwarded' ? lastFor(value) : (value.split(',').at(-1)?.trim() ?? null)
  return node === null ? null : plainAddress(withoutPort(node))
}

const joined = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(',') : value

export const forwardedSource = (
  header: ForwardedForHeader | null,
  headers: IncomingHttpHeaders,
  proxy: string | undefined,
): CallSource => ({
  address: header === null ? null : forwardedAddress(header, joined(headers[header])),
  proxy: plainAddress(proxy),
})
