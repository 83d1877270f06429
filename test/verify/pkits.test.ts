// The NIST Public Key Interoperability Test Suite, whole: certificates and CRLs of somebody else, with somebody else's results.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isAgentCaError } from '../../src/base/errors.ts'
import { type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { type Crl, parseCrl } from '../../src/pki/crl.ts'
import { PkiError } from '../../src/pki/errors.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { usualBudget } from '../../src/verify/budget.ts'
import { type ValidatedPath, validatePath } from '../../src/verify/path.ts'
import { usualAlgorithms } from '../../src/verify/signatures.ts'
import { anchorOf } from '../../src/verify/trust-anchor.ts'

interface Case {
  readonly test_number: string
  readonly title: string
  readonly name: string
  /** The anchor first, the leaf last. */
  readonly certs: readonly [string, ...string[]]
  readonly crls: readonly string[]
  readonly should_validate: boolean
  readonly SetInitialPolicySet?: string
  readonly SetInitialExplicitPolicy?: 'true'
  readonly SetInitialPolicyMappingInhibit?: 'true'
  readonly SetInitialInhibitAnyPolicy?: 'true'
  readonly SetUserConstrainedPolicySet?: string
}

const directory = join(import.meta.dirname, '../vectors/pkits')
const bytes = (path: string): Uint8Array => new Uint8Array(readFileSync(join(directory, path)))
const json = <T>(path: string): T => JSON.parse(readFileSync(join(directory, path), 'utf8')) as T

const cases = json<readonly Case[]>('cases.json')
/** Name of a case → why our result is another one. */
const exceptions = json<Readonly<Record<string, string>>>('exceptions.json')
/** Name of a case → the rule that it is to be refused by: a refusal for another reason proves nothing. */
const refusals = json<Readonly<Record<string, string>>>('refusals.json')

// 2010 to 2030, except where a case is about something else.
const at = Date.UTC(2024, 0, 1)

const certificateOf = (name: string): Certificate => parseCertificate(bytes(`certs/${name}.crt`))

/** What cannot be read is no CRL: that is how whoever fetches them treats it. */
const crlsOf = (name: string): readonly Crl[] => {
  try {
    return [parseCrl(bytes(`crls/${name}.crl`))]
  } catch (error) {
    if (error instanceof PkiError) return []
    throw error
  }
}

const policiesOf = (text: string): readonly string[] =>
  text === ''
    ? []
    : text
        .split(',')
        .map(name =>
          name === 'anyPolicy' ? oidOf.anyPolicy : name.replace('NIST-test-policy-', '2.16.840.1.101.3.2.1.48.'),
        )

const validate = (each: Case): ValidatedPath => {
  const [root, ...certificates] = each.certs.map(certificateOf) as [Certificate, ...Certificate[]]
  return validatePath({
    leaf: certificates.at(-1)!,
    intermediates: certificates,
    anchors: [anchorOf(root, 'name-and-key')],
    at,
    purpose: 'any',
    algorithms: { signatures: ['sha256WithRSAEncryption'], keys: ['RSA'], minRsaBits: 2048 },
    names: 'any',
    policies: {
      initialPolicies: each.SetInitialPolicySet === undefined ? 'any' : policiesOf(each.SetInitialPolicySet),
      explicitPolicy: each.SetInitialExplicitPolicy === 'true' ? 'required' : 'not-required',
      policyMapping: each.SetInitialPolicyMappingInhibit === 'true' ? 'inhibited' : 'allowed',
      anyPolicy: each.SetInitialInhibitAnyPolicy === 'true' ? 'inhibited' : 'allowed',
    },
    revocation: { crls: each.crls.flatMap(crlsOf) },
    budget: usualBudget,
  })
}

/** `valid`, or the rule that the path was refused by. */
const resultOf = (each: Case): string => {
  try {
    const { policies } = validate(each)
    if (each.SetUserConstrainedPolicySet !== undefined)
      expect([...policies].sort()).toEqual([...policiesOf(each.SetUserConstrainedPolicySet)].sort())
    return 'valid'
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    return typeof error.facts.reason === 'string' ? `${error.code} ${error.facts.reason}` : error.code
  }
}

describe('PKITS', () => {
  it('is whole', () => {
    expect(cases).toHaveLength(247)
    expect(new Set(cases.map(each => each.name)).size).toBe(247)
  })

  it.each(cases.map(each => [`${each.test_number} ${each.title}`, each] as const))('%s', (_title, each) => {
    const diverges = Object.hasOwn(exceptions, each.name)
    expect(resultOf(each)).toBe(each.should_validate !== diverges ? 'valid' : refusals[each.name])
  })

  it('is diverged from only with a reason, and every refusal has its rule', () => {
    const names = new Set(cases.map(each => each.name))
    for (const [name, reason] of Object.entries(exceptions)) {
      expect(names).toContain(name)
      expect(reason.length).toBeGreaterThan(20)
    }
    const refused = cases.filter(each => each.should_validate === Object.hasOwn(exceptions, each.name))
    expect(Object.keys(refusals).sort()).toEqual(refused.map(each => each.name).sort())
  })

  it('is refused where SHA-256 with RSA is not accepted', () => {
    const [root, ...certificates] = cases[0]!.certs.map(certificateOf) as [Certificate, ...Certificate[]]
    const refuse = (algorithms: typeof usualAlgorithms) => () =>
      validatePath({
        leaf: certificates.at(-1)!,
        intermediates: certificates,
        anchors: [anchorOf(root, 'constraints')],
        at,
        purpose: 'any',
        algorithms,
        names: 'any',
        policies: {
          initialPolicies: 'any',
          explicitPolicy: 'not-required',
          policyMapping: 'allowed',
          anyPolicy: 'allowed',
        },
        revocation: 'none',
        budget: usualBudget,
      })
    expect(refuse(usualAlgorithms)().policies).toEqual(policiesOf('NIST-test-policy-1'))
    expect(refuse({ ...usualAlgorithms, signatures: ['ecdsa-with-SHA256'] })).toThrow(
      expect.objectContaining({ code: 'algorithm_not_accepted' }),
    )
    expect(refuse({ ...usualAlgorithms, keys: ['P-256'] })).toThrow(
      expect.objectContaining({ code: 'key_not_accepted' }),
    )
    expect(refuse({ ...usualAlgorithms, minRsaBits: 3072 })).toThrow(
      expect.objectContaining({ code: 'key_not_accepted' }),
    )
  })
})
