// Certificate policies along a path: the valid_policy_graph of RFC 9618, which replaces the tree of RFC 5280 §6.1 because the tree
// could grow exponentially. Each level has a node a policy, so the graph is no larger than the certificates it was made from. Qualifiers
// are not carried: nobody here shows them to anyone.
import { oidOf } from '../pki/oid.ts'
import type { PolicyMapping } from '../pki/policy-extensions.ts'

const { anyPolicy } = oidOf

interface Node {
  readonly policy: string
  /** Nodes of the level above; all of them have this policy among their expected ones. */
  readonly parents: readonly Node[]
  /** What the next certificate may call this policy: the policy itself until a mapping says otherwise. */
  readonly expected: Set<string>
  mapped: boolean
}

/** Nodes by policy; the order is that of the certificate. */
type Level = Map<string, Node>

export interface PolicyGraph {
  /** NULL in the RFC's words: no policy is valid for the path so far. */
  readonly isNull: boolean
  /** §6.1.3 (d) and (e): a certificate's policies, null when it has none. */
  addCertificate(policies: readonly string[] | null, takesAnyPolicy: boolean): void
  /** §6.1.4 (b) (1) */
  map(mappings: readonly PolicyMapping[]): void
  /** §6.1.4 (b) (2): where mapping is inhibited, a mapped policy is no policy. */
  remove(mappings: readonly PolicyMapping[]): void
  /** §6.1.5 (g): the user-constrained-policy-set; `anyPolicy` in it stands for every policy. */
  constrainedBy(initialPolicies: readonly string[] | 'any'): readonly string[]
}

const nodeOf = (policy: string, parents: readonly Node[]): Node => ({
  policy,
  parents,
  expected: new Set([policy]),
  mapped: false,
})

export const createPolicyGraph = (): PolicyGraph => {
  let last: Level = new Map([[anyPolicy, nodeOf(anyPolicy, [])]])

  return {
    get isNull() {
      return last.size === 0
    },
    addCertificate(policies, takesAnyPolicy) {
      last = policies === null ? new Map() : nextLevel(last, policies, takesAnyPolicy)
    },
    map(mappings) {
      for (const { issuerDomainPolicy, subjectDomainPolicy } of mappings)
        mapOne(last, issuerDomainPolicy, subjectDomainPolicy)
    },
    remove(mappings) {
      for (const { issuerDomainPolicy } of mappings) last.delete(issuerDomainPolicy)
    },
    constrainedBy: initialPolicies => constrainedPolicies(last, initialPolicies),
  }
}

// Childless nodes need no pruning (§6.1.3 (d) (3)): parents are reached only from the nodes that are left.
const nextLevel = (last: Level, policies: readonly string[], takesAnyPolicy: boolean): Level => {
  const expecting = parentsByExpectedPolicy(last)
  const any = last.get(anyPolicy)
  const level: Level = new Map()
  for (const policy of policies) {
    if (policy === anyPolicy) continue
    const parents = expecting.get(policy)
    if (parents !== undefined) level.set(policy, nodeOf(policy, parents))
    else if (any !== undefined) level.set(policy, nodeOf(policy, [any]))
  }
  if (takesAnyPolicy && policies.includes(anyPolicy))
    // Those that are named have these parents already.
    for (const [policy, parents] of expecting) level.set(policy, nodeOf(policy, parents))
  return level
}

const parentsByExpectedPolicy = (level: Level): Map<string, Node[]> => {
  const parents = new Map<string, Node[]>()
  for (const node of level.values())
    for (const policy of node.expected) {
      const known = parents.get(policy)
      if (known === undefined) parents.set(policy, [node])
      else known.push(node)
    }
  return parents
}

const mapOne = (level: Level, from: string, to: string): void => {
  let node = level.get(from)
  if (node === undefined) {
    const any = level.get(anyPolicy)
    if (any === undefined) return
    // A sibling of the anyPolicy node: its parent is the anyPolicy node above.
    node = nodeOf(from, any.parents)
    level.set(from, node)
  }
  // The first mapping replaces the policy itself, further ones add to it.
  if (!node.mapped) node.expected.clear()
  node.mapped = true
  node.expected.add(to)
}

const constrainedPolicies = (last: Level, initialPolicies: readonly string[] | 'any'): readonly string[] => {
  const authority = authorityConstrainedPolicies(last)
  if (initialPolicies === 'any') return [...authority]
  return initialPolicies.filter(policy => authority.has(policy) || authority.has(anyPolicy))
}

/** Policies in the words of the anchor's domain: those that stem from anyPolicy, and anyPolicy itself where it reaches the last level. */
const authorityConstrainedPolicies = (last: Level): ReadonlySet<string> => {
  const policies = new Set<string>()
  const seen = new Set<Node>()
  const waiting = [...last.values()]
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (seen.has(node)) continue
    seen.add(node)
    if (node.parents.every(parent => parent.policy === anyPolicy)) policies.add(node.policy)
    else waiting.push(...node.parents)
  }
  return policies
}
