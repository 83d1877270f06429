// What the admin API says of attestors: which there are and whether they can say anything now, and what one would say of a token.
import * as z from 'zod'
import type { List } from './admin-answers.ts'

/** Who vouched for a token or an instance; null: an operator, by a join token or a certificate. */
export interface TokenEvidenceAnswer {
  readonly type: 'jwt' | 'x509'
  readonly attestor: string
  readonly issuer: string
  readonly subject: string
}

export interface AttestorAnswer {
  readonly name: string
  readonly kind: 'jwt' | 'x509'
  /** `off`: its file says so. `waiting`: its keys are not known yet; `stale`: it works with those it last knew. */
  readonly state: 'ready' | 'waiting' | 'stale' | 'down' | 'off'
  readonly authority: string
  readonly keys: number
  readonly rules: number
  readonly updatedAt: string | null
  readonly problem: string | null
}

/** What would come of a token, step by step; nothing is used up. */
export interface EvidenceAnswer {
  /** null: none takes it. */
  readonly attestor: string | null
  readonly issuer: string | null
  readonly audience: readonly string[]
  readonly subject: string | null
  readonly expiresAt: string | null
  /** Why it enrols nobody; null: it does. */
  readonly problem: string | null
  readonly code: string | null
  readonly rule: string | null
  /** `agent NAME`, `service NAME`. */
  readonly becomes: string | null
  /** Rules that did not match, each with its claim. */
  readonly missed: readonly string[]
}

const attestorTestBody = z.strictObject({ jwt: z.string().min(1).max(16_384) })

export const attestorRoutes = {
  attestorsList: { method: 'GET', path: '/attestors', role: 'viewer', effect: 'read', body: null, query: null },
  /** Whoever asks has the token already. */
  attestorsTest: {
    method: 'POST',
    path: '/attestors/test',
    role: 'viewer',
    effect: 'read',
    body: attestorTestBody,
    query: null,
  },
} as const

export interface AttestorRouteAnswers {
  readonly attestorsList: List<AttestorAnswer>
  readonly attestorsTest: EvidenceAnswer
}
