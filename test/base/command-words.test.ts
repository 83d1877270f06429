// Commands in options, as words.
import { expect, it } from 'vitest'
import { commandWords } from '../../src/base/command-words.ts'

it.each([
  ['systemctl reload nginx', ['systemctl', 'reload', 'nginx']],
  [`a 'b c' "d e"f`, ['a', 'b c', 'd ef']],
  ['   ', null],
  [`''`, null],
  [`a 'b`, null],
])('%j is %j', (text, words) => expect(commandWords(text)).toEqual(words))
