// CRLs along a path, beyond what the foreign suite has: freshness, shards, lists that somebody else signed, lists that are missing.
import { describe, expect, it } from 'vitest'
import type { Crl, RevokedEntry } from '../../src/pki/crl.ts'
import { explicit, implicitConstructed, implicitPrimitive, integer, nullValue, sequence } from '../../src/pki/der.ts'
import {
  crlDistributionPoints,
  type Extension,
  issuingDistributionPoint,
  noRevAvail,
} from '../../src/pki/extensions.ts'
import { encodeGeneralName, encodeGeneralNames, type GeneralName, uriName } from '../../src/pki/general-names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { usualBudget } from '../../src/verify/budget.ts'
import { createTestKey } from '../pki/keys.ts'
import { ca, crl, day, type Entity, factsOf, leaf, now, resultOf, root, validate } from './chains.ts'

const top = root()
const issuing = ca('issuing', top)
const agent = leaf(issuing)
const revocationOf = ({ certificate }: Entity): RevokedEntry => ({
  serial: certificate.serial,
  revokedAt: now - day,
  reason: 'keyCompromise',
})
const ofTop = crl(top, [])
const judged = (...crls: readonly Crl[]) => resultOf([top, issuing, agent], { revocation: { crls } })
const reasonOf = (chain: readonly Entity[], ...crls: readonly Crl[]) =>
  (factsOf(() => validate(chain, { revocation: { crls } })) as { reason: string }).reason

describe('revocation by CRLs (RFC 5280 §6.3)', () => {
  it('is asked about every certificate of the path', () => {
    expect(judged(ofTop, crl(issuing, []))).toBe('valid')
    expect(judged(ofTop, crl(issuing, [revocationOf(agent)]))).toBe('certificate_revoked')
    expect(judged(crl(top, [revocationOf(issuing)]), crl(issuing, []))).toBe('certificate_revoked')
    const facts = factsOf(() =>
      validate([top, issuing, agent], { revocation: { crls: [ofTop, crl(issuing, [revocationOf(agent)])] } }),
    )
    expect(facts).toEqual({
      depth: 0,
      serial: agent.certificate.serialHex,
      reason: 'keyCompromise',
      revokedAt: new Date(now - day).toISOString(),
    })
  })

  it('is unknown without a list, never denied', () => {
    expect(judged()).toBe('revocation_unknown')
    expect(judged(ofTop)).toBe('revocation_unknown')
    expect(judged(crl(issuing, []))).toBe('revocation_unknown')
    expect(reasonOf([top, issuing, agent], ofTop)).toBe('no_crl')
    expect(resultOf([top, issuing, agent], { revocation: 'none' })).toBe('valid')
  })

  it('is told from thisUpdate to nextUpdate of a list', () => {
    const at = (time: number) =>
      resultOf([top, issuing, agent], { at: time, revocation: { crls: [ofTop, crl(issuing, [])] } })
    expect(at(now - day - 1)).toBe('revocation_unknown')
    expect(at(now - day)).toBe('valid')
    expect(at(now + day)).toBe('valid')
    expect(at(now + day + 1)).toBe('revocation_unknown')
    expect(reasonOf([top, issuing, agent], ofTop, crl(issuing, [], { nextUpdate: now - 1000 }))).toBe('crl_not_current')
  })

  it('is what the newest of several lists says, in whatever order they came', () => {
    const before = crl(issuing, [], { thisUpdate: now - 3000 })
    const revoked = crl(issuing, [revocationOf(agent)], { thisUpdate: now - 2000 })
    const after = crl(issuing, [], { thisUpdate: now - 1000 })
    expect(judged(ofTop, before, revoked)).toBe('certificate_revoked')
    expect(judged(revoked, before, ofTop)).toBe('certificate_revoked')
    expect(judged(ofTop, after, revoked)).toBe('valid')
  })

  it('is taken only from lists that verify, and those that do not are passed over', () => {
    const stranger = createTestKey('P-256')
    const forged = crl(issuing, [], { thisUpdate: now - 1000, signedBy: stranger })
    expect(judged(ofTop, forged)).toBe('revocation_unknown')
    expect(reasonOf([top, issuing, agent], ofTop, forged)).toBe('crl_issuer_not_trusted')
    expect(judged(ofTop, forged, crl(issuing, [revocationOf(agent)]))).toBe('certificate_revoked')
    const accusing = crl(issuing, [revocationOf(agent)], { thisUpdate: now - 1000, signedBy: stranger })
    expect(judged(ofTop, accusing, crl(issuing, []))).toBe('valid')
  })

  it('is unknown for the reason of the list that got furthest', () => {
    const forged = crl(issuing, [], { signedBy: createTestKey('P-256') })
    const old = crl(issuing, [], { thisUpdate: now - 3 * day, nextUpdate: now - 2 * day })
    expect(reasonOf([top, issuing, agent], ofTop, forged, old)).toBe('crl_issuer_not_trusted')
  })

  it('is not for a CA to tell whose key may not sign lists', () => {
    const mute = ca('mute', top, { keyUsage: ['keyCertSign'] })
    expect(resultOf([top, mute, leaf(mute)], { revocation: { crls: [ofTop, crl(mute, [])] } })).toBe(
      'revocation_unknown',
    )
    const muteTop = root({ keyUsage: ['keyCertSign'] })
    expect(resultOf([muteTop, leaf(muteTop)], { revocation: { crls: [crl(muteTop, [])] } })).toBe('revocation_unknown')
  })

  it('costs a signature a list once', () => {
    const crls = [crl(top, []), crl(issuing, [])]
    const spent = () => validate([top, issuing, leaf(issuing)], { revocation: { crls } }).spent.signatures
    expect(spent()).toBe(3)
    expect(spent()).toBe(1)
  })

  it('costs a signature a key for a list that nobody signed, however many certificates it might speak of', () => {
    const rekeyed = ca('issuing', issuing)
    const forged = crl(issuing, [], { signedBy: createTestKey('P-256') })
    const crls = [crl(top, []), forged, crl(issuing, [], { thisUpdate: now - 2 * day })]
    const first = ca('issuing', top, { key: issuing.key })
    const path = validate([top, first, rekeyed, leaf(rekeyed)], { revocation: { crls } })
    // The path 3, the root's list 1; of the issuing CA's two lists each under both of its keys.
    expect(path.spent.signatures).toBe(3 + 1 + 4)
  })
})

