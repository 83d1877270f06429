// Which OCSP question gets which answer (RFC 6960, RFC 5019, RFC 9654): from memory where it can, signed where it must, under a budget
// where strangers decide how often. What cannot be signed gets what is still fresh, or `tryLater`; never a wrong answer.
import type { Clock } from '../base/clock.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { PkiError } from '../pki/errors.ts'
import { type CertId, encodeOcspError, type OcspErrorStatus, type OcspRequest, parseOcspRequest } from '../pki/ocsp.ts'
import type { OnlineIssuer } from './issuers.ts'
import type { OcspAnswerer } from './ocsp-answer.ts'
import type { Background } from './ocsp-background.ts'
import { createBudget } from './ocsp-budget.ts'
import { type AskedCertificate, type CachedAnswer, cacheKeyOf } from './ocsp-cache.ts'
import { askedBy, type OcspIssuers } from './ocsp-issuers.ts'
import type { OcspMemory } from './ocsp-memory.ts'
import type { OcspReply } from './status-answers.ts'

export interface OcspQuestionDeps {
  readonly clock: Clock
  readonly log: Log
  /** off: a nonce is ignored (RFC 5019 §2.1.1), and the answer comes from memory. */
  readonly nonce: 'off' | 'on'
  /** Signatures per second on answers for one asker only: with a nonce, or to several certIDs. */
  readonly nonceBudget: number
  /** Signatures per second on serials that were never issued. */
  readonly unknownBudget: number
}

/** What a reply was: an answer to one certID, one for a single asker, or an error. */
export type OcspReplyKind = CachedAnswer['kind'] | 'single-use' | OcspErrorStatus

export interface OcspOutcome {
  readonly kind: OcspReplyKind
  readonly reply: OcspReply
}

export interface OcspQuestions {
  /** Never rejects. Synchronous from memory. */
  answer(request: Uint8Array): OcspOutcome | Promise<OcspOutcome>
  /** Resolves when nothing is being signed. */
  idle(): Promise<void>
}

const errorOf = (kind: OcspErrorStatus): OcspOutcome => ({
  kind,
  reply: { der: encodeOcspError(kind), validity: null },
})
const malformed = errorOf('malformedRequest')
const unauthorized = errorOf('unauthorized')
const internalError = errorOf('internalError')
export const tryLater = errorOf('tryLater')

/** How long the listener may repeat a reply by itself: each second the memory learns what is still asked for. */
const repeatMs = 1_000

/** Parts of the responder that answers are made of. */
interface Sources {
  readonly issuers: OcspIssuers
  readonly memory: OcspMemory
  readonly answerer: OcspAnswerer
  readonly background: Background
}

export const createOcspQuestions = (deps: OcspQuestionDeps, sources: Sources): OcspQuestions => {
  const { clock } = deps
  const { issuers, memory, answerer, background } = sources
  const singleUseBudget = createBudget(clock, deps.nonceBudget)
  const unknownBudget = createBudget(clock, deps.unknownBudget)
  const { failed, succeeded } = createHealth(deps.log)
  // Owned by this closure, changed only synchronously. `shared`: who asks the same meanwhile waits for the same signature.
  const shared = new Map<string, Promise<OcspOutcome>>()
  const working = new Set<Promise<OcspOutcome>>()

  const tracked = (work: Promise<OcspOutcome>): Promise<OcspOutcome> => {
    working.add(work)
    return work.finally(() => working.delete(work))
  }

  const mayAsk = (issuer: OnlineIssuer, asked: readonly AskedCertificate[]): boolean =>
    !answerer.anyUnknown(issuer, asked) || unknownBudget.take()

  const fromMemory = (key: string): OcspOutcome | null => {
    const known = memory.find(key)
    if (known === undefined) return null
    known.asked = true
    const now = clock.now()
    if (now >= known.refreshAt) background.add(key, known)
    else known.reply.repeatUntil = Math.min(now + repeatMs, known.refreshAt, known.servedUntil)
    return known
  }

  const answerOne = (issuer: OnlineIssuer, certId: CertId): OcspOutcome | Promise<OcspOutcome> => {
    const key = cacheKeyOf(certId.der)
    const known = fromMemory(key)
    if (known !== null) return known
    const running = shared.get(key)
    if (running !== undefined) return running
    const signing = tracked(signOne(issuer, certId)).finally(() => shared.delete(key))
    shared.set(key, signing)
    return signing
  }

  const signOne = async (issuer: OnlineIssuer, certId: CertId): Promise<OcspOutcome> => {
    try {
      const asked = askedBy(issuer, certId)
      if (!mayAsk(issuer, [asked])) return tryLater
      const signed = await answerer.sign({ issuer, asked: [asked], nonce: null, priority: 'status' })
      const answer = memory.remember(asked, signed, 'asked')
      succeeded()
      return answer
    } catch (error) {
      return failed(error)
    }
  }

  /** For this asker alone: with the nonce, or about several certificates. Signed anew each time, hence under a budget. */
  const answerSingleUse = async (
    issuer: OnlineIssuer,
    asked: readonly AskedCertificate[],
    nonce: Uint8Array | null,
  ): Promise<OcspOutcome> => {
    try {
      if (!singleUseBudget.take() || !mayAsk(issuer, asked)) return tryLater
      const { der } = await answerer.sign({ issuer, asked, nonce, priority: 'status' })
      succeeded()
      return { kind: 'single-use', reply: { der, validity: null } }
    } catch (error) {
      const outcome = failed(error)
      const [only] = asked
      // Without the nonce: whoever insists on it sees that it is missing.
      return (asked.length === 1 && only && memory.find(cacheKeyOf(only.certIdDer))) || outcome
    }
  }

  return {
    answer: bytes => {
      let request: OcspRequest
      try {
        request = parseOcspRequest(bytes)
      } catch (error) {
        return error instanceof PkiError ? malformed : failed(error)
      }
      const { certIds } = request
      const issuer = issuers.ofQuestion(certIds)
      if (issuer === null) return unauthorized
      const nonce = deps.nonce === 'on' ? request.nonce : null
      const [only] = certIds
      if (nonce === null && certIds.length === 1 && only !== undefined) return answerOne(issuer, only)
      const asked = certIds.map(certId => askedBy(issuer, certId))
      return tracked(answerSingleUse(issuer, asked, nonce === null ? null : nonce.slice()))
    },
    idle: async () => {
      await Promise.all(working)
    },
  }
}

/** Whether answers can be signed: logged when it changes, not for every question. */
const createHealth = (log: Log) => {
  let impaired = false
  return {
    failed: (error: unknown): OcspOutcome => {
      if (!isAgentCaError(error) || error.code === 'internal') {
        log.error({ err: error }, 'an OCSP answer could not be made')
        return internalError
      }
      if (!impaired) log.warn({ reason: messageOf(error) }, 'OCSP answers cannot be signed, serving what is fresh')
      impaired = true
      return tryLater
    },
    succeeded: (): void => {
      if (impaired) log.info({}, 'OCSP answers are signed again')
      impaired = false
    },
  }
}
