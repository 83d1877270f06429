// Path validation rule by rule, on chains of our own; the foreign suite is pkits.test.ts.
import { describe, expect, it } from 'vitest'
import { implicitPrimitive, nullValue, sequence } from '../../src/pki/der.ts'
import { uriName } from '../../src/pki/general-names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { usualBudget } from '../../src/verify/budget.ts'
import { checkPathAt } from '../../src/verify/path.ts'
import { anyPolicies } from '../../src/verify/policies.ts'
import { usualAlgorithms } from '../../src/verify/signatures.ts'
import { anchorOf } from '../../src/verify/trust-anchor.ts'
import { createTestKey } from '../pki/keys.ts'
import { ca, codeOf, crl, day, factsOf, issue, leaf, nameDer, now, resultOf, root, validate } from './chains.ts'

const top = root()
const issuing = ca('issuing', top, { ca: { pathLength: 0 } })
const agent = leaf(issuing, { names: [uriName('spiffe://example.org/agent/billing/i/1')] })

describe('a path that holds', () => {
  it('is told with its certificates from the leaf up, its anchor, and what it cost', () => {
    const path = validate([top, issuing, agent])
    expect(path.leaf).toBe(agent.certificate)
    expect(path.intermediates).toEqual([issuing.certificate])
    expect(path.anchor.subjectDer).toEqual(top.certificate.subjectDer)
    expect(path.purpose).toBe('clientAuth')
    expect(path.spent.signatures).toBe(2)
  })

  it('may be one certificate long', () => {
    const direct = leaf(top)
    expect(validate([top, direct]).intermediates).toEqual([])
  })

  it('is found whatever else comes along, in whatever order', () => {
    const second = ca('second', issuing, { ca: { pathLength: null } })
    const middle = ca('middle', top)
    const below = ca('below', middle)
    const end = leaf(below)
    const intermediates = [second, top, agent, below, issuing, middle, end].map(each => each.certificate)
    expect(validate([top, end], { intermediates }).intermediates).toEqual([below.certificate, middle.certificate])
  })

  it('verifies the signature of a certificate object once', () => {
    const first = leaf(issuing)
    const second = leaf(issuing)
    validate([top, issuing, first])
    expect(validate([top, issuing, second]).spent.signatures).toBe(1)
    expect(validate([top, issuing, second]).spent.signatures).toBe(0)
  })

  it('leads to the anchor of another name or key only if that one signed', () => {
    const impostor = root()
    expect(resultOf([impostor, issuing, agent])).toBe('signature_invalid')
    expect(resultOf([root({ subject: 'another root' }), issuing, agent])).toBe('issuer_unknown')
    const anchors = [impostor, top].map(each => anchorOf(each.certificate, 'constraints'))
    expect(resultOf([top, issuing, agent], { anchors })).toBe('valid')
    expect(resultOf([top, issuing, agent], { anchors: [] })).toBe('issuer_unknown')
  })
})

describe('time', () => {
  const from = now - day
  const until = now + day
  const timed = leaf(issuing, { notBefore: from, notAfter: until })

  it('both ends are part of the validity, the last one to its last millisecond (RFC 5280 §4.1.2.5)', () => {
    const at = (time: number) => resultOf([top, issuing, timed], { at: time })
    expect(at(from - 1)).toBe('certificate_not_yet_valid')
    expect(at(from)).toBe('valid')
    expect(at(until + 999)).toBe('valid')
    expect(at(until + 1000)).toBe('certificate_expired')
  })

  it('is the time of every certificate of the path', () => {
    const short = ca('short', top, { notBefore: from, notAfter: until })
    const end = leaf(short)
    expect(resultOf([top, short, end], { at: from - 1 })).toBe('certificate_not_yet_valid')
    expect(resultOf([top, short, end], { at: until + 1000 })).toBe('certificate_expired')
    expect(factsOf(() => validate([top, short, end], { at: until + 1000 }))).toEqual({
      depth: 1,
      serial: short.certificate.serialHex,
      notAfter: new Date(until).toISOString(),
      at: new Date(until + 1000).toISOString(),
    })
  })

  it('is the time of the anchor where the caller honours its constraints', () => {
    const ending = root({ notAfter: until })
    const end = leaf(ending)
    const judged = (honour: 'constraints' | 'name-and-key') =>
      resultOf([ending, end], { at: until + 1000, anchors: [anchorOf(ending.certificate, honour)] })
    expect(judged('constraints')).toBe('certificate_expired')
    expect(judged('name-and-key')).toBe('valid')
  })

  it('that is no number is outside every validity', () => {
    expect(() => validate([top, issuing, timed], { at: Number.NaN })).toThrow()
    expect(() => checkPathAt(validate([top, issuing, timed]), Number.NaN)).toThrow()
  })

  it('is all that has to be asked again of a path that held', () => {
    const path = validate([top, issuing, timed], {
      revocation: {
        crls: [crl(top, [], { nextUpdate: now + 2 * day }), crl(issuing, [], { nextUpdate: now + day / 2 })],
      },
    })
    const at = (time: number) => codeOf(() => checkPathAt(path, time))
    expect(path).toMatchObject({ notBefore: from, notAfter: until, currentUntil: now + day / 2 })
    expect(at(from - 1)).toBe('certificate_not_yet_valid')
    expect(at(from)).toBe('valid')
    expect(at(now + day / 2)).toBe('valid')
    expect(at(now + day / 2 + 1)).toBe('revocation_unknown')
    const lasting = validate([top, issuing, timed])
    expect(codeOf(() => checkPathAt(lasting, until + 999))).toBe('valid')
    expect(codeOf(() => checkPathAt(lasting, until + 1000))).toBe('certificate_expired')
  })
})

