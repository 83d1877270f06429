// What a probe is asked and what it answers, and under which rules it may connect: the words that the challenges share.
import type { IpNetwork } from '../../pki/ip-networks.ts'

export interface ValidationPolicy {
  /** Where probes may connect to. Empty: nowhere. */
  readonly allowedNetworks: readonly IpNetwork[]
  /** DNS servers as `address` or `address:port`. Empty: the system's. */
  readonly resolvers: readonly string[]
  /** 80 by RFC 8555 §8.3. */
  readonly httpPort: number
  /** 443 by RFC 8737 §3. */
  readonly tlsPort: number
  /** Seconds for one probe as a whole: questions to DNS, and every address that is tried. */
  readonly timeout: number
}

export type ChallengeType = 'http-01' | 'dns-01' | 'tls-alpn-01'

export interface Identifier {
  readonly type: 'dns' | 'ip'
  /** A DNS name in lower case, without `*.` even where that was ordered; an address as RFC 5952 and RFC 8738 §3 write it. */
  readonly value: string
}

export interface Challenge {
  readonly type: ChallengeType
  readonly token: string
  readonly identifier: Identifier
  /** `token.thumbprint` (RFC 8555 §8.1). */
  readonly keyAuthorization: string
}

/** Names of RFC 8555 §6.7, without the URN's prefix. */
export type ValidationProblemType =
  | 'connection'
  | 'dns'
  | 'incorrectResponse'
  | 'malformed'
  | 'rejectedIdentifier'
  | 'tls'

/** `detail` never repeats what was answered: a probe must not be a way to read what the CA can reach. */
export interface ValidationProblem {
  readonly type: ValidationProblemType
  readonly detail: string
}

export type ValidationResult = { readonly ok: true } | { readonly ok: false; readonly problem: ValidationProblem }

/** Inside this folder; `validate` turns it into a result. */
export class ProbeFailure extends Error {
  readonly problem: ValidationProblem

  constructor(type: ValidationProblemType, detail: string) {
    super(detail)
    this.name = 'ProbeFailure'
    this.problem = { type, detail }
  }
}
