// What may go to a terminal.
import { expect, it } from 'vitest'
import { printable } from '../../src/base/printable.ts'

it('writes out what would drive a terminal or turn its text, and leaves the rest', () => {
  expect(printable('Ünïcode – ok')).toBe('Ünïcode – ok')
  expect(printable('\u001b[2J\n\u009b\u061c\u202e')).toBe('\\x1b[2J\\x0a\\x9b\\u61c\\u202e')
})
