// The input of a ceremony: short files get safe defaults, and whatever is wrong is told at once, with its path.
import { describe, expect, test } from 'vitest'
import { type CeremonyKind, parseCeremony } from '../../src/schema/ceremony.ts'
import type { SchemaError } from '../../src/schema/errors.ts'

const day = 86_400
const root = 'ceremony: root\nname: root-1\nsubject: { commonName: Root }\n'
const issuing = 'ceremony: issuing\nname: issuing-1\nissuer: { name: root-1 }\nsubject: { commonName: Issuing }\n'
const crl = 'ceremony: crl\nissuer: { name: root-1 }\n'

const faultsOf = (kind: CeremonyKind, text: string): readonly string[] => {
  try {
    parseCeremony(kind, text, 'input.yaml')
  } catch (error) {
    return (error as SchemaError).faults.map(({ path, problem }) => `${path}: ${problem}`)
  }
  throw new Error('expected a fault')
}

describe('defaults', () => {
  test('a root is P-384, ten years, without limit below, its key labelled by its name', () => {
    expect(parseCeremony('root', root, 'r')).toEqual({
      ceremony: 'root',
      name: 'root-1',
      subject: [['CN', 'Root']],
      key: { label: 'root-1', algorithm: 'P-384' },
      lifetime: 3650 * day,
      pathLength: null,
    })
  })

  test('an issuing CA is P-256, one year, path length 0', () => {
    expect(parseCeremony('issuing', issuing, 'i')).toEqual({
      ceremony: 'issuing',
      name: 'issuing-1',
      subject: [['CN', 'Issuing']],
      key: { label: 'issuing-1', algorithm: 'P-256' },
      issuer: { name: 'root-1', keyLabel: 'root-1' },
      lifetime: 365 * day,
      pathLength: 0,
      alsoGenerate: [],
    })
  })

  test('a CRL lives 400 days and is empty', () => {
    expect(parseCeremony('crl', crl, 'c')).toMatchObject({ lifetime: 400 * day, revoked: [] })
  })
})

describe('values', () => {
  test('the subject is put into one order, most significant first, whatever the order in the file', () => {
    const text = root.replace('{ commonName: Root }', '{ commonName: Root, organization: Example, country: DE }')
    expect(parseCeremony('root', text, 'r').subject).toEqual([
      ['C', 'DE'],
      ['O', 'Example'],
      ['CN', 'Root'],
    ])
  })

  test('name constraints become general names', () => {
    const text = `${root}nameConstraints: { permitted: { dns: [example.org], uri: [.example.org] } }`
    expect(parseCeremony('root', text, 'r').nameConstraints).toEqual([
      { kind: 'dns', value: 'example.org' },
      { kind: 'uri', value: '.example.org' },
    ])
  })

  test('serials are made canonical', () => {
    const text = `${crl}revoked: [{ serial: "0A:0B", at: 2027-01-01T00:00:00Z, reason: superseded }]`
    expect(parseCeremony('crl', text, 'c').revoked).toEqual([
      { serial: '0a0b', at: Date.UTC(2027, 0, 1), reason: 'superseded' },
    ])
  })
})

describe('faults', () => {
  test('are all told at once', () => {
    const text = `
ceremony: root
name: Root_1
subject: { organization: "${'x'.repeat(65)}", country: de }
key: { label: "a b", algorithm: RSA }
lifetime: 100000d
pathLength: -1
trustDomain: Not A Domain
surprise: 1
`
    const paths = faultsOf('root', text).map(fault => fault.split(':')[0])
    expect(paths.toSorted()).toEqual([
      'key.algorithm',
      'key.label',
      'lifetime',
      'name',
      'pathLength',
      'subject.commonName',
      'subject.country',
      'subject.organization',
      'surprise',
      'trustDomain',
    ])
  })

  test.each<readonly [string, CeremonyKind, string, RegExp]>([
    ['the input of another ceremony', 'root', issuing, /expected root/],
    [
      'a status URL with a path',
      'issuing',
      `${issuing}statusUrl: http://ca.example.org/x`,
      /statusUrl: .*without a path/,
    ],
    ['an https status URL, which would need itself', 'issuing', `${issuing}statusUrl: https://ca.example.org`, /http/],
    ['a label twice', 'issuing', `${issuing}alsoGenerate: [ocsp-1, ocsp-1]`, /alsoGenerate.1: ocsp-1 is listed twice/],
    ['the CA’s own label again', 'issuing', `${issuing}alsoGenerate: [issuing-1]`, /already the CA's own/],
    ['an issuer that is itself', 'issuing', issuing.replace('root-1', 'issuing-1'), /another CA/],
    ['name constraints without a name', 'root', `${root}nameConstraints: { permitted: {} }`, /at least one/],
    [
      'a serial that YAML reads as a number',
      'crl',
      `${crl}revoked: [{ serial: 12, at: 2027-01-01T00:00:00Z, reason: superseded }]`,
      /in quotes/,
    ],
    [
      'a serial twice',
      'crl',
      `${crl}revoked: [{ serial: "0a", at: 2027-01-01T00:00:00Z, reason: superseded }, { serial: "0A", at: 2027-01-01T00:00:00Z, reason: superseded }]`,
      /0a is listed twice/,
    ],
    [
      'a hold, which no CA has',
      'crl',
      `${crl}revoked: [{ serial: "0a", at: 2027-01-01T00:00:00Z, reason: certificateHold }]`,
      /reason/,
    ],
    ['a CRL of ten years', 'crl', `${crl}lifetime: 3650d`, /1d to 400d/],
    ['a time without a zone', 'root', `${root}notBefore: 2027-01-01`, /notBefore: expected a time/],
  ])('%s', (_, kind, text, fault) => {
    expect(faultsOf(kind, text).join('\n')).toMatch(fault)
  })
})
