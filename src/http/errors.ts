// What the HTTP layer itself refuses, before any other layer is asked.
import { AgentCaError, type ErrorOptionsOf } from '../base/errors.ts'

export type HttpErrorCode =
  | 'route_not_found'
  | 'method_not_allowed'
  | 'content_type_not_supported'
  | 'body_too_large'
  | 'body_malformed'
  | 'request_timeout'
  | 'rate_limited'
  | 'overloaded'
  | 'shutting_down'
  | 'client_certificate_missing'
  | 'client_certificate_invalid'
  | 'session_resumed'
  | 'operator_only'
  | 'service_only'
  | 'role_insufficient'
  | 'operator_certificate_needed'
  | 'socket_only'
  | 'idempotency_key_reused'
  | 'evidence_type_not_supported'
  | 'basic_credentials_missing'
  | 'basic_credentials_mismatched'
  | 'jws_malformed'
  | 'jws_signature_invalid'
  | 'jws_not_current'
  | 'jws_wrong_audience'
  | 'jws_replayed'
  | 'webhook_signature_invalid'
  | 'webhook_not_current'
  | 'webhook_replayed'
  | 'pin_refused'

export class HttpError extends AgentCaError<HttpErrorCode> {
  constructor(code: HttpErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'HttpError'
  }
}
