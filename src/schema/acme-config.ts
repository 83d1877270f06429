// The part of the configuration about ACME: who may have an account, how many orders, and where the CA may connect to when a profile lets it
// probe names.
import * as z from 'zod'
import { parseIpAddress } from '../pki/host-names.ts'
import { type IpNetwork, parseIpNetwork } from '../pki/ip-networks.ts'
import { duration } from './document.ts'

/** A list in YAML, or values with commas between them in the environment. */
const list = z.union([
  z.array(z.string()),
  z.string().transform(text =>
    text
      .split(',')
      .map(each => each.trim())
      .filter(each => each !== ''),
  ),
])

/** Each text parsed, with a fault for each that cannot be. */
const listOf = <T>(parse: (text: string) => T | null, expected: string) =>
  list.transform((texts, context): readonly T[] =>
    texts.flatMap(text => {
      const parsed = parse(text)
      if (parsed !== null) return [parsed]
      context.addIssue({ code: 'custom', message: `expected ${expected}, got ${JSON.stringify(text)}` })
      return []
    }),
  )

/** `192.0.2.53`, `192.0.2.53:5353`, `[2001:db8::53]:53`: as the resolver takes it. */
const parseResolver = (text: string): string | null => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?$/.exec(text)
  const address = match?.[1] ?? match?.[2] ?? text
  const port = Number(match?.[3] ?? 53)
  return parseIpAddress(address) === null || port < 1 || port > 65_535 ? null : text
}

const port = z.coerce.number().int().min(1).max(65_535)

const acmeValidationSchema = z
  .strictObject({
    /** Empty: no address may be connected to. Special ones (loopback, link-local, metadata, ...) only where named by themselves. */
    allowedNetworks: listOf<IpNetwork>(parseIpNetwork, 'a network such as 10.0.0.0/8 or fd00::/8').prefault([]),
    /** Empty: the system's. */
    resolvers: listOf(parseResolver, 'the address of a DNS server, such as 10.0.0.53 or [fd00::53]:53').prefault([]),
    /** RFC 8555 §8.3 and RFC 8737 §3 want these; others where every client is told. */
    httpPort: port.default(80),
    tlsPort: port.default(443),
    /** For one probe, with every address that is tried. */
    timeout: duration.prefault('10s'),
  })
  .prefault({})

const whole = (min: number, max: number) => z.coerce.number().int().min(min).max(max)

/** From the environment too. */
const flag = z.union([
  z.boolean(),
  z.enum(['true', 'false'], { error: 'expected true or false' }).transform(text => text === 'true'),
])

export const acmeSchema = z
  .strictObject({
    /** false: accounts without a binding are instances of `unboundService`, and prove every name they order. */
    requireExternalAccount: flag.default(true),
    unboundService: z.string().min(1).max(64).optional(),
    /** Accounts without a binding that have no certificate yet, and their open orders: more are refused. They go after `orderLifetime`. */
    maxUnboundAccounts: whole(1, 1_000_000).default(10_000),
    /** How long an order waits for its challenges and its request. */
    orderLifetime: duration.prefault('1d'),
    /** New orders of one account: at once, and a minute. */
    orders: z
      .strictObject({ burst: whole(1, 10_000_000).default(60), perMinute: whole(1, 10_000_000).default(10) })
      .prefault({}),
    /** Orders of one account that wait for their end. */
    maxOpenOrders: whole(1, 100_000).default(100),
    validation: acmeValidationSchema,
  })
  .superRefine(({ requireExternalAccount, unboundService }, context) => {
    if (requireExternalAccount || unboundService !== undefined) return
    const message = 'expected the name of a service, since external accounts are not required'
    context.addIssue({ code: 'custom', path: ['unboundService'], message })
  })
  .prefault({})
