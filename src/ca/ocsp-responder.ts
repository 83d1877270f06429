// The OCSP responder (RFC 6960, RFC 5019, RFC 9654): which question gets which answer, from memory where it can, signed where it
// must. What cannot be signed gets what is still fresh, or `tryLater`; never a wrong answer.
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { Metrics } from '../base/metrics.ts'
import { PkiError } from '../pki/errors.ts'
import { type CertId, encodeOcspError, type OcspErrorStatus, type OcspRequest, parseOcspRequest } from '../pki/ocsp.ts'
import type { Issuers, OnlineIssuer } from './issuers.ts'
import { createOcspAnswerer, type OcspAnswerDeps } from './ocsp-answer.ts'
import { createBackground } from './ocsp-background.ts'
import { createBudget } from './ocsp-budget.ts'
import { type CachedAnswer, cacheKeyOf } from './ocsp-cache.ts'
import { createResponderCertificates, type ResponderCertificateDeps } from './ocsp-certificate.ts'
import { askedBy, createOcspIssuers, likelyQuestion } from './ocsp-issuers.ts'
import { createOcspMemory, type OcspMemoryDeps } from './ocsp-memory.ts'
import type { OcspReply, OcspSource } from './status-answers.ts'

export interface OcspResponderDeps extends OcspAnswerDeps, ResponderCertificateDeps, OcspMemoryDeps {
  readonly clock: OcspAnswerDeps['clock'] & ResponderCertificateDeps['clock']
  readonly metrics: Metrics
  readonly issuers: Pick<Issuers, 'all' | 'online'>
  /** off: a nonce is ignored (RFC 5019 §2.1.1), and the answer comes from memory. */
  readonly nonce: 'off' | 'on'
  /** Signatures per second on answers for one asker only: with a nonce, or to several certIDs. */
  readonly nonceBudget: number
  /** Signatures per second on serials that were never issued. */
  readonly unknownBudget: number
}

/** What a reply was: an answer to one certID, one for a single asker, or an error. */
export type OcspReplyKind = CachedAnswer['kind'] | 'single-use' | OcspErrorStatus

export interface OcspResponderStats {
  readonly cached: number
  /** Background signatures that wait. */
  readonly queued: number
  /** Since the responder was made. */
  readonly replies: Readonly<Partial<Record<OcspReplyKind, number>>>
  readonly responders: readonly {
    readonly issuer: string
    /** null: none that is valid now; what is not in memory gets `tryLater`. */
    readonly certificate: { readonly serial: string; readonly notAfter: number } | null
  }[]
}

export interface OcspResponder extends OcspSource, AsyncDisposable {
  /** Loads or makes the responder certificates and begins the upkeep. Never rejects: without the HSM it is tried again later. */
  start(): Promise<void>
  /** For what was just issued: signs the answer that will be asked for, with the lowest priority. Returns at once. */
  presign(serial: string): void
  /** One round of the upkeep that runs each second after `start`: changes, certificates, refreshing. Never rejects. */
  maintain(): Promise<void>
  stats(): OcspResponderStats
  /** Stops and waits for what is being signed; from then on every question gets `tryLater`. */
  close(): Promise<void>
}

interface Outcome {
  readonly kind: OcspReplyKind
  readonly reply: OcspReply
}

const upkeepMs = 1_000

const errorOf = (kind: OcspErrorStatus): Outcome => ({ kind, reply: { der: encodeOcspError(kind), validity: null } })
const malformed = errorOf('malformedRequest')
const unauthorized = errorOf('unauthorized')
const tryLater = errorOf('tryLater')
const internalError = errorOf('internalError')

