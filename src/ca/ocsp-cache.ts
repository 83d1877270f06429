// Finished OCSP answers by the certID they answer: what was not asked for longest leaves first, and everything about one serial goes
// at once. Knows nothing of time or truth: ocsp-memory.ts says what comes in and how long it stays.
import { toBase64 } from '../base/bytes.ts'
import type { OcspReply } from './status-answers.ts'

/** One certificate that is asked about, under one issuer of ours. */
export interface AskedCertificate {
  readonly issuerId: number
  /** Lower-case hex, as the ledger has it. */
  readonly serial: string
  /** As received. No view into a request, which would keep its whole buffer alive. */
  readonly certIdDer: Uint8Array
}

export interface CachedAnswer extends AskedCertificate {
  readonly kind: 'good' | 'revoked' | 'unknown'
  readonly reply: OcspReply
  /** From then on a new one is made in the background. */
  readonly refreshAt: number
  /** From then on it is not served. */
  readonly servedUntil: number
  /** The certificate's end; 0 where there is none. */
  readonly notAfter: number
  /** Whether anybody wanted it since it was made. */
  asked: boolean
}

export interface OcspCache {
  get(key: string): CachedAnswer | undefined
  put(key: string, answer: CachedAnswer): void
  delete(key: string): void
  /** Everything said about this serial, however it was asked. */
  drop(issuerId: number, serial: string): void
  dropIssuer(issuerId: number): void
  clear(): void
  entries(): Iterable<readonly [string, CachedAnswer]>
  readonly size: number
}

/** A certID byte for byte: hash algorithm, issuer and serial, in the very encoding that the answer has to repeat. */
export const cacheKeyOf = (certIdDer: Uint8Array): string => toBase64(certIdDer)

export const createOcspCache = (maxEntries: number): OcspCache => {
  // Owned by this closure; every method is synchronous. The Map's order is that of the last use.
  const answers = new Map<string, CachedAnswer>()
  const keysOf = new Map<string, Set<string>>()
  const subjectOf = (issuerId: number, serial: string): string => `${issuerId}/${serial}`

  const remove = (key: string): void => {
    const answer = answers.get(key)
    if (answer === undefined) return
    answers.delete(key)
    const subject = subjectOf(answer.issuerId, answer.serial)
    const keys = keysOf.get(subject)
    keys?.delete(key)
    if (keys?.size === 0) keysOf.delete(subject)
  }

  return {
    get: key => {
      const answer = answers.get(key)
      if (answer === undefined) return undefined
      answers.delete(key)
      answers.set(key, answer)
      return answer
    },
    put: (key, answer) => {
      remove(key)
      answers.set(key, answer)
      const subject = subjectOf(answer.issuerId, answer.serial)
      const keys = keysOf.get(subject)
      if (keys === undefined) keysOf.set(subject, new Set([key]))
      else keys.add(key)
      if (answers.size > maxEntries) remove(answers.keys().next().value as string)
    },
    delete: remove,
    drop: (issuerId, serial) => {
      for (const key of keysOf.get(subjectOf(issuerId, serial)) ?? []) remove(key)
    },
    dropIssuer: issuerId => {
      for (const [key, answer] of answers) if (answer.issuerId === issuerId) remove(key)
    },
    clear: () => {
      answers.clear()
      keysOf.clear()
    },
    entries: () => answers,
    get size() {
      return answers.size
    },
  }
}