describe('CAs', () => {
  it('say that they are (RFC 5280 §6.1.4 (k))', () => {
    const unsaid = ca('unsaid', top, { ca: null, keyUsage: ['keyCertSign'] })
    expect(resultOf([top, unsaid, leaf(unsaid)])).toBe('not_a_ca')
    const end = leaf(issuing)
    expect(resultOf([top, issuing, end, leaf(end)])).toBe('not_a_ca')
  })

  it('may sign certificates, where they say what their key is for (RFC 5280 §6.1.4 (n))', () => {
    const signsLists = ca('signs lists', top, { keyUsage: ['cRLSign'] })
    expect(resultOf([top, signsLists, leaf(signsLists)])).toBe('key_usage')
    const saysNothing = ca('says nothing', top, { keyUsage: null })
    expect(resultOf([top, saysNothing, leaf(saysNothing)])).toBe('valid')
  })

  it('are followed by no more than one above allows, those that issue to themselves not counted', () => {
    const below = ca('below', issuing)
    expect(resultOf([top, issuing, below, leaf(below)])).toBe('path_too_long')
    const rekeyed = ca('issuing', issuing)
    expect(resultOf([top, issuing, rekeyed, leaf(rekeyed)])).toBe('valid')
  })

  it('below an anchor obey its path length where the caller honours it', () => {
    const flat = root({ ca: { pathLength: 0 } })
    const below = ca('below', flat)
    const chain = [flat, below, leaf(below)]
    expect(resultOf(chain)).toBe('path_too_long')
    expect(resultOf(chain, { anchors: [anchorOf(flat.certificate, 'name-and-key')] })).toBe('valid')
  })

  it('that are anchors sign certificates, where the caller honours what they say', () => {
    const lister = root({ keyUsage: ['cRLSign'] })
    expect(resultOf([lister, leaf(lister)])).toBe('key_usage')
    const anchors = [anchorOf(lister.certificate, 'name-and-key')]
    expect(resultOf([lister, leaf(lister)], { anchors })).toBe('valid')
    const none = { validity: null, pathLength: null, keyUsage: null, extendedKeyUsage: null, nameConstraints: null }
    expect(resultOf([lister, leaf(lister)], { anchors: [{ ...anchors[0]!, constraints: none }] })).toBe('valid')
  })

  it('without revocation information do not exist (RFC 9608 §2)', () => {
    const mute = ca('mute', top, { extensions: [{ oid: oidOf.noRevAvail, critical: false, value: nullValue() }] })
    expect(resultOf([top, mute, leaf(mute)])).toBe('certificate_malformed')
  })
})