export const createOcspResponder = (deps: OcspResponderDeps): OcspResponder => {
  const { clock, log, metrics } = deps
  const issuers = createOcspIssuers(clock, deps.issuers)
  const certificates = createResponderCertificates(deps)
  const answerer = createOcspAnswerer(deps, certificates)
  const memory = createOcspMemory(deps, issuers)
  const singleUseBudget = createBudget(clock, deps.nonceBudget)
  const unknownBudget = createBudget(clock, deps.unknownBudget)
  // Owned by this closure, changed only synchronously.
  const inFlight = new Map<string, Promise<Outcome>>()
  const counts = new Map<OcspReplyKind, number>()
  const reported = new Map<OcspReplyKind, number>()
  let impaired = false
  let timer: NodeJS.Timeout | null = null
  let upkeep: Promise<void> | null = null
  let closed = false

  const background = createBackground({
    isAwaited: key => inFlight.has(key),
    sign: async asked => {
      const issuer = issuers.byId(asked.issuerId)
      if (issuer === null) return
      const signed = await answerer.sign({ issuer, asked: [asked], nonce: null, priority: 'enrol' })
      memory.remember(asked, signed, 'not yet asked')
    },
    log,
  })

  /** Logged when it begins and when it ends, not for every question. */
  const setImpaired = (error: unknown): void => {
    if (impaired === (error !== null)) return
    impaired = error !== null
    if (impaired) log.warn({ reason: messageOf(error) }, 'OCSP answers cannot be signed, serving what is fresh')
    else log.info({}, 'OCSP answers are signed again')
  }

  const unsigned = (error: unknown): Outcome => {
    if (isAgentCaError(error) && error.code !== 'internal') {
      setImpaired(error)
      return tryLater
    }
    log.error({ err: error }, 'an OCSP answer could not be made')
    return internalError
  }

  const answerOne = (issuer: OnlineIssuer, certId: CertId): Outcome | Promise<Outcome> => {
    const key = cacheKeyOf(certId.der)
    const answer = memory.find(key)
    if (answer !== undefined) {
      answer.asked = true
      if (clock.now() >= answer.refreshAt) background.add(key, answer)
      return answer
    }
    const running = inFlight.get(key)
    if (running !== undefined) return running
    const signing = signOne(issuer, certId).finally(() => inFlight.delete(key))
    inFlight.set(key, signing)
    return signing
  }

  const signOne = async (issuer: OnlineIssuer, certId: CertId): Promise<Outcome> => {
    try {
      const asked = askedBy(issuer, certId)
      if (answerer.anyUnknown(issuer, [asked]) && !unknownBudget.take()) return tryLater
      const signed = await answerer.sign({ issuer, asked: [asked], nonce: null, priority: 'status' })
      const answer = memory.remember(asked, signed, 'asked')
      setImpaired(null)
      return answer
    } catch (error) {
      return unsigned(error)
    }
  }

  /** For this asker alone: with the nonce, or about several certificates. Signed anew each time, hence under a budget. */
  const answerSingleUse = async (
    issuer: OnlineIssuer,
    certIds: readonly CertId[],
    nonce: Uint8Array | null,
  ): Promise<Outcome> => {
    try {
      const asked = certIds.map(certId => askedBy(issuer, certId))
      if (!singleUseBudget.take()) return tryLater
      if (answerer.anyUnknown(issuer, asked) && !unknownBudget.take()) return tryLater
      const { der } = await answerer.sign({ issuer, asked, nonce, priority: 'status' })
      setImpaired(null)
      return { kind: 'single-use', reply: { der, validity: null } }
    } catch (error) {
      const outcome = unsigned(error)
      // Without the nonce: whoever insists on it sees that it is missing.
      return certIds.length === 1 ? (memory.find(cacheKeyOf((certIds[0] as CertId).der)) ?? outcome) : outcome
    }
  }

  const answer = (bytes: Uint8Array): Outcome | Promise<Outcome> => {
    if (closed) return tryLater
    let request: OcspRequest
    try {
      request = parseOcspRequest(bytes)
    } catch (error) {
      if (error instanceof PkiError) return malformed
      return unsigned(error)
    }
    const { certIds } = request
    const issuer = issuers.ofQuestion(certIds)
    if (issuer === null) return unauthorized
    const nonce = deps.nonce === 'on' ? request.nonce : null
    return nonce === null && certIds.length === 1
      ? answerOne(issuer, certIds[0] as CertId)
      : answerSingleUse(issuer, certIds, nonce)
  }

  const counted = ({ kind, reply }: Outcome): OcspReply => {
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
    return reply
  }

  /** In one go, so that a reply from memory need not pay for labels. */
  const reportCounts = (): void => {
    for (const [kind, count] of counts) {
      const since = reported.get(kind) ?? 0
      if (count > since) metrics.count('agentca_ocsp_answers_total', { answer: kind }, count - since)
      reported.set(kind, count)
    }
  }

  const canSign = (): boolean => {
    if (!deps.signer.isConnected()) return false
    try {
      deps.checkClock(clock.now())
      return true
    } catch {
      return false
    }
  }

  const maintainOnce = async (): Promise<void> => {
    try {
      reportCounts()
      // The ledger told of each change already; this is for the one it may have failed to tell.
      memory.follow()
      await certificates.renew(issuers.live())
      if (!canSign()) return
      for (const due of memory.due()) background.add(cacheKeyOf(due.certIdDer), due)
    } catch (error) {
      log.error({ err: error }, 'the upkeep of the OCSP responder failed')
    }
  }
  const maintain = (): Promise<void> => {
    upkeep ??= maintainOnce().finally(() => {
      upkeep = null
    })
    return upkeep
  }

  const presign = (serial: string): void => {
    try {
      for (const issuer of issuers.live()) {
        if (deps.status.states(issuer.id, [serial])[0] == null) continue
        memory.issued(issuer.id, serial)
        const asked = likelyQuestion(issuer, serial)
        const key = cacheKeyOf(asked.certIdDer)
        if (memory.find(key) === undefined) background.add(key, asked)
        return
      }
    } catch (error) {
      log.warn({ serial, err: error }, 'an OCSP answer cannot be signed ahead')
    }
  }

  const close = async (): Promise<void> => {
    closed = true
    if (timer !== null) clearInterval(timer)
    memory.close()
    await Promise.allSettled([upkeep, background.close(), ...inFlight.values()])
    reportCounts()
  }

  return {
    respond: bytes => {
      const outcome = answer(bytes)
      return outcome instanceof Promise ? outcome.then(counted) : counted(outcome)
    },
    start: async () => {
      timer ??= setInterval(() => void maintain(), upkeepMs).unref()
      await maintain()
    },
    presign,
    maintain,
    stats: () => ({
      cached: memory.size,
      queued: background.size,
      replies: Object.fromEntries(counts),
      responders: issuers.live().map(issuer => {
        const certificate = certificates.current(issuer)
        const facts = certificate && { serial: certificate.serialHex, notAfter: certificate.notAfter }
        return { issuer: issuer.name, certificate: facts }
      }),
    }),
    close,
    [Symbol.asyncDispose]: close,
  }
}
