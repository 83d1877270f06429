// Which requests are hot, and what a front finds out about them: the whole body, and whether the certification request in it is signed
// by its key. Whatever is not as it should be is no hot request, and the core says what is wrong with it.
import type { IncomingMessage } from 'node:http'
import type { Clock } from '../base/clock.ts'
import { createRateBuckets, type RateBuckets } from '../base/rate-buckets.ts'
import { parseJson } from '../http/body.ts'
import { parseCsrText } from '../http/csr-text.ts'
import type { LimitRates } from '../http/limits.ts'
import { checkCertificationRequestSignature, parseCertificationRequest } from '../pki/csr.ts'
import { maxCallBytes, type Possession } from './protocol.ts'

export const enrolPath = '/v1/enroll'

/** Posted to: by exact path, without a query. The core answers each without a stream, in one piece. */
const hotPaths: ReadonlySet<string> = new Set([enrolPath, '/v1/renew'])

const json = /^application\/json\s*(?:;\s*charset="?utf-8"?\s*)?$/i

export const isHot = ({ method, url = '', headers }: IncomingMessage): boolean => {
  if (method !== 'POST' || !hotPaths.has(url)) return false
  const { 'content-type': type, 'content-length': length, 'transfer-encoding': chunked } = headers
  if (type === undefined || length === undefined || chunked !== undefined) return false
  if (headers['content-encoding'] !== undefined || headers.expect !== undefined) return false
  return json.test(type) && Number(length) > 0 && Number(length) <= maxCallBytes
}

/** A body that takes longer than this is the core's to wait for. */
const patienceMs = 2_000

/** @param done the body, or what there is of it when time is up; not called when the connection ends before */
export const readBody = (request: IncomingMessage, done: (chunks: Buffer[], isWhole: boolean) => void): void => {
  const chunks: Buffer[] = []
  const onData = (chunk: Buffer): number => chunks.push(chunk)
  const stop = (): void => {
    clearTimeout(timer)
    request.off('data', onData).off('end', onEnd).off('close', stop)
  }
  const onEnd = (): void => {
    stop()
    done(chunks, true)
  }
  const timer = setTimeout(() => {
    stop()
    request.pause()
    done(chunks, false)
  }, patienceMs)
  request.on('data', onData).on('end', onEnd).on('close', stop)
}

const isSignedByItsKey = (body: Uint8Array): boolean => {
  try {
    const { csr } = parseJson(body) as { readonly csr?: unknown }
    if (typeof csr !== 'string') return false
    checkCertificationRequestSignature(parseCertificationRequest(parseCsrText(csr)))
    return true
  } catch {
    // Why is for the core to find out, after it knows whom it tells.
    return false
  }
}

/** Networks. */
const maxCallers = 10_000

/**
 * Looks at requests of anybody, before their evidence: a verification costs less than a tenth of the handshake, and no caller has more of
 * them for nothing than the core's own limit lets through.
 */
export const createPossessionCheck = (clock: Clock, { anonymousPerMinute, identityPerMinute }: LimitRates) => {
  const rate = (perMinute: number) => ({ burst: perMinute, perMinute })
  const anonymous = createRateBuckets<string>(clock, rate(anonymousPerMinute), maxCallers)
  // Each dies with its connection: a closed one holds nothing.
  const identified = new WeakMap<object, RateBuckets<''>>()
  const bucketOf = (connection: object): RateBuckets<''> => {
    const found = identified.get(connection)
    if (found !== undefined) return found
    const made = createRateBuckets<''>(clock, rate(identityPerMinute), 1)
    identified.set(connection, made)
    return made
  }
  /** @param caller whom the limit counts: a network, or the connection of somebody who showed a certificate */
  return (body: Uint8Array, caller: string | object): Possession => {
    const wait = typeof caller === 'string' ? anonymous.take(caller) : bucketOf(caller).take('')
    return wait === 0 && isSignedByItsKey(body) ? 'checked' : 'unchecked'
  }
}
