import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { textOf } from './documents.ts'

/** A file, and titles of tests in it. */
const named = /`(test\/[^`]+)` ((?:“[^”]+”(?:, )?)+)/g

test('every attack names the tests that try it, and each of them is there', () => {
  const [, section = ''] = textOf('SECURITY.md').split('\n## Attacks, and the tests that try them\n')
  const rows = section
    .split('\n## ')[0]!
    .split('\n')
    .filter(line => line.startsWith('| ') && !line.startsWith('| attack '))
  expect(rows.length).toBeGreaterThan(30)
  for (const row of rows) {
    const cells = row.slice(2, -2).split(' | ')
    expect(cells, row).toHaveLength(4)
    const proofs = [...(cells[3] as string).matchAll(named)]
    expect(proofs, cells[0]).not.toEqual([])
    for (const [, file = '', titles = ''] of proofs) {
      expect(existsSync(join(root, file)), file).toBe(true)
      const text = readFileSync(join(root, file), 'utf8')
      for (const [, title = ''] of titles.matchAll(/“([^”]+)”/g))
        expect(text.includes(`'${title}'`), `${file}: ${title}`).toBe(true)
    }
  }
})

test('the files of source that hold, by their names, are there', () => {
  const [, section = ''] = textOf('SECURITY.md').split('\n## Attacks, and the tests that try them\n')
  const files = [...section.split('\n## ')[0]!.matchAll(/`([a-z0-9-]+(?:\/[a-z0-9-]+)*(?:\.ts|\/))`/g)].map(
    ([, file]) => file,
  )
  expect(files.length).toBeGreaterThan(20)
  for (const file of files)
    expect(existsSync(join(root, file!.startsWith('test/') ? file! : `src/${file}`)), file).toBe(true)
})
