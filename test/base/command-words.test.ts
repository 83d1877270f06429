// Commands in options, as words.
import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { commandWords, shellWord } from '../../src/base/command-words.ts'

it.each([
  ['systemctl reload nginx', ['systemctl', 'reload', 'nginx']],
  [`a 'b c' "d e"f`, ['a', 'b c', 'd ef']],
  ['   ', null],
  [`''`, null],
  [`a 'b`, null],
])('%j is %j', (text, words) => expect(commandWords(text)).toEqual(words))

describe('a word for a shell', () => {
  it.each(['platform', 'Ada Lovelace', "it's $HOME; `id`", '', 'a"b\\c'])('%j is that word again', text => {
    expect(execFileSync('/bin/sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' })).toBe(text)
  })
  it('is left as it is where nothing has to be quoted', () =>
    expect(shellWord('spiffe://a/b-1')).toBe('spiffe://a/b-1'))
})
