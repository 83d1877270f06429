// Questions to the DNS servers of the configuration, in bounds: of time, of aliases that are followed, of records that are looked at.
// No hosts file and no search list: a name means what the DNS says.
import { Resolver } from 'node:dns/promises'
import { parseIpAddress } from '../../pki/host-names.ts'
import { ProbeFailure } from './policy.ts'

/** Aliases that an answer leaves to be followed; a server that recurses leaves none. */
const maxAliases = 8
/** Of one name; each is checked, a few are tried. */
const maxAddresses = 32

export interface Dns {
  /** Every address of the name, IPv6 before IPv4; at least one. @throws ProbeFailure dns */
  addresses(name: string): Promise<readonly string[]>
  /** Every TXT record, each joined from its strings; at least one. @throws ProbeFailure dns */
  texts(name: string): Promise<readonly string[]>
}

/** @param signal ends every question */
export const createDns = (servers: readonly string[], signal: AbortSignal): Dns => {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  if (servers.length > 0) resolver.setServers(servers)
  signal.addEventListener('abort', () => resolver.cancel(), { once: true })

  /** An answer without records is an empty list; so is a name without an answer of this kind. */
  const recordsOf = async <T>(
    name: string,
    question: (name: string) => Promise<readonly T[]>,
  ): Promise<readonly T[]> => {
    signal.throwIfAborted()
    try {
      return await question(name)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENODATA') return []
      signal.throwIfAborted()
      throw new ProbeFailure('dns', `${name}: ${reasonOf(code)}`)
    }
  }

  const followed = async <T>(
    name: string,
    question: (name: string) => Promise<readonly T[]>,
  ): Promise<readonly T[]> => {
    let current = name
    for (let aliases = 0; ; aliases++) {
      const records = await recordsOf(current, question)
      if (records.length > 0) return records
      const [alias] = await recordsOf(current, each => resolver.resolveCname(each))
      if (alias === undefined) return []
      if (aliases === maxAliases) throw new ProbeFailure('dns', `${name}: more than ${maxAliases} aliases in a row`)
      current = alias
    }
  }

  return {
    addresses: async name => {
      const [six, four] = await Promise.all([
        followed(name, each => resolver.resolve6(each)),
        followed(name, each => resolver.resolve4(each)),
      ])
      const all = [...six, ...four]
      if (all.length === 0) throw new ProbeFailure('dns', `${name} has no address`)
      if (all.length > maxAddresses) throw new ProbeFailure('dns', `${name} has more than ${maxAddresses} addresses`)
      return all
    },
    texts: async name => {
      const records = await followed(name, each => resolver.resolveTxt(each))
      if (records.length === 0) throw new ProbeFailure('dns', `${name} has no TXT record`)
      return records.map(strings => strings.join(''))
    },
  }
}

const reasonOf = (code: string | undefined): string => {
  switch (code) {
    case 'ENOTFOUND':
      return 'there is no such name'
    case 'ETIMEOUT':
      return 'the DNS servers did not answer in time'
    case 'ECONNREFUSED':
      return 'the DNS servers cannot be reached'
    case 'EBADNAME':
      return 'no name that can be asked for'
    default:
      return `the DNS servers answered with a failure (${code ?? 'unknown'})`
  }
}

/** The name under which RFC 8738 §6 wants an address to be asked for in TLS: the one of its reverse mapping (RFC 1034, RFC 3596). */
export const reverseName = (address: string): string => {
  const octets = parseIpAddress(address) as Uint8Array
  if (octets.length === 4) return `${[...octets].reverse().join('.')}.in-addr.arpa`
  const digits = [...octets].flatMap(octet => [octet >> 4, octet & 15])
  return `${digits
    .reverse()
    .map(digit => digit.toString(16))
    .join('.')}.ip6.arpa`
}
