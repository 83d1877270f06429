// One attestor as its file says it: whose evidence is believed, how it is checked, and by which rules it becomes an agent. A file each,
// every fault at once; what the files name (keys, anchors, lists) is read by whoever opens the attestor.
import * as z from 'zod'
import { duration, parseYaml } from './document.ts'
import type { Fault } from './errors.ts'

/** RFC 7518 §3.1, RFC 8037, RFC 9864: by key pairs only. A secret shared with the provider, or no signature at all, proves nothing here. */
export const tokenAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const
export type TokenAlgorithm = (typeof tokenAlgorithms)[number]

const httpsUrl = z.string().refine(
  text => {
    if (!URL.canParse(text)) return false
    const { protocol, username, password, hash, search } = new URL(text)
    return protocol === 'https:' && username === '' && password === '' && hash === '' && search === ''
  },
  { error: 'expected an https URL without user, query and fragment' },
)

const bounded = (min: number, max: number, said: string) =>
  duration.refine(seconds => seconds >= min && seconds <= max, { error: `expected ${said}` })

/** A member of the claims, or a path to one, each step behind a slash with ~1 for / and ~0 for ~ (RFC 6901). */
export const claimPath = (text: string): readonly string[] =>
  text.startsWith('/')
    ? text
        .slice(1)
        .split('/')
        .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    : [text]

const claimName = z.string().regex(/^[^\s{}]{1,200}$/, 'expected the name of a claim, or a path such as /a/b')
/** `*` in a text stands for one or more characters, none of them a slash. */
const literal = z.union([z.string().min(1).max(512), z.number(), z.boolean()])
const required = z.union([literal, z.array(literal).min(1).max(100)], {
  error: 'expected a value, or a list of which one must be there',
})

const placeholder = /\{([^{}]*)\}/g
const template = z
  .string()
  .min(1)
  .max(200)
  .refine(text => /^[a-z0-9-]*$/.test(text.replaceAll(placeholder, '')), {
    error: 'expected lower-case letters, digits and dashes around {claim}',
  })

/** The claims that a template is filled with. */
export const placeholdersOf = (text: string): readonly string[] =>
  [...text.matchAll(placeholder)].map(match => match[1] as string)

const isOne = (value: z.output<typeof required> | undefined): boolean =>
  value !== undefined && !Array.isArray(value) && !String(value).includes('*')

const rule = z
  .strictObject({
    /** Shown where it matched. */
    name: z
      .string()
      .regex(/^[a-z0-9-]{1,64}$/, 'expected lower-case letters, digits and dashes')
      .optional(),
    agent: template.optional(),
    service: template.optional(),
    require: z.record(claimName, required).default({}),
  })
  .superRefine((value, context) => {
    const fault = (message: string, path: string[] = []) => context.addIssue({ code: 'custom', message, path })
    if ((value.agent === undefined) === (value.service === undefined))
      fault('expected agent or service, and one of them')
    const text = value.agent ?? value.service ?? ''
    const names = placeholdersOf(text)
    if (names.some(name => !claimName.safeParse(name).success)) fault('expected the name of a claim in {}', ['agent'])
    // Two claims that others choose, joined by a dash, would let one pair of them pass for another: a-b and c for a and b-c.
    if (names.filter(name => !isOne(value.require[name])).length > 1)
      fault('at most one claim of a name may vary: require one exact value of the others', ['agent'])
    if (names.length === 0 && Object.keys(value.require).length === 0)
      fault('a rule without {claim} requires something, or everybody would be this one', ['require'])
  })

const rules = z.array(rule).min(1).max(200)
const enabled = z.boolean().default(true)
const file = z.string().min(1).max(4096)

