// What the responder said and may say again: answers in memory, each dropped the moment the ledger says something else. Signing is
// ocsp-answer.ts.
import { createHash } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { RevocationsPort } from '../store/ports.ts'
import type { SignedAnswer } from './ocsp-answer.ts'
import { type AskedCertificate, type CachedAnswer, CachedReply, cacheKeyOf, createOcspCache } from './ocsp-cache.ts'
import type { OcspIssuers } from './ocsp-issuers.ts'

export interface OcspMemoryDeps {
  readonly clock: Pick<Clock, 'now'>
  readonly log: Log
  readonly revocations: Pick<RevocationsPort, 'revision' | 'changedSince' | 'onChange'>
  /** Answers kept. */
  readonly maxCached: number
}

export interface OcspMemory {
  /** What may be served now. */
  find(key: string): CachedAnswer | undefined
  /** To be called in the same turn in which the answer was found to be true. */
  remember(asked: AskedCertificate, signed: SignedAnswer, wanted: 'asked' | 'not yet asked'): CachedAnswer
  /** This serial was issued: it is not unknown any more. */
  issued(issuerId: number, serial: string): void
  /** Drops what changed since the last call; called by the ledger itself, and safe to call at any time. */
  follow(): void
  /** Answers past half of their life that are worth another; forgets those past their end. */
  due(): readonly CachedAnswer[]
  readonly size: number
  /** Forgets everything and stops following: from then on nothing is kept. */
  close(): void
}

/** How long `unknown` is repeated: what is issued meanwhile must not look unknown to those who check it next. */
const unknownServedMs = 5_000
const maxUnknownCached = 1_000
/** Changed serials looked at one by one; a larger change empties the issuer's cache instead, in bounded time. */
const changesPage = 2_000

export const createOcspMemory = (deps: OcspMemoryDeps, issuers: OcspIssuers): OcspMemory => {
  const { clock, log, revocations } = deps
  // Owned by this closure and only changed synchronously. `unknown` has a place of its own: strangers must not push out the rest.
  const known = createOcspCache(deps.maxCached)
  const unknown = createOcspCache(maxUnknownCached)
  const caches = [known, unknown] as const
  /** The ledger's revision that the answers of an issuer agree with. */
  const revisions = new Map<number, number>()
  let closed = false

  const dropChanged = (issuerId: number): void => {
    const since = revisions.get(issuerId)
    const now = revocations.revision(issuerId)
    if (now === since) return
    const changed = since === undefined ? [] : revocations.changedSince(issuerId, since, changesPage)
    const tooMany = since === undefined || changed.length === changesPage
    for (const cache of caches)
      if (tooMany) cache.dropIssuer(issuerId)
      else for (const { serial } of changed) cache.drop(issuerId, serial)
    revisions.set(issuerId, now)
  }

  /** Runs inside the ledger's commit, before whoever asked for the change is answered: it must not throw. */
  const follow = (): void => {
    for (const { id, name } of issuers.all())
      try {
        dropChanged(id)
      } catch (error) {
        log.error({ issuer: name, err: error }, 'changes of status cannot be read, forgetting every OCSP answer')
        for (const cache of caches) cache.dropIssuer(id)
      }
  }
  const stopListening = revocations.onChange(follow)
  follow()

  const isServable = (answer: CachedAnswer | undefined): answer is CachedAnswer =>
    answer !== undefined && clock.now() < answer.servedUntil

  return {
    find: key => {
      const answer = known.get(key) ?? unknown.get(key)
      return isServable(answer) ? answer : undefined
    },
    remember: (asked, signed, wanted) => {
      const answer = cachedAnswerOf(asked, signed, wanted, clock.now())
      const key = cacheKeyOf(asked.certIdDer)
      for (const cache of caches) cache.delete(key)
      if (!closed) (answer.kind === 'unknown' ? unknown : known).put(key, answer)
      return answer
    },
    issued: (issuerId, serial) => unknown.drop(issuerId, serial),
    follow,
    due: () => {
      const now = clock.now()
      const found: CachedAnswer[] = []
      for (const [key, answer] of known.entries()) {
        if (now >= answer.servedUntil) known.delete(key)
        else if (now >= answer.refreshAt && (answer.asked || now < answer.notAfter)) found.push(answer)
      }
      return found
    },
    get size() {
      return known.size + unknown.size
    },
    close: () => {
      closed = true
      stopListening()
      for (const cache of caches) cache.clear()
    },
  }
}

const cachedAnswerOf = (
  asked: AskedCertificate,
  { der, thisUpdate, answers }: SignedAnswer,
  wanted: 'asked' | 'not yet asked',
  now: number,
): CachedAnswer => {
  const [{ status, nextUpdate, notAfter }] = answers as readonly [SignedAnswer['answers'][number]]
  const common = { ...asked, notAfter: notAfter ?? 0, asked: wanted === 'asked' }
  if (status === 'unknown') {
    const servedUntil = Math.min(nextUpdate, now + unknownServedMs)
    // No caching on the way either: only the responder can forget in time.
    const reply = new CachedReply('unknown', der, null)
    return { ...common, kind: reply.kind, reply, refreshAt: servedUntil, servedUntil }
  }
  const sha1Hex = toHex(createHash('sha1').update(der).digest())
  const kind = status === 'good' ? 'good' : 'revoked'
  return {
    ...common,
    kind,
    reply: new CachedReply(kind, der, { thisUpdate, nextUpdate, sha1Hex }),
    refreshAt: thisUpdate + (nextUpdate - thisUpdate) / 2,
    servedUntil: nextUpdate,
  }
}