describe('purposes', () => {
  it('have to be among the usages of the leaf, where it names usages', () => {
    const server = leaf(issuing, { extendedKeyUsage: ['serverAuth'] })
    expect(resultOf([top, issuing, server])).toBe('extended_key_usage')
    expect(resultOf([top, issuing, server], { purpose: 'serverAuth' })).toBe('valid')
    expect(resultOf([top, issuing, server], { purpose: 'any' })).toBe('valid')
    const open = issue({ subject: 'open', issuer: issuing })
    expect(resultOf([top, issuing, open])).toBe('valid')
    const anything = leaf(issuing, { extendedKeyUsage: ['anyExtendedKeyUsage'] })
    expect(resultOf([top, issuing, anything])).toBe('extended_key_usage')
  })

  it('have to be allowed by every CA that names usages', () => {
    const below = (usage: 'serverAuth' | 'clientAuth' | 'anyExtendedKeyUsage') => {
      const limited = ca('limited', top, { extendedKeyUsage: [usage] })
      return [top, limited, leaf(limited)]
    }
    expect(resultOf(below('serverAuth'))).toBe('extended_key_usage')
    expect(resultOf(below('clientAuth'))).toBe('valid')
    expect(resultOf(below('anyExtendedKeyUsage'))).toBe('valid')
    const anchor = root({ extendedKeyUsage: ['codeSigning'] })
    expect(resultOf([anchor, leaf(anchor)])).toBe('extended_key_usage')
  })

  it('need a key that may sign, of somebody who is no CA', () => {
    expect(resultOf([top, issuing, leaf(issuing, { keyUsage: ['keyEncipherment'] })])).toBe('key_usage')
    const free = ca('free', top)
    const below = ca('below', free, { keyUsage: ['digitalSignature', 'keyCertSign'] })
    expect(resultOf([top, free, below])).toBe('ca_as_leaf')
    expect(resultOf([top, free, below], { purpose: 'any' })).toBe('valid')
  })
})

describe('extensions', () => {
  it('that are critical and unknown refuse a leaf and a CA; others do not', () => {
    const unknown = (critical: boolean) => ({ extensions: [{ oid: '1.2.3.4', critical, value: nullValue() }] })
    expect(resultOf([top, issuing, leaf(issuing, unknown(true))])).toBe('critical_extension_unknown')
    expect(resultOf([top, issuing, leaf(issuing, unknown(false))])).toBe('valid')
    const odd = ca('odd', top, unknown(true))
    expect(resultOf([top, odd, leaf(odd)])).toBe('critical_extension_unknown')
  })

  it('that a rule reads have to be readable', () => {
    const broken = leaf(issuing, {
      keyUsage: null,
      extensions: [{ oid: oidOf.keyUsage, critical: true, value: nullValue() }],
    })
    expect(resultOf([top, issuing, broken])).toBe('certificate_malformed')
    expect(factsOf(() => validate([top, issuing, broken]))).toMatchObject({ depth: 0, reason: 'der_malformed' })
  })
})

describe('names', () => {
  it('are constrained by the caller and by the anchor as by any CA', () => {
    const permitted = { permitted: [uriName('example.org')], excluded: [] }
    const excluded = { permitted: [], excluded: [uriName('example.org')] }
    expect(resultOf([top, issuing, agent], { names: permitted })).toBe('valid')
    expect(resultOf([top, issuing, agent], { names: excluded })).toBe('name_not_permitted')
    const narrow = root({ constraints: excluded })
    const end = leaf(narrow, { names: [uriName('spiffe://example.org/agent/a/i/1')] })
    expect(resultOf([narrow, end])).toBe('name_not_permitted')
    expect(resultOf([narrow, end], { anchors: [anchorOf(narrow.certificate, 'name-and-key')] })).toBe('valid')
  })

  it('chain by RFC 5280 §7.1, not by their bytes', () => {
    const shouting = { ...issuing, certificate: ca('  ISSUING ', top, { key: issuing.key }).certificate }
    const end = leaf(shouting)
    expect(end.certificate.issuerDer).not.toEqual(nameDer('issuing'))
    expect(resultOf([top, issuing, end])).toBe('valid')
  })
})

describe('policies', () => {
  it('that are required and missing refuse the path', () => {
    expect(resultOf([top, issuing, agent], { policies: { ...anyPolicies, explicitPolicy: 'required' } })).toBe(
      'policy_missing',
    )
  })

  it('may be required by the leaf itself (RFC 5280 §6.1.5 (b))', () => {
    const value = sequence(implicitPrimitive(0, Uint8Array.of(0)))
    const strict = leaf(issuing, { extensions: [{ oid: oidOf.policyConstraints, critical: true, value }] })
    expect(resultOf([top, issuing, strict])).toBe('policy_missing')
  })
})

