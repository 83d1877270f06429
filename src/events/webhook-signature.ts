// How a webhook proves where it comes from, in both directions: `t=<seconds>,v1=<hex>`, the HMAC-SHA-256 under a shared secret over the
// time, a full stop and the exact body. The time bounds how long what was overheard, or kept by a proxy, could be sent again.
import { createHmac, timingSafeEqual } from 'node:crypto'

export const signatureHeader = 'Agentca-Signature'

/** Shorter secrets can be guessed from one signed body. */
export const minSecretBytes = 32

/** The secret as its file has it, without the line break that editors leave. @returns null: too short */
export const parseSecret = (text: string): string | null => {
  const secret = text.replace(/\r?\n$/, '')
  return Buffer.byteLength(secret) < minSecretBytes ? null : secret
}

const mac = (secret: string, seconds: number, body: Uint8Array): Buffer =>
  createHmac('sha256', secret).update(`${seconds}.`).update(body).digest()

export const signBody = (secret: string, nowMs: number, body: Uint8Array): string => {
  const seconds = Math.floor(nowMs / 1000)
  return `t=${seconds},v1=${mac(secret, seconds, body).toString('hex')}`
}

export type SignatureVerdict =
  | { readonly ok: true; readonly signature: string }
  | { readonly ok: false; readonly why: 'malformed' | 'not_current' | 'wrong' }

/** The signature is looked at before the time: whoever has no secret learns nothing about our clock. */
export const checkBody = (
  secret: string,
  header: string | undefined,
  body: Uint8Array,
  { nowMs, toleranceMs }: { readonly nowMs: number; readonly toleranceMs: number },
): SignatureVerdict => {
  const match = /^t=([0-9]{1,12}),v1=([0-9a-f]{64})$/.exec(header ?? '')
  if (match === null) return { ok: false, why: 'malformed' }
  const seconds = Number(match[1])
  if (!timingSafeEqual(mac(secret, seconds, body), Buffer.from(match[2]!, 'hex'))) return { ok: false, why: 'wrong' }
  if (Math.abs(nowMs - seconds * 1000) > toleranceMs) return { ok: false, why: 'not_current' }
  return { ok: true, signature: match[2]! }
}
