// Where a probe connects to: addresses, resolved once and all of them checked before the first is used. Whoever connects uses what
// stands here and asks no DNS again, so that an answer that changes (DNS rebinding) changes nothing.
import { parseIpAddress } from '../../pki/host-names.ts'
import { isAllowedAddress } from './allowed-address.ts'
import type { Dns } from './dns-questions.ts'
import { type Identifier, ProbeFailure, type ValidationPolicy } from './policy.ts'

/** More addresses than this are checked, but not tried. */
const maxTries = 4

const cure = 'acme.validation.allowedNetworks of its configuration'

/** @throws ProbeFailure rejectedIdentifier where one address is not allowed, even if others are; dns */
const targetsOf = async (
  identifier: Identifier,
  policy: ValidationPolicy,
  dns: () => Dns,
): Promise<readonly string[]> => {
  const allowed = (address: string): boolean => {
    const octets = parseIpAddress(address)
    return octets !== null && isAllowedAddress(octets, policy.allowedNetworks)
  }
  if (identifier.type === 'ip') {
    if (allowed(identifier.value)) return [identifier.value]
    throw new ProbeFailure(
      'rejectedIdentifier',
      `${identifier.value} is no address that this CA may connect to (${cure})`,
    )
  }
  const addresses = await dns().addresses(identifier.value)
  if (addresses.every(allowed)) return addresses
  // Without the address: what a name means inside is not for everybody who can order it.
  throw new ProbeFailure(
    'rejectedIdentifier',
    `${identifier.value} has an address that this CA may not connect to (${cure})`,
  )
}

/** One address after the other until one can be connected to; what that one answers counts. */
export const tryTargets = async (
  identifier: Identifier,
  policy: ValidationPolicy,
  { dns, probe }: { dns: () => Dns; probe: (address: string) => Promise<void> },
): Promise<void> => {
  const targets = await targetsOf(identifier, policy, dns)
  let last: unknown
  for (const address of targets.slice(0, maxTries))
    try {
      return await probe(address)
    } catch (error) {
      if (!(error instanceof ProbeFailure) || error.problem.type !== 'connection') throw error
      last = error
    }
  throw last
}

/** What went wrong with a connection, in words that hold nothing of what was read from it. */
export const connectionFailure = (error: unknown, where: string): ProbeFailure => {
  const { code } = error as NodeJS.ErrnoException
  switch (code) {
    case 'ECONNREFUSED':
      return new ProbeFailure('connection', `${where}: the connection was refused`)
    case 'ECONNRESET':
    case 'EPIPE':
      return new ProbeFailure('connection', `${where}: the connection was cut`)
    case 'ETIMEDOUT':
      return new ProbeFailure('connection', `${where}: no connection in time`)
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return new ProbeFailure('connection', `${where}: there is no way to it`)
    default:
      return new ProbeFailure('connection', `${where}: no answer that can be read`)
  }
}
