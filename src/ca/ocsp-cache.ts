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

export type CachedKind = 'good' | 'revoked' | 'unknown'

/** A class, so that a reply from memory is told from others at the cost of one comparison. */
export class CachedReply implements OcspReply {
  readonly kind: CachedKind
  readonly der: Uint8Array
  readonly validity: OcspReply['validity']
  /** Until then it may be repeated without asking the cache. Milliseconds since the epoch; the cache ends it when it drops the answer. */
  repeatUntil = 0

  constructor(kind: CachedKind, der: Uint8Array, validity: OcspReply['validity']) {
    this.kind = kind
    this.der = der
    this.validity = validity
  }
}

export interface CachedAnswer extends AskedCertificate {
  readonly kind: CachedKind
  readonly reply: CachedReply
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

interface Slot {
  readonly answer: CachedAnswer
  /** When it was last moved to the end of the Map, in moves. */
  moved: number
}

export const createOcspCache = (maxEntries: number): OcspCache => {
  // Owned by this closure; every method is synchronous. The Map's order is about that of the last use: see `get`.
  const slots = new Map<string, Slot>()
  const keysOf = new Map<string, Set<string>>()
  let moves = 0
  const subjectOf = (issuerId: number, serial: string): string => `${issuerId}/${serial}`

  const remove = (key: string): void => {
    const slot = slots.get(key)
    if (slot === undefined) return
    slots.delete(key)
    slot.answer.reply.repeatUntil = 0
    const subject = subjectOf(slot.answer.issuerId, slot.answer.serial)
    const keys = keysOf.get(subject)
    keys?.delete(key)
    if (keys?.size === 0) keysOf.delete(subject)
  }

  return {
    get: key => {
      const slot = slots.get(key)
      if (slot === undefined) return undefined
      // Only out of the older three quarters: a Map keeps deleted entries in their hash chain until it grows, so that moving one
      // popular key with every use costs 60 µs each time instead of 1.
      if (moves - slot.moved > slots.size / 4) {
        slots.delete(key)
        slots.set(key, slot)
        slot.moved = ++moves
      }
      return slot.answer
    },
    put: (key, answer) => {
      remove(key)
      slots.set(key, { answer, moved: ++moves })
      const subject = subjectOf(answer.issuerId, answer.serial)
      const keys = keysOf.get(subject)
      if (keys === undefined) keysOf.set(subject, new Set([key]))
      else keys.add(key)
      if (slots.size > maxEntries) remove(slots.keys().next().value as string)
    },
    delete: remove,
    drop: (issuerId, serial) => {
      for (const key of keysOf.get(subjectOf(issuerId, serial)) ?? []) remove(key)
    },
    dropIssuer: issuerId => {
      for (const [key, { answer }] of slots) if (answer.issuerId === issuerId) remove(key)
    },
    clear: () => {
      for (const { answer } of slots.values()) answer.reply.repeatUntil = 0
      slots.clear()
      keysOf.clear()
    },
    *entries() {
      for (const [key, { answer }] of slots) yield [key, answer] as const
    },
    get size() {
      return slots.size
    },
  }
}
