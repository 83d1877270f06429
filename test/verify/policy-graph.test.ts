// The policy graph against the tree that RFC 5280 §6.1 describes, written here as literally as possible: slow, and the judge.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { oidOf } from '../../src/pki/oid.ts'
import type { PolicyMapping } from '../../src/pki/policy-extensions.ts'
import { createPolicyGraph } from '../../src/verify/policy-graph.ts'

const any = oidOf.anyPolicy

interface Step {
  readonly policies: readonly string[] | null
  readonly takesAnyPolicy: boolean
  readonly mappings: readonly PolicyMapping[]
  readonly mapping: 'allowed' | 'inhibited'
}

const graphOf = (steps: readonly Step[], initial: readonly string[] | 'any') => {
  const graph = createPolicyGraph()
  steps.forEach(({ policies, takesAnyPolicy, mappings, mapping }, i) => {
    graph.addCertificate(policies, takesAnyPolicy)
    if (i === steps.length - 1) return
    if (mapping === 'allowed') graph.map(mappings)
    else graph.remove(mappings)
  })
  return { isNull: graph.isNull, policies: [...graph.constrainedBy(initial)].sort() }
}

interface Node {
  policy: string
  expected: string[]
  readonly parent: Node | null
  readonly children: Node[]
}

/** valid_policy_tree, §6.1.2 (a) to §6.1.5 (g), nodes and all. */
const treeOf = (steps: readonly Step[], initial: readonly string[] | 'any') => {
  let root: Node | null = { policy: any, expected: [any], parent: null, children: [] }
  const level = (depth: number, from: Node | null = root): Node[] =>
    from === null ? [] : depth === 0 ? [from] : from.children.flatMap(child => level(depth - 1, child))
  const add = (parent: Node, policy: string, expected: string[]): void => {
    parent.children.push({ policy, expected, parent, children: [] })
  }
  const remove = (node: Node): void => {
    if (node.parent === null) root = null
    else node.parent.children.splice(node.parent.children.indexOf(node), 1)
  }
  const prune = (depth: number): void => {
    for (let at = depth - 1; at >= 0; at--) for (const node of level(at)) if (node.children.length === 0) remove(node)
  }

  steps.forEach(({ policies, takesAnyPolicy, mappings, mapping }, i) => {
    const depth = i + 1
    // §6.1.3 (d), (e)
    if (policies === null) root = null
    if (root === null) return
    for (const policy of policies!.filter(each => each !== any)) {
      const matching = level(i).filter(node => node.expected.includes(policy))
      for (const node of matching) add(node, policy, [policy])
      if (matching.length === 0) for (const node of level(i)) if (node.policy === any) add(node, policy, [policy])
    }
    if (policies!.includes(any) && takesAnyPolicy)
      for (const node of level(i))
        for (const expected of node.expected)
          if (!node.children.some(child => child.policy === expected)) add(node, expected, [expected])
    prune(depth)
    if (depth === steps.length) return
    // §6.1.4 (b)
    for (const from of new Set(mappings.map(each => each.issuerDomainPolicy))) {
      const to = mappings.filter(each => each.issuerDomainPolicy === from).map(each => each.subjectDomainPolicy)
      const mapped = level(depth).filter(node => node.policy === from)
      if (mapping === 'inhibited') {
        for (const node of mapped) remove(node)
        prune(depth)
      } else if (mapped.length > 0) for (const node of mapped) node.expected = to
      else for (const node of level(depth)) if (node.policy === any) add(node.parent!, from, to)
    }
  })

  // §6.1.5 (g)
  const last = level(steps.length)
  if (last.length === 0) return { isNull: true, policies: [] }
  if (initial !== 'any') {
    const all = Array.from({ length: steps.length + 1 }, (_, depth) => level(depth)).flat()
    for (const node of all.filter(each => each.parent?.policy === any && each.policy !== any))
      if (!initial.includes(node.policy)) remove(node)
    for (const node of level(steps.length).filter(each => each.policy === any)) {
      const present = all.filter(each => each.parent?.policy === any).map(each => each.policy)
      for (const policy of initial) if (!present.includes(policy)) add(node.parent!, policy, [policy])
      remove(node)
    }
    prune(steps.length)
  }
  const all = Array.from({ length: steps.length + 1 }, (_, depth) => level(depth)).flat()
  // The policies that are left, in the words of the anchor's domain; anyPolicy itself where it reaches the leaf.
  const policies = all.filter(node => node.parent?.policy === any && node.policy !== any).map(node => node.policy)
  if (level(steps.length).some(node => node.policy === any)) policies.push(any)
  return { isNull: last.length === 0, policies: [...new Set(policies)].sort() }
}

const names = ['1.2.1', '1.2.2', '1.2.3', '1.2.4']
const policy = fc.constantFrom(...names)
const step: fc.Arbitrary<Step> = fc.record({
  policies: fc.oneof(
    { weight: 12, arbitrary: fc.uniqueArray(fc.constantFrom(...names, any), { minLength: 1, maxLength: 4 }) },
    { weight: 1, arbitrary: fc.constant(null) },
  ),
  takesAnyPolicy: fc.boolean(),
  mappings: fc.array(fc.record({ issuerDomainPolicy: policy, subjectDomainPolicy: policy }), { maxLength: 4 }),
  mapping: fc.constantFrom('allowed', 'allowed', 'inhibited'),
})

describe('the policy graph (RFC 9618)', () => {
  it('gives what the tree of RFC 5280 §6.1 gives', () => {
    const initial = fc.oneof(fc.constant('any' as const), fc.uniqueArray(policy, { minLength: 1, maxLength: 3 }))
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 4 }), initial, (steps, policies) => {
        expect(graphOf(steps, policies)).toEqual(treeOf(steps, policies))
      }),
      { numRuns: 2_000 },
    )
  })

  it('stays as small as its certificates where the tree would have 30^8 nodes', () => {
    const policies = Array.from({ length: 30 }, (_, i) => `1.2.${i}`)
    const mappings = policies.flatMap(issuerDomainPolicy =>
      policies.map(subjectDomainPolicy => ({ issuerDomainPolicy, subjectDomainPolicy })),
    )
    const steps = Array.from({ length: 8 }, () => ({
      policies,
      takesAnyPolicy: true,
      mappings,
      mapping: 'allowed' as const,
    }))
    expect(graphOf(steps, ['1.2.7', '1.2.99']).policies).toEqual(['1.2.7'])
  })
})
