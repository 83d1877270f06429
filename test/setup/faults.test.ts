import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { textOf } from './documents.ts'

test('every fault names the tests that make it', () => {
  const rows = textOf('docs/faults.md')
    .split('\n')
    .filter(line => line.startsWith('| ') && !line.startsWith('| fault '))
  expect(rows.length).toBeGreaterThan(20)
  for (const row of rows) {
    const [, fault, , , , proof = ''] = row.split(' | ').length === 5 ? ['', ...row.slice(2, -2).split(' | ')] : []
    const named = [...proof.matchAll(/`(test\/[^`]+)`/g)].map(([, file]) => file as string)
    expect(named, fault ?? row).not.toEqual([])
    for (const file of named) expect(existsSync(join(root, file)), file).toBe(true)
  }
})
