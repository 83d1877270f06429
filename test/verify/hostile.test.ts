// Graphs of certificates made to cost: what is presented is the presenter's choice, and none of it may cost more than the budget.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nullValue } from '../../src/pki/der.ts'
import type { Extension } from '../../src/pki/extensions.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { type Budget, createWork, usualBudget } from '../../src/verify/budget.ts'
import { candidatePaths, poolOf } from '../../src/verify/build-path.ts'
import { VerifyError } from '../../src/verify/errors.ts'
import { validatePath } from '../../src/verify/path.ts'
import { anyPolicies } from '../../src/verify/policies.ts'
import { createSignatures, usualAlgorithms } from '../../src/verify/signatures.ts'
import { anchorOf } from '../../src/verify/trust-anchor.ts'
import { createTestKey } from '../pki/keys.ts'
import { ca, codeOf, type Entity, factsOf, issue, leaf, now, resultOf, root, validate } from './chains.ts'

const top = root()
const anchors = [anchorOf(top.certificate, 'constraints')]

/** `layers` times `width` CAs, each certified by every CA of the layer above, the highest by nobody. */
const lattice = (layers: number, width: number): { pool: readonly Entity[]; lowest: Entity } => {
  let above: readonly Entity[] = [root({ subject: 'nobody' })]
  const pool: Entity[] = []
  for (let layer = 0; layer < layers; layer++) {
    const entities = Array.from({ length: width }, () => ca(`layer ${layer}`, above[0]!))
    const crossed = entities.flatMap(({ key }) => above.map(issuer => ca(`layer ${layer}`, issuer, { key })))
    pool.push(...crossed)
    above = entities
  }
  return { pool, lowest: above[0]! }
}

describe('many cross certificates of one name', () => {
  it('that lead nowhere end with the budget for steps, before any signature', () => {
    const { pool, lowest } = lattice(5, 4)
    const intermediates = pool.map(each => each.certificate)
    const end = leaf(lowest)
    expect(factsOf(() => validate([top, end], { intermediates }))).toEqual({ kind: 'steps', limit: usualBudget.steps })
    const unlimited = { ...usualBudget, steps: 1_000_000, signatures: 0 }
    expect(resultOf([top, end], { intermediates, budget: unlimited })).toBe('issuer_unknown')
  })

  it('that claim the anchor for their issuer cost one signature each, then the budget', () => {
    const forger = root()
    const many = Array.from({ length: 50 }, () => ca('issuing', forger))
    const intermediates = many.map(each => each.certificate)
    const end = leaf(many[0]!)
    expect(resultOf([top, end], { intermediates, budget: { ...usualBudget, signatures: 50 } })).toBe(
      'signature_invalid',
    )
    expect(factsOf(() => validate([top, end], { intermediates, budget: { ...usualBudget, signatures: 49 } }))).toEqual({
      kind: 'signatures',
      limit: 49,
    })
  })

  it('cost no signature twice, on however many paths it lies', () => {
    // A hundred ways up to the ten that claim the anchor: a signature for each of the ten.
    const forger = root()
    const upper = Array.from({ length: 10 }, () => ca('upper', forger))
    const lower = Array.from({ length: 10 }, () => ca('lower', upper[0]!))
    const crossed = lower.flatMap(({ key }) => upper.map(issuer => ca('lower', issuer, { key })))
    const intermediates = [...upper, ...crossed].map(each => each.certificate)
    const budget = { ...usualBudget, steps: 100_000, signatures: 10 }
    expect(resultOf([top, leaf(lower[0]!)], { intermediates, budget })).toBe('signature_invalid')
  })

  it('do not hide the one that is true, whose key identifier is sought first', () => {
    const issuing = ca('issuing', top)
    const others = Array.from({ length: 200 }, () => ca('issuing', top))
    const intermediates = [...others.slice(0, 100), issuing, ...others.slice(100)].map(each => each.certificate)
    expect(validate([top, leaf(issuing)], { intermediates }).spent.signatures).toBe(2)
  })

  it('are all tried where key identifiers do not tell them apart, those that cannot be read included', () => {
    const key = createTestKey('P-256')
    const keyless = (extensions: readonly Extension[]): Entity => ({
      key,
      certificate: issue({ subject: 'issuing', issuer: top, key, ca: { pathLength: null }, keyIds: 'none', extensions })
        .certificate,
    })
    const unreadable: Extension = { oid: oidOf.subjectKeyIdentifier, critical: false, value: nullValue() }
    const issuers = [ca('issuing', top), keyless([unreadable]), keyless([])]
    const intermediates = issuers.map(each => each.certificate)
    const silent = leaf(issuers[2]!, { keyIds: 'none' })
    expect(resultOf([top, silent], { intermediates })).toBe('valid')
    expect(resultOf([top, leaf(issuers[2]!)], { intermediates })).toBe('valid')
    const odd: Extension = { oid: oidOf.authorityKeyIdentifier, critical: false, value: nullValue() }
    expect(resultOf([top, leaf(issuers[2]!, { keyIds: 'none', extensions: [odd] })], { intermediates })).toBe('valid')
  })

  it('that certify each other in a circle are walked once around (RFC 4158 §5.2)', () => {
    const one = ca('one', root({ subject: 'nobody' }))
    const two = ca('two', one)
    const back = ca('one', two, { key: one.key })
    const work = createWork(usualBudget)
    const paths = [
      ...candidatePaths({
        leaf: leaf(two).certificate,
        pool: poolOf([one, two, back].map(each => each.certificate)),
        anchors: [anchorOf(root({ subject: 'two' }).certificate, 'name-and-key'), ...anchors],
        signatures: createSignatures(usualAlgorithms, work),
        work,
      }),
    ]
    expect(paths.map(path => path.certificates.length)).toEqual([1, 3])
  })
})

