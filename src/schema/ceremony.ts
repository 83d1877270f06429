// The input of a key ceremony: one YAML file that people review before and keep after, instead of a sequence of commands. What it
// leaves out has the value written here; where tokens and files are is the command line's business, because it differs by machine.
import * as z from 'zod'
import type { RevocationReason } from '../pki/crl-reasons.ts'
import { dnsName, type GeneralName, uriName } from '../pki/general-names.ts'
import type { ShortName } from '../pki/names.ts'
import { parseSerialHex } from '../pki/serial.ts'
import { baseUrl, trustDomain } from './config.ts'
import { duration, parseYaml } from './document.ts'

const day = 86_400

const pattern = (expression: RegExp, expected: string) =>
  z.string().regex(expression, { error: `expected ${expected}` })

/** Part of file names and URLs. */
const caName = pattern(
  /^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$/,
  'a name of 1 to 48 of a-z, 0-9 and dash, without a dash at either end',
)
const keyLabel = pattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a label of 1 to 64 of A-Z a-z 0-9 . _ -')

const time = z.iso
  .datetime({ offset: true, error: 'expected a time such as 2027-01-31T00:00:00Z' })
  .transform(Date.parse)

const lifetime = (defaultText: string, maxDays: number) =>
  duration.prefault(defaultText).refine(seconds => seconds >= day && seconds <= maxDays * day, {
    error: `expected 1d to ${maxDays}d`,
  })

/** RFC 5280 appendix A.1: the upper bounds of these attributes are 64 characters. */
const attribute = z.string().trim().min(1).max(64)

/** Most significant first, as RFC 4514 readers expect it. */
const attributeOrder = [
  ['country', 'C'],
  ['stateOrProvince', 'ST'],
  ['locality', 'L'],
  ['organization', 'O'],
  ['organizationalUnit', 'OU'],
  ['commonName', 'CN'],
] as const satisfies readonly (readonly [string, ShortName])[]

const subject = z
  .strictObject({
    country: pattern(/^[A-Z]{2}$/, 'two capital letters (ISO 3166)').optional(),
    stateOrProvince: attribute.optional(),
    locality: attribute.optional(),
    organization: attribute.optional(),
    organizationalUnit: attribute.optional(),
    commonName: attribute,
  })
  .transform(given =>
    attributeOrder.flatMap(([key, label]): (readonly [ShortName, string])[] => {
      const value = given[key]
      return value === undefined ? [] : [[label, value]]
    }),
  )

const signingKey = (algorithm: 'P-256' | 'P-384') =>
  z.strictObject({ label: keyLabel.optional(), algorithm: z.enum(['P-256', 'P-384']).default(algorithm) }).prefault({})

const unique =
  <T>(keyOf: (item: T) => string) =>
  (items: readonly T[], context: z.RefinementCtx<T[]>): void => {
    const keys = items.map(keyOf)
    keys.forEach((key, at) => {
      if (keys.indexOf(key) !== at) context.addIssue({ code: 'custom', path: [at], message: `${key} is listed twice` })
    })
  }

const issuer = z.strictObject({ name: caName, keyLabel: keyLabel.optional() })

const host = /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/
const hosts = (expression: RegExp, expected: string) => z.array(pattern(expression, expected)).default([])

/** Off unless asked for: several relying parties refuse every leaf below a CA that has them (architecture.md, Measured facts). */
const nameConstraints = z
  .strictObject({
    permitted: z.strictObject({
      dns: hosts(host, 'a domain in lower case'),
      uri: hosts(new RegExp(`^\\.?${host.source.slice(1)}`), 'a host, or a domain with a dot before it, in lower case'),
    }),
  })
  .transform(({ permitted }): readonly GeneralName[] => [...permitted.dns.map(dnsName), ...permitted.uri.map(uriName)])
  .refine(names => names.length > 0, { error: 'expected at least one permitted name; leave it out for no constraint' })

/** What the certificates of root and issuing CAs have in common. */
const certificateFields = {
  name: caName,
  subject,
  /** Default: an hour before the ceremony, for relying parties whose clocks are behind. */
  notBefore: time.optional(),
  nameConstraints: nameConstraints.optional(),
  /** Gives the CA the SPIFFE ID of its trust domain (X509-SVID §3.2). */
  trustDomain: trustDomain.optional(),
}

const labelled = <T extends { readonly name: string; readonly key: { readonly label?: string | undefined } }>(
  input: T,
) => ({ ...input, key: { ...input.key, label: input.key.label ?? input.name } })

const issuerLabelled = <T extends { readonly issuer: z.output<typeof issuer> }>(input: T) => ({
  ...input,
  issuer: { name: input.issuer.name, keyLabel: input.issuer.keyLabel ?? input.issuer.name },
})

const root = z
  .strictObject({
    ceremony: z.literal('root', { error: 'expected root: this is the input of another ceremony' }),
    ...certificateFields,
    key: signingKey('P-384'),
    lifetime: lifetime('3650d', 9131),
    /** How many CAs may follow below; none: no limit. */
    pathLength: z
      .union([z.literal('none'), z.int().min(0).max(10)], { error: 'expected none, or a whole number from 0 to 10' })
      .default('none')
      .transform(value => (value === 'none' ? null : value)),
  })
  .transform(labelled)

const issuing = z
  .strictObject({
    ceremony: z.literal('issuing', { error: 'expected issuing: this is the input of another ceremony' }),
    ...certificateFields,
    key: signingKey('P-256'),
    lifetime: lifetime('365d', 3653),
    pathLength: z.int().min(0).max(10).default(0),
    /** The root that signs: its name in URLs and the label of its key. */
    issuer,
    /** Where the root's CRL and certificate are published: `<statusUrl>/crl/<root>.crl`, `<statusUrl>/aia/<root>.cer`. */
    statusUrl: baseUrl('http').optional(),
    /** Further P-256 keys in the same token: OCSP responder, audit log. */
    alsoGenerate: z
      .array(keyLabel)
      .max(16)
      .superRefine(unique(label => label))
      .default([]),
  })
  .transform(labelled)
  .transform(issuerLabelled)
  .superRefine((input, context) => {
    const fault = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message })
    if (input.alsoGenerate.includes(input.key.label))
      fault(['alsoGenerate'], `label ${input.key.label} is already the CA's own`)
    if (input.issuer.name === input.name) fault(['issuer', 'name'], 'expected another CA than this one')
  })

/** RFC 5280 §5.3.1, without the two that only a delta or a hold would need: neither is for a CA. */
const caReasons = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'privilegeWithdrawn',
] as const satisfies readonly RevocationReason[]

const serial = z
  .string({ error: 'expected the serial as text in quotes: YAML reads digits as a number' })
  .transform((text, context) => {
    try {
      return parseSerialHex(text)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message })
      return z.NEVER
    }
  })

const crl = z
  .strictObject({
    ceremony: z.literal('crl', { error: 'expected crl: this is the input of another ceremony' }),
    issuer,
    lifetime: lifetime('400d', 400),
    revoked: z
      .array(z.strictObject({ serial, at: time, reason: z.enum(caReasons) }))
      .superRefine(unique(entry => entry.serial))
      .default([]),
  })
  .transform(issuerLabelled)

const schemas = { root, issuing, crl } as const

export type CeremonyKind = keyof typeof schemas
export type CeremonyInput<K extends CeremonyKind> = Readonly<z.output<(typeof schemas)[K]>>

/** @throws SchemaError with every fault of the text */
export const parseCeremony = <K extends CeremonyKind>(kind: K, text: string, source: string): CeremonyInput<K> =>
  parseYaml(schemas[kind], text, source) as CeremonyInput<K>
