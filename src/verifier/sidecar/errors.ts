// What the sidecar refuses: a request, before anybody is judged, and a command line that it cannot follow.
import { AgentCaError, type ErrorOptionsOf } from '../../base/errors.ts'

export type RequestRefusalCode =
  /** A header that must be there once came twice, or under another spelling of its name. */
  | 'header_ambiguous'
  | 'certificate_header_malformed'
  /** The proxy did not say what is called. */
  | 'call_missing'
  | 'method_malformed'
  /** Two programs could read this path differently. */
  | 'path_ambiguous'
  /** A header tells frameworks that another method or path is meant than the one that is decided on. */
  | 'call_overridden'
  /** No rule is for this call, and without one it is to be refused. */
  | 'rule_missing'
  /** The request came with an assertion: only the sidecar makes them. */
  | 'assertion_present'
  /** Who asks is none of the proxies that the configuration names. */
  | 'proxy_not_accepted'

/** Refused because of its form or its way here, whoever calls. The reason is for the log. */
export class RequestRefused extends AgentCaError<RequestRefusalCode> {
  constructor(code: RequestRefusalCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'RequestRefused'
  }
}

export type SidecarErrorCode =
  | 'usage'
  | 'file_unreadable'
  | 'file_malformed'
  | 'socket_in_use'
  | 'cannot_listen'
  | 'identity_unusable'

export class SidecarError extends AgentCaError<SidecarErrorCode> {
  constructor(code: SidecarErrorCode, message: string, options: ErrorOptionsOf = {}) {
    super(code, message, options)
    this.name = 'SidecarError'
  }
}

export const usage = (message: string, hint?: string): SidecarError =>
  new SidecarError('usage', message, hint === undefined ? {} : { hint })
