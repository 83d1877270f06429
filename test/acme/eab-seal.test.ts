// MAC keys at rest.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSealer } from '../../src/acme/eab-seal.ts'
import type { AcmeError } from '../../src/acme/errors.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-seal-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const secret = new Uint8Array(32).fill(7)
const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    return (error as AcmeError).code
  }
  return 'none'
}

describe('a sealed MAC key', () => {
  it('opens under its own kid only, and only with the key it was sealed with', () => {
    const file = join(directory, 'acme.key')
    const sealed = createSealer(file).seal('one', secret)
    expect(createSealer(file).open('one', sealed)).toEqual(secret)
    expect(codeOf(() => createSealer(file).open('two', sealed))).toBe('unauthorized')
    const other = join(directory, 'other.key')
    createSealer(other).seal('one', secret)
    expect(codeOf(() => createSealer(other).open('one', sealed))).toBe('unauthorized')
    rmSync(file)
    expect(codeOf(() => createSealer(file).open('one', sealed))).toBe('unauthorized')
  })

  it('does not open with any of its bits changed', () => {
    const sealer = createSealer(join(directory, 'acme.key'))
    const sealed = sealer.seal('one', secret)
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = sealed.slice()
      changed[bit >> 3]! ^= 1 << (bit & 7)
      expect(
        codeOf(() => sealer.open('one', changed)),
        `bit ${bit}`,
      ).toBe('unauthorized')
    }
  })

  it('is sealed also beside what an attempt of the same process left behind', () => {
    const file = join(directory, 'acme.key')
    const leftover = `acme.key.${process.pid}.new`
    writeFileSync(join(directory, leftover), '')
    const sealed = createSealer(file).seal('one', secret)
    expect(createSealer(file).open('one', sealed)).toEqual(secret)
    expect(readdirSync(directory).sort()).toEqual(['acme.key', leftover])
  })

  it('is sealed by a file that only its user reads, made once', () => {
    const file = join(directory, 'acme.key')
    createSealer(file).seal('one', secret)
    const made = readFileSync(file)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    createSealer(file).seal('two', secret)
    expect(readFileSync(file)).toEqual(made)
  })
})