describe('any graph under any budget', () => {
  // A few names and keys, edges drawn at random: chains, circles, cross certificates, forgeries, all of it.
  const names = ['a', 'b', 'c', 'd']
  const edge = fc.record({
    subject: fc.constantFrom(...names),
    issuer: fc.constantFrom('root', ...names),
    forged: fc.boolean(),
  })
  const budgets: fc.Arbitrary<Budget> = fc.record({
    signatures: fc.nat(6),
    steps: fc.nat(40),
    nameComparisons: fc.nat(10),
    intermediates: fc.nat(4),
  })
  const people = new Map<string, Entity>(
    [top, ...names.map(name => root({ subject: name }))].map((entity, i) => [i === 0 ? 'root' : names[i - 1]!, entity]),
  )
  const stranger = root({ subject: 'stranger' })

  it('ends in a path within the budget or in a typed refusal', () => {
    fc.assert(
      fc.property(fc.array(edge, { maxLength: 12 }), edge, budgets, (edges, last, budget) => {
        const certify = ({ subject, issuer, forged }: typeof last): Entity =>
          ca(subject, people.get(issuer)!, {
            key: people.get(subject)!.key,
            ...(forged ? { signedBy: stranger.key } : {}),
          })
        const end = leaf(people.get(last.issuer)!)
        const request = {
          leaf: end.certificate,
          intermediates: edges.map(each => certify(each).certificate),
          anchors,
          at: now,
          purpose: 'any' as const,
          algorithms: usualAlgorithms,
          policies: anyPolicies,
          names: 'any' as const,
          revocation: 'none' as const,
        }
        const judged = (limits: Budget) => codeOf(() => check(validatePath({ ...request, budget: limits }), limits))
        const outcome = judged(budget)
        expect(['valid', 'issuer_unknown', 'signature_invalid', 'budget_exceeded']).toContain(outcome)
        // More work never changes an answer that was found with less.
        const unlimited = { signatures: 1_000, steps: 100_000, nameComparisons: 0, intermediates: budget.intermediates }
        if (outcome !== 'budget_exceeded') expect(judged(unlimited)).toBe(outcome)
        // And the answer is that of a walk over the edges.
        expect(judged({ ...unlimited, intermediates: 4 }) === 'valid').toBe(reaches(edges, last.issuer, 4))
      }),
      { numRuns: 60 },
    )
  })

  const check = (path: ReturnType<typeof validatePath>, budget: Budget): void => {
    for (const kind of ['signatures', 'steps', 'nameComparisons'] as const)
      if (path.spent[kind] > budget[kind]) throw new Error(`spent ${path.spent[kind]} ${kind}`)
    if (path.intermediates.length > budget.intermediates) throw new VerifyError('path_too_long', 'too deep')
  }

  const reaches = (
    edges: readonly { subject: string; issuer: string; forged: boolean }[],
    from: string,
    left: number,
  ): boolean =>
    from === 'root' ||
    (left > 0 && edges.some(each => each.subject === from && !each.forged && reaches(edges, each.issuer, left - 1)))
})
