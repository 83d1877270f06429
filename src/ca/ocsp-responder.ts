// The OCSP responder as one part with a life: its certificates, its memory, answers signed ahead and refreshed, an upkeep each
// second. Which question gets which answer is ocsp-questions.ts.
import type { Metrics } from '../base/metrics.ts'
import type { Issuers } from './issuers.ts'
import { createOcspAnswerer, type OcspAnswerDeps } from './ocsp-answer.ts'
import { createBackground } from './ocsp-background.ts'
import { type AskedCertificate, CachedReply, cacheKeyOf } from './ocsp-cache.ts'
import { createResponderCertificates, type ResponderCertificateDeps } from './ocsp-certificate.ts'
import { createOcspIssuers } from './ocsp-issuers.ts'
import { createOcspMemory, type OcspMemoryDeps } from './ocsp-memory.ts'
import {
  createOcspQuestions,
  type OcspOutcome,
  type OcspQuestionDeps,
  type OcspReplyKind,
  tryLater,
} from './ocsp-questions.ts'
import type { OcspReply, OcspSource } from './status-answers.ts'

export interface OcspResponderDeps extends OcspAnswerDeps, ResponderCertificateDeps, OcspMemoryDeps, OcspQuestionDeps {
  readonly clock: OcspAnswerDeps['clock'] & ResponderCertificateDeps['clock']
  readonly metrics: Metrics
  readonly issuers: Pick<Issuers, 'all' | 'online'>
}

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

const upkeepMs = 1_000

export const createOcspResponder = (deps: OcspResponderDeps): OcspResponder => {
  const { clock, log, metrics } = deps
  const issuers = createOcspIssuers(clock, deps.issuers)
  const certificates = createResponderCertificates(deps)
  const answerer = createOcspAnswerer(deps, certificates)
  const memory = createOcspMemory(deps, issuers)
  // Owned by this closure, changed only synchronously.
  const counts = new Map<OcspReplyKind, number>()
  const reported = new Map<OcspReplyKind, number>()
  let timer: NodeJS.Timeout | null = null
  let upkeep: Promise<void> | null = null
  let closed = false

  const signAhead = async (asked: AskedCertificate): Promise<void> => {
    const issuer = issuers.byId(asked.issuerId)
    const known = memory.find(cacheKeyOf(asked.certIdDer))
    // Asked for and signed while it waited here.
    if (issuer === null || (known !== undefined && clock.now() < known.refreshAt)) return
    const signed = await answerer.sign({ issuer, asked: [asked], nonce: null, priority: 'enrol' })
    memory.remember(asked, signed, 'not yet asked')
  }
  const background = createBackground({ log, sign: signAhead })
  const questions = createOcspQuestions(deps, { issuers, memory, answerer, background })

  const count = (kind: OcspReplyKind): void => {
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  const counted = ({ kind, reply }: OcspOutcome): OcspReply => {
    count(kind)
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
      // Asked about the clock only for what will be signed: each question counts as a signing, which a clock set right must not be behind.
      const due = memory.due()
      if (due.length === 0 || !canSign()) return
      for (const each of due) background.add(cacheKeyOf(each.certIdDer), each)
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
        const asked = issuers.likelyQuestion(issuer, serial)
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
    await Promise.allSettled([upkeep, background.close(), questions.idle()])
    reportCounts()
  }

  return {
    respond: bytes => {
      const outcome = closed ? tryLater : questions.answer(bytes)
      return outcome instanceof Promise ? outcome.then(counted) : counted(outcome)
    },
    again: reply => {
      if (!(reply instanceof CachedReply) || clock.now() >= reply.repeatUntil) return false
      count(reply.kind)
      return true
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
