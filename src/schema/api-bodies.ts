// Bodies of the agents' API: what a caller may send, unknown members refused, and problems with their paths.
import * as z from 'zod'
import { faultsOf } from './document.ts'
import { SchemaError } from './errors.ts'

/** PEM, or base64 of the DER; at most what 8 KiB of DER need. */
const csr = z.string().min(1).max(16_384)
const idempotencyKey = z.string().regex(/^[!-~]{1,128}$/, 'expected 1 to 128 printable characters')

const evidence = z.strictObject({ type: z.literal('token'), token: z.string().min(1).max(512) })
/** What attestors vouch for. Without `jws` it is the certificate of the connection. */
const workloadEvidence = [
  z.strictObject({ type: z.literal('jwt'), jwt: z.string().min(1).max(16_384) }),
  z.strictObject({ type: z.literal('x509'), jws: z.string().min(1).max(32_768).optional() }),
] as const
const anyEvidence = z.discriminatedUnion('type', [evidence, ...workloadEvidence])

export const enrolBody = z.strictObject({
  csr,
  evidence: anyEvidence,
  idempotencyKey: idempotencyKey.optional(),
})
/** Compact JWS by the present, or last registered, key over `{csrHash, aud, iat, jti}`. */
const jws = z.string().min(1).max(8192)
/** `jws`: where no client certificate reaches the server, behind proxies that end TLS. */
export const renewBody = z.strictObject({ csr, jws: jws.optional(), idempotencyKey: idempotencyKey.optional() })
/** `evidence`: where the profile wants fresh evidence beside the proof. */
export const recoverBody = z.strictObject({ csr, jws, evidence: anyEvidence.optional() })

/** Which process of a service it is. */
const subscriber = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'expected up to 64 letters, digits, dots, dashes')
export const feedQuery = z.strictObject({
  since: z.string().max(64).optional(),
  subscriber: subscriber.optional(),
  /** Seconds beyond its lease that the subscriber goes on with what it knows. */
  maxStaleness: z.coerce.number().int().min(0).max(86_400).default(300),
})
/** `leaving`: it admits nobody any more, so that no revocation waits for it. */
export const acknowledgeBody = z.strictObject({
  id: z.string().max(64),
  subscriber: subscriber.optional(),
  leaving: z.boolean().default(false),
})

/** What a service says of its callers: one line of printable ASCII, because it goes into the audit log. */
const told = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[ -~]*$/, 'expected printable ASCII')
const ageMs = z.int().min(0).max(86_400_000)
/** Equal decisions of a short time as one digest; ages are from when the batch was sent, whatever the sender's clock says. */
export const decisionsBody = z.strictObject({
  /** The same batch sent again has the same one, and counts once. */
  id: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected up to 64 letters, digits, dashes')
    .optional(),
  dropped: z.int().min(0).max(1_000_000_000).default(0),
  decisions: z
    .array(
      z.strictObject({
        outcome: z.enum(['allow', 'deny']),
        rule: told(64).default(''),
        caller: z.string().max(512).nullable(),
        action: told(128),
        resourceClass: told(128),
        source: told(64),
        count: z.int().min(1).max(1_000_000_000),
        firstAgoMs: ageMs,
        lastAgoMs: ageMs,
        maxLatencyMs: z.int().min(0).max(86_400_000).default(0),
      }),
    )
    .max(200),
})

/** What an identity provider says of somebody who has left. Addresses may be longer than owners' names are: RFC 5321 §4.5.3.1. */
export const leaverBody = z.strictObject({ owner: z.string().min(1).max(320), event: z.literal('leaver') })

export type EnrolBody = z.output<typeof enrolBody>
export type RenewBody = z.output<typeof renewBody>
export type RecoverBody = z.output<typeof recoverBody>

/**
 * @param source what is being read, in messages: `body`, `query`
 * @throws SchemaError `request_invalid` with every fault
 */
export const parseWith = <T extends z.ZodType>(schema: T, value: unknown, source: string): z.output<T> => {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new SchemaError(source, faultsOf(result.error), { code: 'request_invalid' })
}
