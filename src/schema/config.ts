// agentca.yaml and the environment to one checked configuration. Precedence: flag, environment, file, default. A key `a.b` of the
// file is AGENTCA_A_B in the environment.
import * as z from 'zod'
import { isShardCount, maxShards } from '../pki/crl-shards.ts'
import { parseTrustDomain } from '../pki/spiffe.ts'
import { acmeSchema } from './acme-config.ts'
import { duration, faultsOf, parseYaml } from './document.ts'
import { environmentNames, unknownVariables } from './environment.ts'
import { type Fault, SchemaError } from './errors.ts'
import { eventsSchema } from './events-config.ts'

export interface Address {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
}

/** `host:port`, `[v6]:port` or `:port` (all of IPv4). @returns null for anything else */
export const parseAddress = (text: string): Address | null => {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]*)):([0-9]{1,5})$/.exec(text)
  if (match === null || Number(match[3]) > 65_535) return null
  return { host: match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] as string)), port: Number(match[3]) }
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(?:\.[0-9]{1,3}){3}$/.test(host)

const address = z.string().transform((text, context) => {
  const parsed = parseAddress(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: `expected HOST:PORT, got ${JSON.stringify(text)}` })
  return z.NEVER
})

/** A base that paths are appended to. */
export const baseUrl = (scheme: 'https' | 'http') =>
  z.string().refine(
    text => {
      try {
        const url = new URL(text)
        return (
          url.protocol === `${scheme}:` &&
          url.pathname === '/' &&
          url.search === '' &&
          url.hash === '' &&
          !text.endsWith('/')
        )
      } catch {
        return false
      }
    },
    { error: `expected an ${scheme} URL without a path and without a slash at its end` },
  )

