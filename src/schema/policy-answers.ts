// What the admin API says of policies: versions, what a set of files would do, why a call is decided as it is.
import * as z from 'zod'

/** More than anybody writes by hand, and what one request may carry. */
export const maxPolicyBytes = 1_000_000
const files = z
  .record(z.string().min(1).max(120), z.string().max(262_144))
  .refine(each => Object.values(each).reduce((sum, text) => sum + text.length, 0) <= maxPolicyBytes, {
    error: `expected at most ${maxPolicyBytes} characters in all files together`,
  })
const why = z.string().max(1000).optional()
const dryRun = z.boolean().default(false)
const value = z.union([z.string(), z.int(), z.boolean(), z.array(z.string())])

export const policyPlanBody = z.strictObject({ files })
export const policyApplyBody = z.strictObject({ files, why, dryRun })
export const policyRollbackBody = z.strictObject({ version: z.int().min(1), why, dryRun })
export const policyExplainBody = z.strictObject({
  kind: z.enum(['agent', 'service']).default('agent'),
  name: z.string().min(1).max(64),
  action: z.string().min(3).max(130),
  resource: z
    .strictObject({
      type: z.enum(['Tool', 'Resource']).default('Resource'),
      id: z.string().min(1).max(256),
      attributes: z.record(z.string(), value).default({}),
    })
    .optional(),
  context: z.record(z.string(), value).default({}),
  source: z.string().max(64).optional(),
  rate: z.int().min(0).optional(),
  time: z.iso.datetime({ offset: true }).optional(),
})
export const policySuggestQuery = z.strictObject({
  kind: z.enum(['agent', 'service']).default('agent'),
  name: z.string().min(1).max(64),
  days: z.coerce.number().int().min(1).max(366).default(30),
})
export const whyQuery = z.strictObject({
  agent: z.string().min(1).max(64),
  service: z.string().min(1).max(64),
  action: z.string().min(1).max(130).optional(),
})

export interface PolicyVersionAnswer {
  readonly version: number
  /** `unfinished`: coming into force, or interrupted meanwhile; it is finished by itself. */
  readonly state: 'active' | 'earlier' | 'unfinished'
  readonly hash: string
  readonly author: string
  readonly why: string | null
  readonly createdAt: string
  readonly activatedAt: string
}

export interface PolicyVersionDetail extends PolicyVersionAnswer {
  /** Text by name. */
  readonly files: Readonly<Record<string, string>>
}

export interface PolicyFaultAnswer {
  readonly file: string
  readonly line: number | null
  readonly severity: 'error' | 'warning'
  readonly problem: string
}

export interface PolicyTestAnswer {
  readonly file: string
  readonly number: number
  readonly name: string
  readonly expected: 'allow' | 'deny'
  readonly got: 'allow' | 'deny' | null
  readonly by: readonly string[]
  readonly problem: string | null
}

export interface PolicyDifferenceAnswer {
  readonly kind: 'agent' | 'service'
  readonly name: string
  readonly gains: readonly string[]
  readonly loses: readonly string[]
  readonly gainsConditionally: readonly string[]
  readonly losesConditionally: readonly string[]
}

export interface PolicyPlanAnswer {
  readonly hash: string
  readonly active: number | null
  readonly faults: readonly PolicyFaultAnswer[]
  readonly tests: readonly PolicyTestAnswer[]
  readonly differences: readonly PolicyDifferenceAnswer[]
}

export interface PolicyAppliedAnswer extends PolicyPlanAnswer {
  /** null: a dry run. */
  readonly version: number | null
  readonly dryRun: boolean
  /** Registrations whose scopes changed. */
  readonly changed: number
}

export interface PolicyStatementAnswer {
  readonly id: string
  readonly file: string
  readonly line: number
  readonly effect: 'permit' | 'forbid'
  readonly text: string
  readonly until: string | null
}

export interface PolicyWayAnswer {
  /** In words; several are made together. */
  readonly changes: readonly string[]
  /** The command that makes them; null where files have to be edited. */
  readonly command: string | null
  /** The statement to add; null: none. */
  readonly statement: string | null
}

export interface PolicyExplainAnswer {
  readonly kind: 'agent' | 'service'
  readonly name: string
  readonly action: string
  readonly decision: 'allow' | 'deny'
  /** For every call, for some, for none. */
  readonly grant: 'scope' | 'conditional' | 'none'
  readonly version: number | null
  readonly by: readonly PolicyStatementAnswer[]
  readonly failed: readonly { readonly statement: string; readonly problem: string }[]
  readonly ways: readonly PolicyWayAnswer[]
}

export interface PolicySuggestAnswer {
  readonly kind: 'agent' | 'service'
  readonly name: string
  readonly since: string
  readonly text: string
  readonly used: readonly {
    readonly action: string
    readonly allowed: number
    readonly denied: number
    readonly last: string
  }[]
  readonly unused: readonly string[]
  readonly undeclared: readonly string[]
}

export interface WhyCheck {
  readonly check: 'state' | 'chain' | 'policy' | 'feed' | 'freshness'
  readonly result: 'ok' | 'warn' | 'failed'
  readonly detail: string
  readonly hint: string | null
}

export interface WhyAnswer {
  readonly agent: string
  readonly service: string
  readonly action: string | null
  /** `unsure`: it depends on which instance of the service is asked, or on the call. */
  readonly verdict: 'allowed' | 'refused' | 'unsure'
  readonly checks: readonly WhyCheck[]
}

const read = { role: 'viewer', effect: 'read', body: null, query: null } as const

/** Their part of the table of routes (admin-api.ts). What only looks is a POST where it needs files or a whole call. */
export const policyRoutes = {
  policiesList: { ...read, method: 'GET', path: '/policies' },
  policiesSuggest: { ...read, method: 'GET', path: '/policies/suggest', query: policySuggestQuery },
  policiesShow: { ...read, method: 'GET', path: '/policies/:version' },
  policiesPlan: { ...read, method: 'POST', path: '/policies/plan', body: policyPlanBody },
  policiesExplain: { ...read, method: 'POST', path: '/policies/explain', body: policyExplainBody },
  policiesApply: {
    method: 'POST',
    path: '/policies',
    role: 'security',
    effect: 'mutate',
    body: policyApplyBody,
    query: null,
  },
  policiesRollback: {
    method: 'POST',
    path: '/policies/rollback',
    role: 'security',
    effect: 'mutate',
    body: policyRollbackBody,
    query: null,
  },
  why: { ...read, method: 'GET', path: '/why', query: whyQuery },
} as const

export interface PolicyRouteAnswers {
  readonly policiesList: { readonly items: readonly PolicyVersionAnswer[]; readonly next: null }
  readonly policiesSuggest: PolicySuggestAnswer
  readonly policiesShow: PolicyVersionDetail
  readonly policiesPlan: PolicyPlanAnswer
  readonly policiesExplain: PolicyExplainAnswer
  readonly policiesApply: PolicyAppliedAnswer
  readonly policiesRollback: PolicyAppliedAnswer
  readonly why: WhyAnswer
}