describe('shards', () => {
  const uri = 'http://ca.example/crl/issuing/0.crl'
  const sharded = leaf(issuing, { extensions: [crlDistributionPoints([uri])] })
  const shard = (uris: readonly string[], entries: readonly RevokedEntry[]) =>
    crl(issuing, entries, {
      extensions: [issuingDistributionPoint({ fullName: uris.map(uriName), onlyContainsUserCerts: true })],
    })
  const of = (chain: readonly Entity[], ...crls: readonly Crl[]) =>
    resultOf(chain, { revocation: { crls: [ofTop, ...crls] } })

  it('speak of the certificates that name them', () => {
    expect(of([top, issuing, sharded], shard([uri], []))).toBe('valid')
    expect(of([top, issuing, sharded], shard([uri], [revocationOf(sharded)]))).toBe('certificate_revoked')
    expect(of([top, issuing, sharded], shard(['http://ca.example/crl/issuing/1.crl'], []))).toBe('revocation_unknown')
    expect(of([top, issuing, agent], shard([uri], []))).toBe('revocation_unknown')
  })

  it('of leaves do not speak of CAs', () => {
    const below = ca('below', issuing, { extensions: [crlDistributionPoints([uri])] })
    const chain = [top, issuing, below, leaf(below)]
    expect(of(chain, shard([uri], []), crl(below, []))).toBe('revocation_unknown')
    expect(of(chain, crl(issuing, []), crl(below, []))).toBe('valid')
  })

  it('are not needed where there is a whole list', () => {
    expect(of([top, issuing, sharded], crl(issuing, []))).toBe('valid')
    expect(of([top, issuing, sharded], crl(issuing, [revocationOf(sharded)]))).toBe('certificate_revoked')
  })
})

