// A certificate profile: what a kind of identity gets, as its file says it. Hard limits that no file can exceed, and what does not go
// together, are policy's (ceilings.ts). Its hash is pinned in every certificate's row, so that it is known later under which rules it
// was issued.
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { toHex, utf8 } from '../base/bytes.ts'
import { duration, parseYaml } from './document.ts'

const schema = z.strictObject({
  kind: z.enum(['agent', 'service', 'operator']),
  keyAlgorithms: z
    .array(z.enum(['P-256', 'P-384', 'Ed25519', 'RSA']))
    .min(1)
    .default(['P-256', 'P-384', 'Ed25519', 'RSA']),
  lifetime: duration.default(3600),
  backdate: duration.default(60),
  extendedKeyUsage: z
    .array(z.enum(['clientAuth', 'serverAuth']))
    .min(1)
    .default(['clientAuth']),
  dnsNames: z.enum(['none', 'registration']).default('none'),
  revocationUrls: z.enum(['present', 'absent']).default('present'),
  noRevAvail: z.enum(['present', 'absent']).default('absent'),
  keyReuse: z.enum(['never', 'allowed']).default('never'),
  instances: z.int().min(1).max(100_000).default(50),
  recovery: z
    .strictObject({
      mode: z.enum(['none', 'same-key', 'evidence']).default('none'),
      count: z.int().min(1).max(100).default(3),
      window: duration.default(86_400),
    })
    .prefault({}),
  /** Where it is there, ACME clients may order under this profile; a profile without it is for enrolment. */
  acme: z
    .strictObject({
      /** What the directory says of it. */
      description: z.string().min(1).max(500),
      /** How names that were not granted may be proved; none: such names are rejected. */
      challenges: z.array(z.enum(['http-01', 'dns-01', 'tls-alpn-01'])).default([]),
    })
    .optional(),
})

export type Profile = Readonly<z.output<typeof schema>> & {
  readonly name: string
  /** SHA-256 of the validated content, hex: equal content has one hash, whatever the comments and the order. */
  readonly hash: string
}

/** @throws SchemaError with every fault */
export const parseProfile = (name: string, text: string): Profile => {
  const content = parseYaml(schema, text, `profile ${name}`)
  // The schema gives its keys in one order, so its JSON is canonical enough to be hashed.
  const hash = toHex(
    createHash('sha256')
      .update(utf8(JSON.stringify(content)))
      .digest(),
  )
  return { name, hash, ...content }
}
