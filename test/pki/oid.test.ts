import { expect, it } from 'vitest'
import { DerReader, oid } from '../../src/pki/der.ts'
import { oidName, oidOf } from '../../src/pki/oid.ts'

it('no identifier is there under two names', () => {
  expect(new Set(Object.values(oidOf)).size).toBe(Object.keys(oidOf).length)
})

it('every identifier survives DER, and its arcs fit in 28 bits, beyond which Go refuses a whole certificate', () => {
  for (const dotted of Object.values(oidOf)) {
    expect(new DerReader(oid(dotted)).readOid()).toBe(dotted)
    for (const arc of dotted.split('.')) expect(Number(arc)).toBeLessThan(2 ** 28)
  }
})

it('names are those of the table, and an unknown identifier stays as it is', () => {
  expect(oidName('2.5.29.17')).toBe('subjectAltName')
  expect(oidName('1.2.3')).toBe('1.2.3')
})
