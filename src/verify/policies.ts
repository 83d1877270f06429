// Certificate policies along a path: the three counters of RFC 5280 §6.1.2 (d) to (f) and what they allow to the policy graph.
import type { Certificate } from '../pki/certificate.ts'
import { oidOf } from '../pki/oid.ts'
import { createPolicyGraph } from './policy-graph.ts'

/** RFC 5280 §6.1.1 (c), (e), (f), (g). */
export interface PolicyInputs {
  /** user-initial-policy-set: identifiers in the words of the anchor's domain. */
  readonly initialPolicies: readonly string[] | 'any'
  /** initial-explicit-policy: whether the path has to be valid for one of them. */
  readonly explicitPolicy: 'required' | 'not-required'
  /** initial-policy-mapping-inhibit */
  readonly policyMapping: 'allowed' | 'inhibited'
  /** initial-any-policy-inhibit */
  readonly anyPolicy: 'allowed' | 'inhibited'
}

/** Policies play no part unless a CA on the path makes them. */
export const anyPolicies: PolicyInputs = {
  initialPolicies: 'any',
  explicitPolicy: 'not-required',
  policyMapping: 'allowed',
  anyPolicy: 'allowed',
}

export type PolicyProblem = 'policy_missing' | 'policy_mapping_invalid'

export interface PolicyState {
  /** §6.1.3 (d), (e), (f) */
  enter(certificate: Certificate, role: { readonly selfIssued: boolean; readonly final: boolean }): PolicyProblem | null
  /** §6.1.4 (a), (b), (h), (i), (j) */
  prepareNext(certificate: Certificate, role: { readonly selfIssued: boolean }): PolicyProblem | null
  /** §6.1.5 (a), (b), (g) @returns the user-constrained-policy-set, null when explicit policy is required and it is empty */
  wrapUp(leaf: Certificate): readonly string[] | null
}

/** `length`: certificates of the path, the anchor not counted. */
export const createPolicyState = (inputs: PolicyInputs, length: number): PolicyState => {
  const graph = createPolicyGraph()
  let explicitPolicy = inputs.explicitPolicy === 'required' ? 0 : length + 1
  let policyMapping = inputs.policyMapping === 'inhibited' ? 0 : length + 1
  let inhibitAnyPolicy = inputs.anyPolicy === 'inhibited' ? 0 : length + 1

  return {
    enter(certificate, { selfIssued, final }) {
      const policies = certificate.certificatePolicies?.map(({ policy }) => policy) ?? null
      graph.addCertificate(policies, inhibitAnyPolicy > 0 || (!final && selfIssued))
      return explicitPolicy > 0 || !graph.isNull ? null : 'policy_missing'
    },
    prepareNext(certificate, { selfIssued }) {
      const mappings = certificate.policyMappings ?? []
      const mapsAny = mappings.some(
        ({ issuerDomainPolicy, subjectDomainPolicy }) =>
          issuerDomainPolicy === oidOf.anyPolicy || subjectDomainPolicy === oidOf.anyPolicy,
      )
      if (mapsAny) return 'policy_mapping_invalid'
      if (policyMapping > 0) graph.map(mappings)
      else graph.remove(mappings)
      if (!selfIssued) {
        explicitPolicy = Math.max(0, explicitPolicy - 1)
        policyMapping = Math.max(0, policyMapping - 1)
        inhibitAnyPolicy = Math.max(0, inhibitAnyPolicy - 1)
      }
      const { policyConstraints } = certificate
      explicitPolicy = Math.min(explicitPolicy, policyConstraints?.requireExplicitPolicy ?? explicitPolicy)
      policyMapping = Math.min(policyMapping, policyConstraints?.inhibitPolicyMapping ?? policyMapping)
      inhibitAnyPolicy = Math.min(inhibitAnyPolicy, certificate.inhibitAnyPolicy ?? inhibitAnyPolicy)
      return null
    },
    wrapUp(leaf) {
      explicitPolicy = Math.max(0, explicitPolicy - 1)
      if (leaf.policyConstraints?.requireExplicitPolicy === 0) explicitPolicy = 0
      const policies = graph.constrainedBy(inputs.initialPolicies)
      return explicitPolicy > 0 || policies.length > 0 ? policies : null
    },
  }
}
