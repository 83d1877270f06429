// The signer's counters and marks when the disk cannot be written for a while.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { counterBlock, createCounters } from '../../src/signer/counters.ts'
import { createHighWater } from '../../src/signer/high-water.ts'

const createDisk = () => {
  const parent = mkdtempSync(join(tmpdir(), 'agentca-durable-'))
  const directory = join(parent, 'state')
  const away = join(parent, 'away')
  mkdirSync(directory)
  return {
    directory,
    fail: () => renameSync(directory, away),
    heal: () => renameSync(away, directory),
    [Symbol.dispose]: () => rmSync(parent, { recursive: true, force: true }),
  }
}

const leaves = (counters: ReturnType<typeof createCounters>) =>
  counters.counts().find(({ key, purpose }) => key === 'issuing-1' && purpose === 'leaf')

test('no signature is counted that was not reserved on disk, however often that failed before', () => {
  using disk = createDisk()
  const counters = createCounters(disk.directory)
  disk.fail()
  for (let i = 0; i < 3; i++) expect(() => counters.increment('issuing-1', 'leaf')).toThrow('ENOENT')
  expect(leaves(counters)).toMatchObject({ total: 0, reserved: 0 })
  disk.heal()
  for (let i = 0; i < 3; i++) counters.increment('issuing-1', 'leaf')
  // Killed here: the next process counts at least what was signed.
  expect(leaves(createCounters(disk.directory))).toMatchObject({ total: counterBlock })
})

test('a failed end leaves what is reserved, and so a count that is not too low', () => {
  using disk = createDisk()
  const counters = createCounters(disk.directory)
  counters.increment('issuing-1', 'leaf')
  disk.fail()
  expect(() => counters.close()).toThrow('ENOENT')
  expect(leaves(counters)).toMatchObject({ total: 1, reserved: counterBlock })
})

test('a mark that could not be written is written when it is set again', () => {
  using disk = createDisk()
  const marks = createHighWater(disk.directory)
  const mark = { size: 7, headBase64: 'x' }
  disk.fail()
  expect(() => marks.setCheckpoint('log', mark)).toThrow('ENOENT')
  expect(() => marks.setResponderName('key', '30')).toThrow('ENOENT')
  expect(() => marks.setCrlNumber('crl', 5n)).toThrow('ENOENT')
  expect([marks.checkpoint('log'), marks.responderName('key'), marks.crlNumber('crl')]).toEqual([null, null, null])
  disk.heal()
  expect(existsSync(join(disk.directory, 'high-water.json'))).toBe(false)
  marks.setCheckpoint('log', mark)
  marks.setResponderName('key', '30')
  marks.setCrlNumber('crl', 5n)
  const next = createHighWater(disk.directory)
  expect([next.checkpoint('log'), next.responderName('key'), next.crlNumber('crl')]).toEqual([mark, '30', 5n])
})
