// No text from outside costs more than its length: every regular expression in src is found and analysed, and those that are put
// together at run time are few and named. A refusal here names the attack that the analysis found.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { analyse } from 'scslre'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { type Expression, expressionsIn } from './expressions-in.ts'

const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter(name =>
  name.endsWith('.ts'),
)
const found = sources.flatMap(file =>
  expressionsIn(readFileSync(join(root, 'src', file), 'utf8')).map(each => ({ file, ...each })),
)

/** @returns what the analysis found, empty for one that is linear */
const attacksOn = ({ source, flags }: Expression): readonly string[] =>
  analyse(new RegExp(source, flags)).reports.map(
    ({ type, exponential }) => `${exponential ? 'exponential' : 'polynomial'} ${type}`,
  )

test('the reader finds what is one, and nothing else', () => {
  const text = [
    "const a = /x/gi.test('/no/') // /neither/",
    '/* /nor/ */ const b = 4 / 2 / 1',
    `const c = \`/no/ \${d.replace(/[/"]\\/y/, '') + \`\${/z/u}\`} /no/\``,
    'return /last/.exec(`a`) ?? /really/',
  ].join('\n')
  expect(expressionsIn(text).map(({ source, flags }) => `${source} ${flags}`)).toEqual([
    'x gi',
    '[/"]\\/y ',
    'z u',
    'last ',
    'really ',
  ])
})

test('the analysis sees what costs more than its length', () => {
  for (const source of ['^(a+)+$', '^a*a*$', 'a+b', '\\s+$'])
    expect(attacksOn({ line: 0, source, flags: '' }), source).not.toEqual([])
  for (const source of ['^a+$', '^[a-z]+-[0-9]+$'])
    expect(attacksOn({ line: 0, source, flags: '' }), source).toEqual([])
})

/** Quadratic ones, and what keeps the text short. */
const bounded: Readonly<Record<string, string>> = {
  'agent/ca-call.ts: /\\/+$/': 'the URL of its CA, from its own configuration',
  'enrol/fetch-keys.ts: /\\/+$/': 'the URL of an issuer, from the configuration',
  'signer/token.ts: /[\\s\\0]+$/': 'fields of 32 octets that the token fills',
  'acme/validation/http-01.ts: /[\\t\\n\\r ]+$/': 'an answer of at most 1,024 bytes',
}

test('every regular expression in src is linear, or asked about what is short', () => {
  expect(found.length).toBeGreaterThan(200)
  const attacked = found.filter(each => attacksOn(each).length > 0)
  const named = attacked.map(each => `${each.file}: /${each.source}/${each.flags}`)
  expect(named.toSorted()).toEqual(Object.keys(bounded).toSorted())
  for (const each of attacked) expect(attacksOn(each).join()).not.toContain('exponential')
})

/** What goes into them: nothing that the sender of a text chose. */
const putTogether: Readonly<Record<string, string>> = {
  'schema/ceremony.ts': 'one expression of the same file, with a beginning',
  'ca/outside.ts': 'the origin of the log, which follows from the CA’s own id; no quantifier',
  'agent/daemon/memory-directory.ts': 'a prefix of the same file',
}

test('expressions that are put together at run time are those that are known', () => {
  const files = sources.filter(file => /\bRegExp\(/.test(readFileSync(join(root, 'src', file), 'utf8')))
  expect(files.toSorted()).toEqual(Object.keys(putTogether).toSorted())
})
