// Random chains, judged by us and by `openssl verify -x509_strict`: both say yes, or both say no.
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { implicitPrimitive, integer, oid, sequence } from '../../src/pki/der.ts'
import type { Extension } from '../../src/pki/extensions.ts'
import { dnsName, type GeneralName, ipName, uriName } from '../../src/pki/general-names.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { PolicyInputs } from '../../src/verify/policies.ts'
import { createTestKey } from '../pki/keys.ts'
import { createBench } from '../pki/openssl.ts'
import { ca, day, type Entity, leaf, now, resultOf, root, type Wish } from './chains.ts'

// More of them by hand: AGENTCA_VERIFY_CHAINS=2000 vitest run test/verify/openssl-agreement.test.ts
const numRuns = Number(process.env.AGENTCA_VERIFY_CHAINS) || 16

const bench = createBench()
afterAll(() => bench[Symbol.dispose]())

const pem = (entities: readonly Entity[]): string =>
  entities.map(({ certificate }) => encodePem('CERTIFICATE', certificate.der)).join('')

/** `chain`: root first, leaf last. */
const opensslSays = (chain: readonly Entity[], options: readonly string[]): { valid: boolean; output: string } => {
  const untrusted = chain.slice(1, -1)
  const { status, output } = bench.try(
    'verify',
    '-x509_strict',
    '-attime',
    String(now / 1000),
    ...options,
    '-no-CApath',
    '-no-CAstore',
    '-CAfile',
    bench.file('root.pem', pem(chain.slice(0, 1))),
    ...(untrusted.length === 0 ? [] : ['-untrusted', bench.file('untrusted.pem', pem(untrusted))]),
    bench.file('leaf.pem', pem(chain.slice(-1))),
  )
  return { valid: status === 0, output }
}

const rarely = (weight: number): fc.Arbitrary<boolean> =>
  fc.oneof({ weight, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) })
const sometimes = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary })

const email = (value: string): GeneralName => ({ kind: 'email', value })
const directory = (...attributes: Parameters<typeof encodeName>[0]): GeneralName => ({
  kind: 'directory',
  nameDer: encodeName(attributes),
})

const names: readonly GeneralName[] = [
  uriName('spiffe://example.org/agent/a'),
  uriName('https://www.example.org:8443/a?b'),
  dnsName('example.org'),
  dnsName('www.Example.ORG'),
  dnsName('notexample.org'),
  email('a@example.org'),
  email('A@mail.example.org'),
  ipName(Uint8Array.of(192, 0, 2, 1)),
  ipName(Uint8Array.of(198, 51, 100, 1)),
  ipName(Uint8Array.of(32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)),
  directory(['O', 'Example'], ['CN', 'x']),
]
const bases: readonly GeneralName[] = [
  uriName('example.org'),
  uriName('.example.org'),
  dnsName('example.org'),
  dnsName('www.example.org'),
  dnsName(''),
  email('example.org'),
  email('.example.org'),
  email('a@example.org'),
  ipName(Uint8Array.of(192, 0, 2, 0, 255, 255, 255, 0)),
  ipName(Uint8Array.of(192, 0, 2, 0, 255, 255, 255, 254)),
  directory(['O', 'example']),
  directory(['O', 'Other']),
]
const subjects = [
  encodeName([['CN', 'a leaf']]),
  encodeName([
    ['O', 'Example'],
    ['CN', 'a leaf'],
  ]),
]

const constraints = sometimes(
  fc
    .record({
      permitted: fc.uniqueArray(fc.constantFrom(...bases), { maxLength: 3 }),
      excluded: fc.uniqueArray(fc.constantFrom(...bases), { maxLength: 1 }),
    })
    .filter(({ permitted, excluded }) => permitted.length + excluded.length > 0),
)
const usages = sometimes(fc.constantFrom('clientAuth' as const, 'serverAuth' as const))

const caWish = fc.record({
  selfIssued: rarely(4),
  noCa: rarely(20),
  pathLength: sometimes(fc.nat(2)),
  mayNotSign: rarely(20),
  usage: usages,
  constraints,
  expired: rarely(20),
  forged: rarely(20),
})
const leafWish = fc.record({
  names: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 2 }),
  subject: fc.constantFrom(...subjects),
  usage: usages,
  mayNotSign: rarely(20),
  expired: rarely(20),
  forged: rarely(20),
})

const stranger = createTestKey('P-256')
const flaws = ({ expired, forged }: { expired: boolean; forged: boolean }) => ({
  ...(expired ? { notAfter: now - day } : {}),
  ...(forged ? { signedBy: stranger } : {}),
})
const ifGiven = <K extends string, T>(key: K, value: T | null): { [key in K]?: T } =>
  value === null ? {} : ({ [key]: value } as { [key in K]: T })

const subjectOf = ({ certificate }: Entity): Uint8Array => certificate.subjectDer

/** OpenSSL's opinion beside ours, so that a disagreement shows both. */
const expectAgreement = (chain: readonly Entity[], options: readonly string[], ours: string): void => {
  const { valid, output } = opensslSays(chain, options)
  expect({ ours, valid: ours === 'valid', output }).toEqual({ ours, valid, output })
}

const policies = ['1.2.1', '1.2.2', '1.2.3'] as const
const policy = fc.constantFrom(...policies)

interface Steering {
  readonly policies: readonly string[] | null
  readonly mappings?: readonly (readonly [string, string])[] | null
  readonly explicit?: number | null
  readonly inhibitMapping?: number | null
  readonly inhibitAny?: number | null
}