export const trustDomain = z.string().transform((text, context) => {
  try {
    return parseTrustDomain(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})

/** As much as tells a wrong value from a right one; the signer reads it whole. Never repeated in messages: it could hold a PIN. */
const hsmUri = z
  .string()
  .regex(
    /^pkcs11:[^?]+\?(?:.*&)?module-path=/,
    'expected an RFC 7512 URI, for example pkcs11:token=agentca?module-path=/usr/lib/softhsm/libsofthsm2.so',
  )

const whole = (min: number, max: number) => z.coerce.number().int().min(min).max(max)

const schema = z.strictObject({
  /** Part of every SPIFFE ID; set at `init` and never changed. */
  trustDomain: trustDomain.default(parseTrustDomain('agentca.local')),
  mode: z.enum(['development', 'production']).default('development'),
  /** Written into certificates at `init`; default: the listeners' addresses. */
  publicUrl: z.strictObject({ api: baseUrl('https').optional(), status: baseUrl('http').optional() }).prefault({}),
  listen: z
    .strictObject({
      api: address.prefault('127.0.0.1:8443'),
      status: address.prefault('127.0.0.1:8081'),
      ops: address.prefault('127.0.0.1:9464'),
    })
    .prefault({}),
  /** Front processes before the core: 0 for none; `auto`: one less than the machine has cores, at least one. */
  workers: z
    .union([z.literal('auto'), whole(0, 64)], { error: 'expected auto, or a number of processes from 0 to 64' })
    .default(0),
  hsm: z
    .strictObject({
      /** RFC 7512, with pin-source; default: a SoftHSM2 token in AGENTCA_HOME. */
      uri: hsmUri.optional(),
      softhsmConf: z.string().optional(),
      sessions: whole(1, 64).default(4),
    })
    .prefault({}),
  signer: z
    .strictObject({
      /** Of a signer under a user of its own, which is started by itself: `agentca signer`. Default: the server starts one. */
      socket: z
        .string()
        .regex(/^\/[^\0]{1,99}$/, 'expected an absolute path of at most 100 characters')
        .optional(),
    })
    .prefault({}),
  /** Directory of profiles, from the configuration file's. */
  profiles: z.string().min(1).default('profiles'),
  /** Directory of policies, from the configuration file's: what `agentca policy` takes when none is named. */
  policies: z.string().min(1).default('policies'),
  /** Directory of attestors, a file each, from the configuration file's: whose evidence enrols. It need not exist. */
  attestors: z.string().min(1).default('attestors'),
  /** File of rules over what agents do, from the configuration file's directory; default: monitor.yaml, where there is one. */
  monitor: z.string().min(1).optional(),
  issuance: z
    .strictObject({
      signDeadline: duration.prefault('5s'),
      /** First octet of this replica's serials. */
      serialPrefix: whole(1, 127).default(1),
      /** Requests in work at once; beyond it 503 with Retry-After. */
      maxInFlight: whole(1, 100_000).default(2000),
      /** New certificates for one instance: at once, and a minute. One of five minutes' life is renewed about every three. */
      perInstance: z
        .strictObject({ burst: whole(1, 10_000_000).default(20), perMinute: whole(1, 10_000_000).default(2) })
        .prefault({}),
      /** The same for all instances of one agent, service or operator together. */
      perRegistration: z
        .strictObject({ burst: whole(1, 10_000_000).default(5000), perMinute: whole(1, 10_000_000).default(6000) })
        .prefault({}),
    })
    .prefault({}),
  /** Certificates for ACME's clients (RFC 8555). */
  acme: acmeSchema,
  crl: z
    .strictObject({
      lifetime: duration.prefault('24h'),
      /** A new list at the latest when this much of its life is left. */
      refreshBefore: duration.prefault('12h'),
      /** Among how many lists certificates are divided that are issued from now on; 1: they name the complete one. */
      shards: z.coerce
        .number()
        .refine(isShardCount, { error: `expected a power of two from 1 to ${maxShards}` })
        .default(1),
    })
    .prefault({}),
  ledger: z
    .strictObject({
      /** So long after their end certificates and tokens are kept with all that is known of them. */
      keepExpired: duration.refine(seconds => seconds >= 7 * 86_400, { error: 'expected 7d or more' }).prefault('90d'),
    })
    .prefault({}),
  ocsp: z
    .strictObject({
      lifetime: duration.prefault('4h'),
      responderLifetime: duration.prefault('30d'),
      nonce: z.enum(['off', 'on']).default('off'),
      /** Signatures per second spent on answers with a nonce, and on serials never issued. */
      nonceBudget: whole(0, 100_000).default(50),
      unknownBudget: whole(0, 100_000).default(50),
    })
    .prefault({}),
  feed: z
    .strictObject({
      heartbeat: duration.prefault('5s'),
      /** So long after a heartbeat a verifier relies on what it knows: it may miss two. */
      lease: duration.prefault('15s'),
      /** The signed state is published after each change, and at the latest after this long. */
      stateEvery: duration.prefault('30s'),
    })
    .prefault({}),
  /** What nobody seems to need any more (agentca orphans). */
  orphans: z
    .strictObject({
      /** So long without a new certificate or a reported call. */
      idleAfter: duration.prefault('30d'),
      /** So long after it was made a token may wait to be used. */
      tokenUnusedAfter: duration.prefault('7d'),
      /** So long an owner may take for the first attestation of anything of theirs. */
      confirmWithin: duration.prefault('30d'),
      /** How long an attestation holds; what lapsed is held. */
      attestEvery: z
        .union([z.literal('off'), duration], { error: 'expected off, or a duration such as 90d' })
        .default('off'),
      warnBefore: duration.prefault('14d'),
      grace: duration.prefault('7d'),
      /** Whether the server retires by itself what stayed an orphan through the grace period. */
      retire: z.enum(['off', 'on']).default('off'),
      checkEvery: duration.prefault('1h'),
    })
    .prefault({}),
  webhooks: z
    .strictObject({
      /** What an identity provider may say: POST /v1/webhooks/leaver. */
      in: z
        .strictObject({
          /** 32 bytes or more, shared with the provider. */
          secretFile: z.string().min(1).optional(),
          /** How old, or ahead of our clock, a delivery may be. */
          tolerance: duration.prefault('5m'),
        })
        .prefault({}),
    })
    .prefault({}),
  /** Audit leaves as events for other systems. */
  events: eventsSchema(address),
  audit: z
    .strictObject({
      checkpointEvery: duration.prefault('1m'),
      /** Checkpoints are also appended here: a path on another disk, or one that another machine collects. */
      checkpointFile: z.string().min(1).optional(),
    })
    .prefault({}),
  limits: z
    .strictObject({
      /** Requests a minute by one source address without a certificate, and by one identity. */
      anonymousPerMinute: whole(1, 10_000_000).default(6000),
      identityPerMinute: whole(1, 10_000_000).default(6000),
    })
    .prefault({}),
  log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') }).prefault({}),
})

export type Config = Readonly<z.output<typeof schema>>
type Input = Readonly<Record<string, unknown>>

/** Every key of the file, as paths: from the schema itself. */
const leafPaths = (
  shape: Readonly<Record<string, unknown>>,
  at: readonly string[] = [],
): readonly (readonly string[])[] =>
  Object.entries(shape).flatMap(([key, type]) => {
    const inner = objectShape(type)
    return inner === null ? [[...at, key]] : leafPaths(inner, [...at, key])
  })

const objectShape = (type: unknown): Readonly<Record<string, unknown>> | null => {
  let current = type as { shape?: Record<string, unknown>; _zod?: { def?: { innerType?: unknown } } } | undefined
  while (current !== undefined) {
    if (current.shape !== undefined) return current.shape
    current = current._zod?.def?.innerType as typeof current
  }
  return null
}

export const configPaths: readonly string[] = leafPaths(schema.shape).map(path => path.join('.'))

const setAt = (target: Record<string, unknown>, path: readonly string[], value: unknown): void => {
  const [key, ...rest] = path as [string, ...string[]]
  if (rest.length === 0) target[key] = value
  else {
    const inner = { ...(typeof target[key] === 'object' ? (target[key] as object) : {}) } as Record<string, unknown>
    target[key] = inner
    setAt(inner, rest, value)
  }
}

export interface ConfigSources {
  /** Text of the file; null where there is none and none was asked for. */
  readonly text: string | null
  /** What the text is called in messages. */
  readonly source: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** By path, `listen.api` for instance. */
  readonly flags?: Readonly<Record<string, string | undefined>>
}

/** What the environment says is not to be looked for in the file. */
const locate = ({ path, problem }: Fault, variables: ReadonlyMap<string, string>): Fault => {
  const variable = variables.get(path)
  return { path, problem: variable === undefined ? problem : `${problem} (${variable})` }
}

const fileValues = z.looseObject({})

/** What must be less than what. */
const ordered = [
  ['crl', 'refreshBefore', 'lifetime'],
  ['feed', 'heartbeat', 'lease'],
] as const

/** Told together with every other fault: a section is compared where it is without faults of its own. */
const faultsBetween = (values: Input): readonly Fault[] =>
  ordered.flatMap(([section, less, more]) => {
    const read = schema.shape[section].safeParse(values[section])
    if (!read.success) return []
    const of = read.data as Readonly<Record<string, number>>
    if ((of[less] as number) < (of[more] as number)) return []
    return [{ path: `${section}.${less}`, problem: `expected less than ${section}.${more} (${of[more]}s)` }]
  })

/** @throws SchemaError with every fault of file, environment and flags together */
export const parseConfig = ({ text, source, env, flags = {} }: ConfigSources): Config => {
  const values: Record<string, unknown> = { ...(text === null ? {} : (parseYaml(fileValues, text, source) as Input)) }
  const variables = new Map<string, string>()
  const paths = leafPaths(schema.shape)
  for (const path of paths) {
    const key = path.join('.')
    const variable = environmentNames(path).find(name => env[name] !== undefined)
    if (variable !== undefined && flags[key] === undefined) variables.set(key, variable)
    const value = flags[key] ?? (variable === undefined ? undefined : env[variable])
    if (value !== undefined) setAt(values, path, value)
  }
  const result = schema.safeParse(values)
  const faults = [
    ...(result.success ? [] : faultsOf(result.error)),
    ...faultsBetween(values),
    ...unknownVariables(env, new Set(paths.flatMap(environmentNames))).map(({ name, nearest }) => ({
      path: name,
      problem: `no setting has this name, expected ${nearest} perhaps`,
    })),
  ].map(fault => locate(fault, variables))
  if (!result.success || faults.length > 0) throw new SchemaError(source, faults)
  return result.data
}