describe('points and lists of some reasons', () => {
  const uri = uriName('http://ca.example/crl/some.crl')
  const name = explicit(0, implicitConstructed(0, encodeGeneralName(uri)))
  // keyCompromise alone.
  const someReasons = implicitPrimitive(1, Uint8Array.of(6, 0x40))
  const point = (...parts: readonly Uint8Array[]): Extension => ({
    oid: oidOf.crlDistributionPoints,
    critical: false,
    value: sequence(sequence(...parts)),
  })
  const end = leaf(issuing, { extensions: [point(name, someReasons)] })
  const of = (...crls: readonly Crl[]) => resultOf([top, issuing, end], { revocation: { crls: [ofTop, ...crls] } })

  it('decide nothing about the other reasons', () => {
    const list = crl(issuing, [], { extensions: [issuingDistributionPoint({ fullName: [uri] })] })
    expect(of(list)).toBe('revocation_unknown')
    expect(reasonOf([top, issuing, end], ofTop, list)).toBe('crl_reasons_incomplete')
    expect(of(list, crl(issuing, []))).toBe('valid')
  })

  it('are asked about a reason until one list, the newest, told', () => {
    const old = crl(issuing, [revocationOf(end)], { thisUpdate: now - 2 * day })
    expect(of(old)).toBe('certificate_revoked')
    expect(of(old, crl(issuing, []))).toBe('valid')
  })

  it('may name a CRL issuer alone, whose list then has its name (RFC 5280 §6.3.3 (b) (2) (i))', () => {
    const lister = ca('lister', top, { ca: null, keyUsage: ['cRLSign'] })
    const listerName: GeneralName = { kind: 'directory', nameDer: lister.certificate.subjectDer }
    const listed = leaf(issuing, { extensions: [point(encodeGeneralNames([listerName], 0xa2))] })
    const judgedBy = (list: Parameters<typeof issuingDistributionPoint>[0]) =>
      resultOf([top, issuing, listed], {
        intermediates: [issuing, lister].map(each => each.certificate),
        revocation: { crls: [ofTop, crl(lister, [], { extensions: [issuingDistributionPoint(list)] })] },
      })
    expect(judgedBy({ indirectCrl: true })).toBe('valid')
    expect(judgedBy({ indirectCrl: true, fullName: [listerName] })).toBe('valid')
    expect(judgedBy({ indirectCrl: true, fullName: [uri] })).toBe('revocation_unknown')
    expect(judgedBy({ fullName: [listerName] })).toBe('revocation_unknown')
  })
})

describe('delta lists (RFC 5280 §5.2.4)', () => {
  const base = crl(issuing, [], { number: 7 })
  const delta = (entries: readonly RevokedEntry[], number = 9, from = 7, ...others: readonly Extension[]) =>
    crl(issuing, entries, {
      number,
      thisUpdate: now - 1000,
      extensions: [{ oid: oidOf.deltaCrlIndicator, critical: true, value: integer(from) }, ...others],
    })

  it('tell what changed since a list that is at least as new as their base', () => {
    expect(judged(ofTop, base, delta([revocationOf(agent)]))).toBe('certificate_revoked')
    expect(judged(ofTop, base, delta([revocationOf(agent)], 9, 8))).toBe('valid')
    expect(judged(ofTop, base, delta([revocationOf(agent)], 7, 6))).toBe('valid')
    expect(judged(ofTop, delta([]))).toBe('revocation_unknown')
  })

  it('take certificates off hold', () => {
    const held = crl(issuing, [{ ...revocationOf(agent), reason: 'certificateHold' }])
    expect(judged(ofTop, held)).toBe('certificate_revoked')
    expect(judged(ofTop, held, delta([]))).toBe('certificate_revoked')
    expect(judged(ofTop, held, delta([{ ...revocationOf(agent), reason: 'removeFromCRL' }]))).toBe('valid')
  })

  it('are of the same scope as the list, and signed like it', () => {
    const scoped = issuingDistributionPoint({ onlyContainsUserCerts: true })
    const revoking = [revocationOf(agent)]
    expect(judged(ofTop, base, delta(revoking, 9, 7, scoped))).toBe('valid')
    const users = crl(issuing, [], { extensions: [scoped] })
    expect(judged(ofTop, users, delta(revoking))).toBe('valid')
    expect(judged(ofTop, users, delta(revoking, 9, 7, scoped))).toBe('certificate_revoked')
  })

  it('end what they were relied upon for with their own nextUpdate', () => {
    const short = crl(issuing, [], {
      number: 9,
      nextUpdate: now + 1000,
      extensions: [{ oid: oidOf.deltaCrlIndicator, critical: true, value: integer(7) }],
    })
    expect(validate([top, issuing, agent], { revocation: { crls: [ofTop, base, short] } }).currentUntil).toBe(
      now + 1000,
    )
  })
})