const listed = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.uniqueArray(fc.constantFrom(...policies, oidOf.anyPolicy), { minLength: 1, maxLength: 3 }),
  },
  { weight: 1, arbitrary: fc.constant(null) },
)
const steering = fc.record({
  policies: listed,
  mappings: sometimes(
    fc.uniqueArray(fc.tuple(policy, policy), { minLength: 1, maxLength: 2, selector: pair => pair.join() }),
  ),
  explicit: sometimes(fc.nat(2)),
  inhibitMapping: sometimes(fc.nat(2)),
  inhibitAny: sometimes(fc.nat(2)),
  selfIssued: rarely(4),
})
const inputs: fc.Arbitrary<PolicyInputs> = fc.record({
  initialPolicies: fc.oneof(fc.constant('any' as const), fc.uniqueArray(policy, { minLength: 1, maxLength: 2 })),
  explicitPolicy: fc.constantFrom('required', 'not-required'),
  policyMapping: fc.constantFrom('allowed', 'inhibited'),
  anyPolicy: fc.constantFrom('allowed', 'inhibited'),
})

const policyExtensions = (wish: Steering): readonly Extension[] => {
  const { mappings = null, explicit = null, inhibitMapping = null, inhibitAny = null } = wish
  const of = (name: keyof typeof oidOf, value: Uint8Array | null): readonly Extension[] =>
    value === null ? [] : [{ oid: oidOf[name], critical: name !== 'certificatePolicies', value }]
  const skip = (n: number, certificates: number | null): readonly Uint8Array[] =>
    certificates === null ? [] : [implicitPrimitive(n, Uint8Array.of(certificates))]
  const constraints = [...skip(0, explicit), ...skip(1, inhibitMapping)]
  return [
    ...of('certificatePolicies', wish.policies && sequence(...wish.policies.map(each => sequence(oid(each))))),
    ...of('policyMappings', mappings && sequence(...mappings.map(([from, to]) => sequence(oid(from), oid(to))))),
    ...of('policyConstraints', constraints.length === 0 ? null : sequence(...constraints)),
    ...of('inhibitAnyPolicy', inhibitAny === null ? null : integer(inhibitAny)),
  ]
}

/**
 * OpenSSL maps a policy out of an anyPolicy that is inhibited, where RFC 5280 §6.1.4 (b) (1) finds no anyPolicy node to map from: such
 * mappings are left out.
 */
const comparable = <T extends Steering>(cas: readonly T[], given: PolicyInputs): readonly T[] => {
  if (given.anyPolicy === 'allowed' && cas.every(each => each.inhibitAny == null)) return cas
  return cas.map(each => {
    const mappings = (each.mappings ?? []).filter(([from]) => each.policies?.includes(from))
    return { ...each, mappings: mappings.length === 0 ? null : mappings }
  })
}

const policyOptions = (given: PolicyInputs): readonly string[] => [
  '-policy_check',
  ...(given.initialPolicies === 'any' ? [oidOf.anyPolicy] : given.initialPolicies).flatMap(each => ['-policy', each]),
  ...(given.explicitPolicy === 'required' ? ['-explicit_policy'] : []),
  ...(given.policyMapping === 'inhibited' ? ['-inhibit_map'] : []),
  ...(given.anyPolicy === 'inhibited' ? ['-inhibit_any'] : []),
]

/** The next CA below those that there are, under a name of its own or, with a new key, under its issuer's. */
const caBelow = (chain: readonly Entity[], selfIssued: boolean, wish: Partial<Wish>): Entity => {
  const issuer = chain.at(-1)!
  const own = encodeName([['CN', `ca ${chain.length}`]])
  return ca(selfIssued && chain.length > 1 ? subjectOf(issuer) : own, issuer, wish)
}

describe('OpenSSL agrees', () => {
  it('on names, path lengths, usages, validity and signatures', () => {
    const top = fc.record({ pathLength: sometimes(fc.nat(2)), constraints })
    fc.assert(
      fc.property(top, fc.array(caWish, { maxLength: 4 }), leafWish, (anchor, cas, end) => {
        const chain = [root({ ca: { pathLength: anchor.pathLength }, ...ifGiven('constraints', anchor.constraints) })]
        for (const wish of cas)
          chain.push(
            caBelow(chain, wish.selfIssued, {
              ca: wish.noCa ? null : { pathLength: wish.pathLength },
              keyUsage: wish.mayNotSign ? ['cRLSign'] : ['keyCertSign', 'cRLSign'],
              ...ifGiven('extendedKeyUsage', wish.usage === null ? null : [wish.usage]),
              ...ifGiven('constraints', wish.constraints),
              ...flaws(wish),
            }),
          )
        chain.push(
          leaf(chain.at(-1)!, {
            subject: end.subject,
            names: end.names,
            extendedKeyUsage: [end.usage ?? 'clientAuth'],
            keyUsage: end.mayNotSign ? ['keyEncipherment'] : ['digitalSignature'],
            ...flaws(end),
          }),
        )
        expectAgreement(chain, ['-purpose', 'sslclient'], resultOf(chain))
      }),
      { numRuns },
    )
  })

  it('on certificate policies', () => {
    fc.assert(
      fc.property(fc.array(steering, { minLength: 1, maxLength: 3 }), listed, inputs, (cas, end, given) => {
        const chain = [root()]
        for (const wish of comparable(cas, given))
          chain.push(caBelow(chain, wish.selfIssued, { extensions: policyExtensions(wish) }))
        chain.push(leaf(chain.at(-1)!, { extensions: policyExtensions({ policies: end }) }))
        expectAgreement(chain, policyOptions(given), resultOf(chain, { policies: given }))
      }),
      { numRuns },
    )
  })
})
