// The one table from error code to HTTP status and exit code, checked to be complete by the compiler, and the problem document
// (RFC 9457) it leads to. What is not in the table reaches a caller as "internal", with a request id only.
import { isAgentCaError } from '../base/errors.ts'
import type { CaErrorCode } from '../ca/errors.ts'
import type { EnrolErrorCode } from '../enrol/errors.ts'
import type { FeedRefusalCode } from '../feed/errors.ts'
import type { TokenErrorCode } from '../jws/token-errors.ts'
import type { PkiErrorCode } from '../pki/errors.ts'
import type { PolicyErrorCode } from '../policy/errors.ts'
import type { SchemaErrorCode } from '../schema/errors.ts'
import type { SignerErrorCode } from '../signer/errors.ts'
import type { StoreErrorCode } from '../store/errors.ts'
import type { HttpErrorCode } from './errors.ts'

export type ProblemCode =
  | CaErrorCode
  | EnrolErrorCode
  | TokenErrorCode
  | FeedRefusalCode
  | PkiErrorCode
  | PolicyErrorCode
  | SignerErrorCode
  | StoreErrorCode
  | HttpErrorCode
  | SchemaErrorCode

interface Row {
  readonly status: number
  readonly title: string
  /** Exit code of a command that met it (interfaces.md, Commands). */
  readonly exit: number
}

const row = (status: number, exit: number, title: string): Row => ({ status, title, exit })
const bytes = row(400, 2, 'The request cannot be read')
const request = row(422, 2, 'The certification request is not acceptable')
const unauthenticated = row(401, 4, 'The caller could not be authenticated')
const denied = row(403, 5, 'Denied by policy or state')
const forbidden = row(403, 4, 'The caller may not do this')
const missing = row(404, 3, 'Not found')
const conflicting = row(409, 6, 'Conflict with the present state')
const unavailable = row(503, 7, 'Unavailable, safe to retry')
const internal = row(500, 1, 'Internal error')

export const problemTable: Readonly<Record<ProblemCode, Row>> = {
  // Evidence and state (ca).
  token_unknown: unauthenticated,
  token_expired: unauthenticated,
  token_revoked: unauthenticated,
  token_used_up: unauthenticated,
  token_wrong_audience: unauthenticated,
  token_reuse: denied,
  registration_not_found: unauthenticated,
  registration_held: denied,
  registration_retired: denied,
  registration_ended: denied,
  owner_gone: denied,
  instance_locked: denied,
  instance_revoked: denied,
  instance_limit_reached: denied,
  certificate_unknown: unauthenticated,
  certificate_expired: unauthenticated,
  certificate_revoked: denied,
  certificate_held: denied,
  key_in_use: conflicting,
  key_revoked: denied,
  key_not_bound: denied,
  key_reuse_not_allowed: denied,
  key_not_accepted: denied,
  name_not_granted: denied,
  profile_unknown: conflicting,
  lineage_conflict: denied,
  recovery_not_allowed: denied,
  recovery_limit_reached: denied,
  policy_denied: denied,
  policy_test_failed: row(422, 9, 'The policies do not pass their own tests'),
  issuance_in_progress: conflicting,
  issuance_rate_limited: row(429, 7, 'Too many certificates'),
  not_released: conflicting,
  not_found: missing,
  conflict: conflicting,
  confirmation_needed: conflicting,
  value_invalid: row(422, 2, 'The request has faults'),
  no_active_issuer: unavailable,
  signer_unavailable: unavailable,
  clock_refused: unavailable,
  maintenance: unavailable,
  internal,

  // Policy.
  lint_failed: internal,
  policy_malformed: row(422, 2, 'The policies have faults'),
  policy_call_malformed: row(422, 2, 'The request has faults'),
  policy_engine_missing: internal,

  // Evidence that attestors vouch for.
  evidence_issuer_unknown: unauthenticated,
  evidence_not_matched: denied,
  evidence_before_restore: unauthenticated,
  evidence_limit_reached: row(429, 7, 'Too much evidence'),
  evidence_certificate_invalid: unauthenticated,
  attestor_unavailable: unavailable,
  jwt_malformed: bytes,
  jwt_algorithm_not_allowed: unauthenticated,
  jwt_key_unknown: unauthenticated,
  jwt_signature_invalid: unauthenticated,
  jwt_wrong_issuer: unauthenticated,
  jwt_wrong_audience: unauthenticated,
  jwt_expired: unauthenticated,
  jwt_not_current: unauthenticated,
  jwt_life_too_long: unauthenticated,
  jwks_malformed: unavailable,

  // Bytes (pki).
  not_encodable: internal,
  der_malformed: bytes,
  pem_malformed: bytes,
  pem_wrong_label: bytes,
  pem_private_key: row(400, 2, 'A private key must never be sent'),
  input_too_large: row(413, 2, 'Too large'),
  name_malformed: bytes,
  agent_name_malformed: row(422, 2, 'The name is not acceptable'),
  spiffe_id_malformed: bytes,
  trust_domain_malformed: bytes,
  serial_malformed: bytes,
  algorithm_malformed: bytes,
  algorithm_not_allowed: request,
  signature_malformed: bytes,
  signature_invalid: request,
  key_malformed: request,
  key_not_allowed: request,
  extension_malformed: bytes,
  extension_duplicate: request,
  certificate_malformed: bytes,
  csr_malformed: bytes,
  csr_too_large: row(413, 2, 'Too large'),
  csr_attribute_not_allowed: request,
  csr_duplicate_extension: request,
  csr_requests_ca: request,
  csr_requests_name_constraints: request,
  csr_signature_invalid: request,
  crl_malformed: bytes,
  ocsp_malformed: bytes,
  ocsp_not_successful: bytes,
  ocsp_answer_missing: bytes,
  ocsp_responder_not_authorized: bytes,
  ocsp_not_current: bytes,
  ocsp_nonce_mismatch: bytes,

  // The signer.
  signer_refused: internal,
  signer_deadline: unavailable,
  signer_busy: unavailable,
  pin_latched: unavailable,
  hsm_error: unavailable,

  // The ledger.
  already_exists: conflicting,
  owner_not_found: missing,
  radius_changed: conflicting,
  crl_number_regressed: conflicting,
  ledger_in_use: conflicting,
  database_newer: internal,
  database_settings: internal,
  store_failed: unavailable,

  // The feed.
  subscriber_unknown: missing,
  position_unknown: conflicting,
  too_many_subscribers: unavailable,

  // HTTP itself.
  request_invalid: row(422, 2, 'The request has faults'),
  // Of files and the environment: commands meet it, callers do not.
  configuration_invalid: row(500, 2, 'The configuration has faults'),
  route_not_found: missing,
  method_not_allowed: row(405, 2, 'Method not allowed'),
  content_type_not_supported: row(415, 2, 'Content type not supported'),
  body_too_large: row(413, 2, 'Too large'),
  body_malformed: bytes,
  request_timeout: row(408, 7, 'The request took too long to arrive'),
  rate_limited: row(429, 7, 'Too many requests'),
  overloaded: unavailable,
  shutting_down: unavailable,
  client_certificate_missing: unauthenticated,
  client_certificate_invalid: unauthenticated,
  session_resumed: unauthenticated,
  operator_only: forbidden,
  service_only: forbidden,
  role_insufficient: forbidden,
  operator_certificate_needed: forbidden,
  socket_only: forbidden,
  idempotency_key_reused: conflicting,
  evidence_type_not_supported: row(422, 2, 'The evidence is of an unknown type'),
  basic_credentials_missing: unauthenticated,
  basic_credentials_mismatched: unauthenticated,
  jws_malformed: bytes,
  jws_signature_invalid: unauthenticated,
  jws_not_current: unauthenticated,
  jws_wrong_audience: unauthenticated,
  jws_replayed: unauthenticated,
  webhook_signature_invalid: unauthenticated,
  webhook_not_current: unauthenticated,
  webhook_replayed: unauthenticated,
  // Never one of those that clients try again by themselves: a token counts wrong PINs and locks for good.
  pin_refused: row(403, 4, 'The token refused the PIN'),
}