describe('keys and signatures', () => {
  it('have to be of accepted algorithms, the key of the leaf included', () => {
    const edwards = leaf(issuing, { key: createTestKey('Ed25519') })
    expect(resultOf([top, issuing, edwards])).toBe('valid')
    const onlyP256 = { ...usualAlgorithms, keys: ['P-256'] as const }
    expect(resultOf([top, issuing, edwards], { algorithms: onlyP256 })).toBe('key_not_accepted')
    const large = root({ key: createTestKey('P-384') })
    expect(resultOf([large, leaf(large)])).toBe('valid')
    expect(resultOf([large, leaf(large)], { algorithms: onlyP256 })).toBe('key_not_accepted')
    const without384 = { ...usualAlgorithms, signatures: ['ecdsa-with-SHA256'] as const }
    expect(resultOf([large, leaf(large)], { algorithms: without384 })).toBe('algorithm_not_accepted')
  })

  it('that do not fit refuse, at each place of the path', () => {
    const other = createTestKey('P-256')
    expect(resultOf([top, issuing, leaf(issuing, { signedBy: other })])).toBe('signature_invalid')
    const forged = ca('forged', top, { signedBy: other })
    expect(resultOf([top, forged, leaf(forged)])).toBe('signature_invalid')
  })
})

describe('of several failures', () => {
  const key = createTestKey('P-256')
  const expired = ca('issuing', top, { key, notAfter: now - day })
  const unrelated = ca('issuing', top, { notAfter: now - day })
  const limited = ca('issuing', top, { key, extendedKeyUsage: ['serverAuth'] })
  const end = leaf(expired)
  const among = (...cas: readonly (typeof expired)[]) =>
    resultOf([top, end], { intermediates: cas.map(each => each.certificate) })

  it('the one of the path that got furthest is told, in whatever order they came', () => {
    expect(among(expired, limited)).toBe('certificate_expired')
    expect(among(limited, expired)).toBe('certificate_expired')
    expect(among(limited, unrelated)).toBe('extended_key_usage')
    expect(among(unrelated)).toBe('signature_invalid')
  })

  it('the first is told of two that are the same', () => {
    const later = ca('issuing', top, { key, notAfter: now - 2 * day })
    const call = () => validate([top, end], { intermediates: [expired, later].map(each => each.certificate) })
    expect(factsOf(call)).toMatchObject({ notAfter: new Date(now - day).toISOString() })
  })

  it('a fault of the program is none: it ends the search', () => {
    const good = anchorOf(top.certificate, 'constraints')
    const broken = { ...good, spki: null as never }
    const of =
      (...anchors: readonly (typeof good)[]) =>
      () =>
        validate([top, leaf(top)], { anchors })
    expect(of(broken, good)).toThrow(TypeError)
    expect(of(anchorOf(root().certificate, 'constraints'), broken)).toThrow(TypeError)
  })

  it('none is told while another path holds', () => {
    const good = ca('issuing', top, { key })
    expect(among(expired, limited, unrelated, good)).toBe('valid')
  })
})

describe('work', () => {
  it('that runs out ends the search', () => {
    const judged = (limit: Partial<typeof usualBudget>) =>
      resultOf([top, issuing, leaf(issuing)], { budget: { ...usualBudget, ...limit } })
    expect(judged({ signatures: 0 })).toBe('budget_exceeded')
    expect(judged({ steps: 1 })).toBe('budget_exceeded')
    expect(judged({ steps: Number.NaN })).toBe('budget_exceeded')
    expect(judged({ intermediates: 0 })).toBe('issuer_unknown')
    expect(judged({ intermediates: 1 })).toBe('valid')
  })

  it('that runs out does not hide the most specific failure so far', () => {
    const expired = ca('issuing', top, { key: issuing.key, notAfter: now - day })
    const end = leaf(issuing)
    const budget = { ...usualBudget, steps: 3 }
    const call = () => validate([top, end], { intermediates: [expired, issuing].map(each => each.certificate), budget })
    expect(factsOf(call)).toEqual({ kind: 'steps', limit: 3 })
    expect(call).toThrow(
      expect.objectContaining({
        code: 'budget_exceeded',
        cause: expect.objectContaining({ code: 'certificate_expired' }),
      }),
    )
  })
})