const keySource = z.discriminatedUnion('from', [
  z.strictObject({
    from: z.literal('discovery'),
    /** Trust anchors of the provider's TLS server, PEM; default: the public ones that come with Node. */
    caFile: file.optional(),
    /** What the provider wants to see before it shows its keys: a bearer token. Read anew for each request. */
    bearerFile: file.optional(),
    refreshEvery: bounded(60, 86_400, '1m to 24h').prefault('10m'),
    /** So long the last keys are good while the provider does not answer. */
    keepFor: bounded(60, 30 * 86_400, '1m to 30d').prefault('24h'),
  }),
  z.strictObject({
    from: z.literal('url'),
    url: httpsUrl,
    caFile: file.optional(),
    bearerFile: file.optional(),
    refreshEvery: bounded(60, 86_400, '1m to 24h').prefault('10m'),
    keepFor: bounded(60, 30 * 86_400, '1m to 30d').prefault('24h'),
  }),
  z.strictObject({ from: z.literal('file'), file }),
])

const jwtAttestor = z.strictObject({
  kind: z.literal('jwt'),
  enabled,
  /** Exactly as tokens have it. */
  issuer: httpsUrl,
  audience: z.union([z.string().min(1).max(512), z.array(z.string().min(1).max(512)).min(1).max(20)]),
  algorithms: z
    .array(z.enum(tokenAlgorithms, { error: `expected of ${tokenAlgorithms.join(', ')}` }))
    .min(1)
    .max(tokenAlgorithms.length)
    .default(['RS256', 'ES256']),
  keys: keySource.prefault({ from: 'discovery' }),
  clockSkew: bounded(1, 300, '1s to 5m').prefault('30s'),
  /** From iat to exp, at most. */
  maxLife: bounded(60, 86_400, '1m to 24h').prefault('1h'),
  /** `cnf.jkt`: the claim that names the key (RFC 9449 §6.1); where it is there it always counts, `required`: it must be. */
  boundKey: z.enum(['where-named', 'required']).default('where-named'),
  rules,
})

const x509Attestor = z.strictObject({
  kind: z.literal('x509'),
  enabled,
  /** PEM: the only trust anchors of this authority. */
  anchorsFile: file,
  /** PEM: issuers that holders may leave out. */
  intermediatesFile: file.optional(),
  /** PEM or DER, one list for each CA in the path; read anew when it changes. Without it nobody is asked whether a certificate is revoked. */
  crlFile: file.optional(),
  extendedKeyUsage: z.enum(['clientAuth', 'any']).default('clientAuth'),
  /** Where it may be shown: in the TLS handshake, or by a JWS of its key. */
  by: z
    .array(z.enum(['tls', 'jws']))
    .min(1)
    .max(2)
    .default(['tls', 'jws']),
  rules,
})

const schema = z.discriminatedUnion('kind', [jwtAttestor, x509Attestor], { error: 'expected kind jwt or x509' })

/** Its name is the file's. */
interface Named {
  readonly name: string
}
export type JwtAttestorSettings = z.output<typeof jwtAttestor> & Named
export type X509AttestorSettings = z.output<typeof x509Attestor> & Named
export type AttestorSettings = JwtAttestorSettings | X509AttestorSettings
export type AttestorRule = z.output<typeof rule>
export type RequiredValue = z.output<typeof required>

/** @throws SchemaError with every fault */
export const parseAttestor = (name: string, text: string): AttestorSettings => ({
  name,
  ...parseYaml(schema, text, name),
})

export const audiencesOf = ({ audience }: JwtAttestorSettings): readonly string[] =>
  typeof audience === 'string' ? [audience] : audience

/** A token is for one attestor. @returns what is wrong with all of them together */
export const faultsOfAttestors = (attestors: readonly AttestorSettings[]): readonly Fault[] => {
  const taken = new Map<string, string>()
  return attestors.flatMap(settings => {
    if (settings.kind !== 'jwt' || !settings.enabled) return []
    const { name, issuer } = settings
    return audiencesOf(settings).flatMap(audience => {
      const key = JSON.stringify([issuer, audience])
      const other = taken.get(key)
      taken.set(key, name)
      return other === undefined
        ? []
        : [{ path: name, problem: `issuer ${issuer} with audience ${audience} is attestor ${other}'s already` }]
    })
  })
}
