// Bodies of the agents' API: what a caller may send, unknown members refused, and problems with their paths.
import * as z from 'zod'
import { faultsOf } from './document.ts'
import { SchemaError } from './errors.ts'

/** PEM, or base64 of the DER; at most what 8 KiB of DER need. */
const csr = z.string().min(1).max(16_384)
const idempotencyKey = z.string().regex(/^[!-~]{1,128}$/, 'expected 1 to 128 printable characters')

export const enrolBody = z.strictObject({
  csr,
  evidence: z.strictObject({ type: z.literal('token'), token: z.string().min(1).max(512) }),
  idempotencyKey: idempotencyKey.optional(),
})
/** Compact JWS by the present, or last registered, key over `{csrHash, aud, iat, jti}`. */
const jws = z.string().min(1).max(8192)
/** `jws`: where no client certificate reaches the server, behind proxies that end TLS. */
export const renewBody = z.strictObject({ csr, jws: jws.optional(), idempotencyKey: idempotencyKey.optional() })
export const recoverBody = z.strictObject({ csr, jws })

export type EnrolBody = z.output<typeof enrolBody>
export type RenewBody = z.output<typeof renewBody>
export type RecoverBody = z.output<typeof recoverBody>

/**
 * @param source what is being read, in messages: `body`, `query`
 * @throws SchemaError with every fault
 */
export const parseWith = <T extends z.ZodType>(schema: T, value: unknown, source: string): z.output<T> => {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new SchemaError(source, faultsOf(result.error))
}