export const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(problemTable, code)

/** @returns 1 for what the table does not know */
export const exitCodeOf = (code: string): number => (isProblemCode(code) ? problemTable[code].exit : 1)

export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly requestId: string
  readonly hint?: string
  /** Facts of the refusal, for programs; every fault of a body in `faults`. */
  readonly facts?: Readonly<Record<string, unknown>>
}

/** Codes whose message and facts must not leave the machine: they may speak of files, databases and keys. */
const hidden: ReadonlySet<string> = new Set([
  'internal',
  'lint_failed',
  'configuration_invalid',
  'store_failed',
  'database_newer',
  'database_settings',
  'signer_refused',
  'hsm_error',
  'not_encodable',
])

const hiddenDetail = (status: number): string =>
  status === 503
    ? 'the service cannot answer now; ask again later'
    : 'internal error; the request id finds it in the log'

/** Jittered so that a fleet does not come back at once. */
export const jitteredSeconds = (random: () => number): number => 1 + Math.floor(random() * 4)

/** Seconds in Retry-After. @returns null where the answer carries none */
export const retryAfterSeconds = (
  problem: Pick<Problem, 'status' | 'code' | 'facts'>,
  random: () => number,
): number | null => {
  if (problem.code === 'issuance_in_progress') return 1
  if (problem.status !== 429 && problem.status !== 503) return null
  const known = problem.facts?.retryAfterSeconds
  if (typeof known === 'number') return known + jitteredSeconds(random)
  return jitteredSeconds(random)
}

/** What the caller gets for anything that was thrown; never a stack, a path or a cause. */
export const problemOf = (error: unknown, requestId: string): Problem => {
  const known = isAgentCaError(error) && isProblemCode(error.code) ? error : null
  const code = (known?.code ?? 'internal') as ProblemCode
  const { status, title } = problemTable[code]
  const base = { type: `urn:agentca:problem:${code}`, title, status, code, requestId }
  if (known === null || hidden.has(code)) return { ...base, detail: hiddenDetail(status) }
  const { hsmCalled: _, ...facts } = known.facts
  return {
    ...base,
    detail: known.message,
    ...(known.hint === undefined ? {} : { hint: known.hint }),
    ...(Object.keys(facts).length === 0 ? {} : { facts }),
  }
}