describe('a list that another key of the issuer signed', () => {
  const listKey = ca('issuing', top, { ca: null, keyUsage: ['cRLSign'] })
  const list = (entries: readonly RevokedEntry[]) => crl(listKey, entries)
  const chain = [top, issuing, agent]
  const judgedWith = (intermediates: readonly Entity[], crls: readonly Crl[]) =>
    resultOf(chain, { intermediates: intermediates.map(each => each.certificate), revocation: { crls } })

  it('is believed if that key leads to the same anchor and is not revoked (RFC 5280 §6.3.3 (f))', () => {
    expect(judgedWith([issuing, listKey], [ofTop, list([])])).toBe('valid')
    expect(judgedWith([issuing, listKey], [ofTop, list([revocationOf(agent)])])).toBe('certificate_revoked')
    expect(judgedWith([issuing], [ofTop, list([])])).toBe('revocation_unknown')
    expect(judgedWith([issuing, listKey], [crl(top, [revocationOf(listKey)]), list([])])).toBe('revocation_unknown')
    const elsewhere = root({ subject: 'elsewhere' })
    const foreign = ca('issuing', elsewhere, { ca: null, keyUsage: ['cRLSign'] })
    const crls = [ofTop, crl(elsewhere, []), crl(foreign, [])]
    expect(judgedWith([issuing, foreign], crls)).toBe('revocation_unknown')
  })

  it('is searched for with the work that is left', () => {
    const request = {
      intermediates: [issuing, listKey].map(each => each.certificate),
      revocation: { crls: [ofTop, list([])] },
    }
    // Three steps lead from the leaf to the anchor, a fourth from the key of the list.
    const judgedIn = (steps: number) => resultOf(chain, { ...request, budget: { ...usualBudget, steps } })
    expect(judgedIn(4)).toBe('valid')
    expect(judgedIn(3)).toBe('budget_exceeded')
  })

  it('is not believed about that key itself', () => {
    // The old key of the CA was stolen and its rollover certificate revoked; the thief signs a newer, empty list.
    const stolen = ca('issuing', issuing)
    const end = leaf(stolen)
    const real = crl(issuing, [revocationOf(stolen)])
    const thiefs = crl(stolen, [], { thisUpdate: now - 1000 })
    const of = (crls: readonly Crl[]) => resultOf([top, issuing, stolen, end], { revocation: { crls } })
    expect(of([ofTop, real])).toBe('certificate_revoked')
    expect(of([ofTop, real, thiefs])).toBe('certificate_revoked')
    expect(of([ofTop, thiefs])).toBe('revocation_unknown')
  })

  it('is not believed when two such keys only vouch for each other', () => {
    const [one, two] = [ca('issuing', issuing), ca('issuing', issuing)]
    const intermediates = [issuing, one, two].map(each => each.certificate)
    const of = (...crls: readonly Crl[]) => resultOf(chain, { intermediates, revocation: { crls: [ofTop, ...crls] } })
    expect(of(crl(one, []), crl(two, []))).toBe('revocation_unknown')
    const real = crl(issuing, [], { thisUpdate: now - 2 * day })
    expect(of(crl(one, []), crl(two, []), real)).toBe('valid')
    expect(of(crl(one, [revocationOf(agent)]), real)).toBe('certificate_revoked')
  })

  it('is not believed when its key is revoked, however new the list is', () => {
    const stolen = ca('issuing', issuing)
    const intermediates = [issuing, stolen].map(each => each.certificate)
    const crls = [
      ofTop,
      crl(stolen, []),
      crl(issuing, [revocationOf(stolen), revocationOf(agent)], { thisUpdate: now - 2 * day }),
    ]
    expect(resultOf(chain, { intermediates, revocation: { crls } })).toBe('certificate_revoked')
  })
})

describe('certificates without revocation information (RFC 9608)', () => {
  const short = leaf(issuing, { extensions: [noRevAvail()] })

  it('need no list, but one that names them is believed', () => {
    const of = (...crls: readonly Crl[]) => resultOf([top, issuing, short], { revocation: { crls: [ofTop, ...crls] } })
    expect(of()).toBe('valid')
    expect(of(crl(issuing, []))).toBe('valid')
    expect(of(crl(issuing, [revocationOf(short)]))).toBe('certificate_revoked')
  })

  it('still have issuers that need one', () => {
    expect(resultOf([top, issuing, short], { revocation: { crls: [] } })).toBe('revocation_unknown')
  })
})

describe('other people in the pool', () => {
  it('whose usages cannot be read sign nothing, and are no fault of the leaf', () => {
    const odd = ca('issuing', top, {
      keyUsage: null,
      extensions: [{ oid: '2.5.29.15', critical: true, value: nullValue() }],
    })
    const crls = [ofTop, crl(odd, [])]
    const intermediates = [issuing, odd].map(each => each.certificate)
    expect(resultOf([top, issuing, agent], { intermediates, revocation: { crls } })).toBe('revocation_unknown')
  })

  it('are verified within the budget', () => {
    const many = Array.from({ length: 40 }, () => ca('issuing', top, { signedBy: createTestKey('P-256') }))
    const intermediates = [issuing, ...many].map(each => each.certificate)
    const unsigned = crl(issuing, [], { signedBy: createTestKey('P-256') })
    expect(resultOf([top, issuing, agent], { intermediates, revocation: { crls: [ofTop, unsigned] } })).toBe(
      'budget_exceeded',
    )
    const large = { ...usualBudget, signatures: 100 }
    expect(
      resultOf([top, issuing, agent], { intermediates, revocation: { crls: [ofTop, unsigned] }, budget: large }),
    ).toBe('revocation_unknown')
  })
})
