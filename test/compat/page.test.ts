// docs/compatibility.md against the suite, and how it is made.
import { describe, expect, it } from 'vitest'
import { blocksOf, blockWith, textOf } from '../setup/documents.ts'
import { declaredChecks } from './declared.ts'
import { type CheckResult, keyOf, mergeResults, pageFile, parsePage, renderPage } from './page.ts'

const row = (check: string, more: Partial<CheckResult> = {}): CheckResult => ({
  subject: 'nginx',
  version: '1.22.1',
  from: 'Debian: nginx',
  check,
  result: 'passed',
  ...more,
})

describe('docs/compatibility.md', () => {
  it('has every check of the suite and no other; npm run test:compat -- --write mends it', { timeout: 180_000 }, () => {
    const page = parsePage(textOf(pageFile)).map(keyOf)
    expect(page.toSorted()).toEqual([...new Set(declaredChecks().map(keyOf))].toSorted())
  })

  it('has none that failed or never ran', () => {
    const open = parsePage(textOf(pageFile)).filter(({ result }) => result !== 'passed' && result !== 'skipped')
    expect(open.map(keyOf)).toEqual([])
  })
})

describe('the page', () => {
  it('is read back as it was made', () => {
    const results = [row('accepts `a | b`'), row('refuses', { subject: 'OpenSSL', version: '', result: 'skipped' })]
    expect(parsePage(renderPage(results))).toEqual(results)
  })

  it('takes what ran now, keeps what did not, and drops what the suite has no more', () => {
    const declared = [
      row('one', { result: 'not run' }),
      row('two', { result: 'not run' }),
      row('three', { result: 'not run' }),
    ]
    const before = [row('one', { version: '1.18' }), row('two', { version: '1.18' }), row('gone')]
    expect(mergeResults(declared, [row('one'), row('two', { result: 'not run' })], before)).toEqual([
      row('one'),
      row('two', { version: '1.18' }),
      row('three', { result: 'not run' }),
    ])
  })
})

describe('the lines of README.md', () => {
  it.each([
    ['nginx', 'nginx-lists', 'ssl_crl'],
    ['python', 'python', 'ssl.'],
    ['go', 'go', 'tls.'],
    ['java', 'java', 'PKIX'],
    ['rust', 'rust', 'WebPkiClientVerifier'],
  ])(
    'of %s are under ten, and each is one of docs/integrations/%s.md, which the suite runs',
    (language, page, words) => {
      const linesOf = (text: string) =>
        text
          .split('\n')
          .map(line => line.trim())
          .filter(Boolean)
      const lines = linesOf(blockWith('README.md', language, words).text)
      expect(lines.length).toBeLessThan(10)
      const all = blocksOf(`docs/integrations/${page}.md`).flatMap(block =>
        block.language === language ? linesOf(block.text) : [],
      )
      for (const line of lines) expect(all).toContain(line)
    },
  )
})
