// The table that lists are written from, held against the general writer of pki: whatever came in whatever order, the same bytes.
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  createCrlTable,
  type EntryPage,
  notListed,
  reasonCode,
  serialOctets,
  type UnsignedList,
} from '../../src/ca/crl-table.ts'
import { type CrlFields, encodeTbsCertList, type RevocationReason } from '../../src/pki/crl.ts'
import { allOctets, lastOctetOf, octetsOf } from '../../src/pki/crl-shards.ts'

interface Row {
  readonly serial: Uint8Array
  readonly revokedAt: number
  readonly notAfter: number
  readonly reason: RevocationReason | null
}

const now = Date.UTC(2026, 10, 24, 12)
const day = 86_400_000
const fields: CrlFields = {
  issuerName: Uint8Array.of(0x30, 0),
  signatureAlgorithm: 'ecdsa-with-SHA256',
  authorityKeyId: new Uint8Array(20).fill(7),
  crlNumber: 5n,
  thisUpdate: now,
  nextUpdate: now + day,
}

const pageOf = (rows: readonly Row[]): EntryPage => {
  const page = {
    rows: rows.length,
    serials: new Uint8Array(rows.length * serialOctets),
    revokedAt: Float64Array.from(rows, row => row.revokedAt),
    notAfter: Float64Array.from(rows, row => row.notAfter),
    reasons: Uint8Array.from(rows, row => (row.reason === null ? notListed : reasonCode(row.reason))),
  }
  for (const [i, { serial }] of rows.entries()) page.serials.set(serial, (i + 1) * serialOctets - serial.length)
  return page
}
const tbsOf = ({ buffer, from, to }: UnsignedList): Uint8Array => buffer.slice(from, to)

/** The general writer, given the last row of each serial. */
const expected = (rows: readonly Row[], since = now - day, octets = allOctets): Uint8Array => {
  const last = new Map(rows.map(row => [Buffer.from(row.serial).toString('hex'), row]))
  return encodeTbsCertList({
    ...fields,
    entries: [...last.values()].flatMap(({ serial, revokedAt, notAfter, reason }) =>
      reason === null || notAfter <= since || lastOctetOf(serial) < octets.from || lastOctetOf(serial) > octets.to
        ? []
        : [{ serial, revokedAt, reason }],
    ),
  })
}

const reasons: readonly RevocationReason[] = ['unspecified', 'keyCompromise', 'certificateHold', 'privilegeWithdrawn']
const pick = <T>(values: readonly T[]): T => values[randomBytes(1)[0]! % values.length]!
const randomSerial = (): Uint8Array => {
  const bytes = randomBytes(1 + (randomBytes(1)[0]! % 20))
  bytes[0]! ||= 1
  return bytes
}
const randomRow = (): Row => ({
  serial: randomSerial(),
  // Over the end of UTCTime too (RFC 5280 §4.1.2.5).
  revokedAt: pick([now, now - 12_345, now - 400 * day, Date.UTC(2049, 11, 31, 23, 59, 59), Date.UTC(2050, 0, 1)]),
  notAfter: now + day,
  reason: pick(reasons),
})

const listOf = (pages: readonly (readonly Row[])[], since = now - day, octets = allOctets) => {
  const table = createCrlTable()
  for (const page of pages) table.apply(pageOf(page))
  return table.write({ fields, since, octets })
}

describe('a list from the table', () => {
  it('is what the general writer makes, in whatever order the rows come', () => {
    for (let round = 0; round < 40; round++) {
      const rows = Array.from({ length: round * 7 }, randomRow)
      const cut = Math.floor(rows.length / 3)
      const list = listOf([rows.slice(0, cut), rows.slice(cut, 2 * cut), rows.slice(2 * cut)])
      expect(Buffer.from(tbsOf(list))).toEqual(Buffer.from(expected(rows)))
    }
  })

  it('is the same when rows arrive between lists as when all were there', () => {
    const rows = Array.from({ length: 300 }, randomRow)
    const table = createCrlTable()
    for (let at = 0; at < rows.length; at += 50) {
      table.apply(pageOf(rows.slice(at, at + 50)))
      const list = table.write({ fields, since: now - day, octets: allOctets })
      expect(Buffer.from(tbsOf(list))).toEqual(Buffer.from(expected(rows.slice(0, at + 50))))
    }
  })

  it('shows the last row of a serial: another reason, and none after a release', () => {
    const row = randomRow()
    const other = { ...row, reason: 'superseded' as const }
    const table = createCrlTable()
    for (const next of [row, { ...row, reason: null }, other, row, other]) {
      table.apply(pageOf([next]))
      const list = table.write({ fields, since: now - day, octets: allOctets })
      expect(Buffer.from(tbsOf(list))).toEqual(Buffer.from(expected([next])))
    }
  })

  it('leaves out whose certificate ended by then, to the second', () => {
    const ends = [-1000, 0, 1000].map(offset => ({ ...randomRow(), notAfter: now + offset }))
    expect(listOf([ends], now).entries).toBe(1)
    expect(listOf([ends], now - 1).entries).toBe(2)
    expect(Buffer.from(tbsOf(listOf([ends], now)))).toEqual(Buffer.from(expected(ends, now)))
  })

  it('is the same when rows that no list needs any more have gone', () => {
    const table = createCrlTable()
    const all: Row[] = []
    for (let today = now; today < now + 20 * day; today += day) {
      const [first, ...others] = Array.from({ length: 30 }, () => ({ ...randomRow(), notAfter: today + day / 2 }))
      const page = [first!, ...others, { ...first!, reason: null }]
      all.push(...page)
      table.apply(pageOf(page))
      for (const octets of [allOctets, octetsOf({ number: 2, of: 2 })]) {
        const list = table.write({ fields, since: today - day, octets, endedBefore: today - 2 * day })
        expect(Buffer.from(tbsOf(list))).toEqual(Buffer.from(expected(all, today - day, octets)))
      }
    }
    expect(table.size).toBeLessThan(150)
  })

  it('of a shard has the serials of its octets alone', () => {
    const rows = Array.from({ length: 400 }, randomRow)
    for (const number of [1, 3, 8]) {
      const octets = octetsOf({ number, of: 8 })
      const list = listOf([rows], now - day, octets)
      expect(Buffer.from(tbsOf(list))).toEqual(Buffer.from(expected(rows, now - day, octets)))
    }
  })
})
