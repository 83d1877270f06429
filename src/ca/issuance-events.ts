// The audit leaves of issuance, one function per event: what each says is decided here and nowhere else. Short members: a leaf is
// written for every certificate.
import { hash } from 'node:crypto'
import { createLeaf, type LeafContext } from '../audit/leaf.ts'
import type { Sampler } from '../audit/sampler.ts'
import type { Registration } from '../store/records.ts'
import type { IssuanceEvents, IssuanceRequest } from './issuance.ts'

const sha256Hex = (bytes: Uint8Array): string => hash('sha256', bytes, 'hex')

const contextOf = (request: IssuanceRequest, at: number): LeafContext => ({
  at,
  who: request.context.who,
  requestId: request.context.requestId,
  source: request.context.source,
})

// A text made anew would be entered in the engine's table of known strings with each leaf. Dies with its registration.
const subjects = new WeakMap<Registration, string>()

const subjectOf = (registration: Registration): string => {
  const known = subjects.get(registration)
  if (known !== undefined) return known
  const subject = `${registration.kind}:${registration.name}`
  subjects.set(registration, subject)
  return subject
}

/** An operator's own request is bounded by the operator; whoever asks for itself can ask for ever, and for nothing. */
const isRepeatable = ({ operation }: IssuanceRequest): boolean => operation !== 'issue'

/**
 * @param admit decides whether what a caller can repeat without limit gets a leaf of its own; what it turns away it must count
 */
export const createIssuanceEvents = (admit: Sampler['admit']): IssuanceEvents => ({
  refused: (request, refusal, under, at) => {
    const { code } = refusal
    const { source, who } = request.context
    if (isRepeatable(request) && !admit(code, source, under === null ? undefined : who)) return null
    // A join token in two hands is an alarm, not just a refusal.
    const event = code === 'token_reuse' ? 'token_reuse' : 'request_refused'
    const facts = { op: request.operation, code, statements: refusal.statements }
    if (under === null) return createLeaf(event, contextOf(request, at), null, facts)
    const { registration, profileHash } = under
    const { profile, version } = registration
    return createLeaf(event, contextOf(request, at), subjectOf(registration), {
      ...facts,
      profile,
      profileHash,
      version,
    })
  },
  locked: (request, { instanceId, reason }, registration, at) =>
    createLeaf('lineage_locked', contextOf(request, at), [subjectOf(registration), `instance:${instanceId}`], {
      instance: instanceId,
      reason,
    }),
  intentRecorded: (request, intent, registration) =>
    createLeaf('intent_recorded', contextOf(request, intent.createdAt), subjectOf(registration), {
      op: request.operation,
      attestor: request.attestor,
      instance: intent.instanceId,
      serial: intent.serial,
      // Revoked with its release: no other leaf says so.
      supersedes: intent.supersedes ?? undefined,
      key: intent.keyHash,
      tbs: sha256Hex(intent.tbs),
      profile: intent.profile,
      profileHash: intent.profileHash,
      version: intent.registrationVersion,
    }),
  repeated: (request, { serial, registration }, at) => {
    const { source, who } = request.context
    if (isRepeatable(request) && !admit('certificate_repeated', source, who)) return null
    return createLeaf('certificate_repeated', contextOf(request, at), subjectOf(registration), { serial })
  },
  issued: (request, { serial, registration }, certificate, at) => {
    const facts = { serial, sha256: sha256Hex(certificate) }
    return createLeaf('certificate_issued', contextOf(request, at), subjectOf(registration), facts)
  },
  releaseRefused: (request, { serial, registration }, at) =>
    createLeaf('release_refused', contextOf(request, at), subjectOf(registration), { serial }),
  voided: (request, { serial, registration }, at) =>
    createLeaf('certificate_void', contextOf(request, at), subjectOf(registration), { serial }),
  orphaned: ({ serial, registration }, at) =>
    createLeaf('certificate_orphaned', { at, who: 'system' }, subjectOf(registration), { serial }),
})
