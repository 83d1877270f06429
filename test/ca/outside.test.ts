// What lies outside the ledger and is not looked at is named: a revocation may be in it.
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lookOutside } from '../../src/ca/outside.ts'

let scratch: string
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'agentca-outside-'))
})
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const ignoredIn = (path: string) =>
  lookOutside([path], { caId: 'ca', logOrigin: 'ca/log', logKeySpki: new Uint8Array(), issuers: [] }).ignored

describe('what is not looked at', () => {
  it('is a file that is too large', () => {
    const file = join(scratch, 'large.crl')
    writeFileSync(file, '')
    truncateSync(file, 256 * 1_048_576 + 1)
    expect(ignoredIn(file)).toEqual([{ file, why: expect.stringMatching(/larger than/) }])
  })

  it('are files of which there are too many, and not those that are something else', () => {
    const directory = join(scratch, 'many')
    mkdirSync(directory)
    for (let n = 0; n < 10_002; n++) writeFileSync(join(directory, `${n}.crl`), '')
    for (let n = 0; n < 10; n++) writeFileSync(join(directory, `${n}.txt`), '')
    expect(ignoredIn(directory).map(({ why }) => why)).toEqual(Array(2).fill('one of more than 10000 files'))
  })
})
