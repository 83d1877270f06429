// The one door to Cedar: loaded when there is a policy to evaluate, never before, because its WebAssembly takes memory that a process
// without policies has no use for. Policy sets are parsed once and kept by a name of their own until they are disposed of.
import type * as CedarWasm from '@cedar-policy/cedar-wasm/nodejs'
import { cedarCall, type PolicyCall } from './cedar-call.ts'
import { PolicyError } from './errors.ts'

export type Cedar = typeof CedarWasm
export type { DetailedError, Expr, PolicyJson, SchemaJson } from '@cedar-policy/cedar-wasm/nodejs'

let loading: Promise<Cedar> | null = null

/** @throws PolicyError `policy_engine_missing` where the package is not installed */
export const loadCedar = (): Promise<Cedar> => {
  loading ??= import('@cedar-policy/cedar-wasm/nodejs').catch(cause => {
    loading = null
    throw new PolicyError('policy_engine_missing', 'the package @cedar-policy/cedar-wasm cannot be loaded', {
      cause,
      hint: 'npm install @cedar-policy/cedar-wasm@4.13.0',
    })
  })
  return loading
}

export interface Verdict {
  readonly decision: 'allow' | 'deny'
  /** Ids of the statements that decided; none: nothing permits it. */
  readonly by: readonly string[]
  /** Statements that could not be evaluated for this call. */
  readonly failed: readonly { readonly statement: string; readonly problem: string }[]
}

export interface PolicySet extends Disposable {
  /** @throws PolicyError `policy_call_malformed` for values that Cedar has no form for */
  decide(call: PolicyCall): Verdict
}

export interface SetStatement {
  readonly id: string
  readonly effect: 'permit' | 'forbid'
  readonly json: CedarWasm.PolicyJson
}

let sets = 0

const problemOf = (errors: readonly CedarWasm.DetailedError[]): string => errors.map(error => error.message).join('; ')

/** @throws PolicyError `policy_malformed` */
export const openPolicySet = (cedar: Cedar, statements: readonly SetStatement[]): PolicySet => {
  const name = `agentca-${++sets}`
  const parsed = cedar.preparsePolicySet(name, {
    staticPolicies: Object.fromEntries(statements.map(({ id, json }) => [id, json])),
  })
  if (parsed.type === 'failure') throw new PolicyError('policy_malformed', problemOf(parsed.errors))
  const forbids = new Set(statements.filter(({ effect }) => effect === 'forbid').map(({ id }) => id))
  return {
    decide: call => {
      const answer = cedar.statefulIsAuthorized({ ...cedarCall(call), preparsedPolicySetId: name })
      if (answer.type === 'failure') throw new PolicyError('policy_call_malformed', problemOf(answer.errors))
      const { decision, diagnostics } = answer.response
      const failed = diagnostics.errors.map(({ policyId, error }) => ({ statement: policyId, problem: error.message }))
      // Cedar passes over what it cannot evaluate. Of a permit that is safe, of a forbid it is not.
      const unsure = failed.map(({ statement }) => statement).filter(statement => forbids.has(statement))
      if (decision === 'allow' && unsure.length > 0) return { decision: 'deny', by: unsure, failed }
      return { decision, by: [...diagnostics.reason].sort(), failed }
    },
    // The name stays known to the engine; what it stands for does not.
    [Symbol.dispose]: () => {
      cedar.preparsePolicySet(name, { staticPolicies: {} })
    },
  }
}
