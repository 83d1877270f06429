// What is called: forms that two programs could read differently are refused, and rules by path cannot be got round by another spelling.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseCallTarget } from '../../../src/verifier/sidecar/call-target.ts'
import { oneHeader } from '../../../src/verifier/sidecar/request-headers.ts'
import { parseRequirement, parseRequirementFile, scopesDemanded } from '../../../src/verifier/sidecar/requirements.ts'

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return 'accepted'
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('a request target', () => {
  it.each([
    '/a%2fb',
    '/a%2Fb',
    '/a%5cb',
    '/a\\b',
    '/a/../b',
    '/a/..',
    '/a/./b',
    '/%2e%2e/b',
    '/.%2E/b',
    '//a',
    '/a//b',
    '/a%252fb',
    '/a;b=c/d',
    '/a%3bb',
    '/a%3fb',
    '/a%23b',
    '/a%00',
    '/a%0d%0ab',
    '/a%',
    '/a%4',
    '/a%zz',
    '/%c0%ae%c0%ae/b',
    '/%ff',
    '/a b',
    '/ä',
    '/a#b',
    'http://a/b',
    '*',
    '',
    `/${'a'.repeat(8192)}`,
  ])('is refused where its path can be read in two ways: %s', uri => {
    expect(codeOf(() => parseCallTarget('GET', uri))).toBe('path_ambiguous')
  })

  it.each([
    ['/', '/'],
    ['/a/b.html', '/a/b.html'],
    ['/a/?x=/../y//z%2f;', '/a/'],
    ['/%6frders/%7E', '/orders/~'],
    ['/a%20b/%c3%a4', '/a%20b/%C3%A4'],
    ['/a..b/...', '/a..b/...'],
    ['/v1/things:read', '/v1/things:read'],
  ])('is taken where everybody reads it alike: %s', (uri, path) => {
    expect(parseCallTarget('GET', uri)).toEqual({ method: 'GET', uri, path })
  })

  it('has a method in capital letters', () => {
    expect(codeOf(() => parseCallTarget('get', '/'))).toBe('method_malformed')
    expect(codeOf(() => parseCallTarget('GET /x', '/'))).toBe('method_malformed')
    expect(parseCallTarget('M-SEARCH', '/').method).toBe('M-SEARCH')
  })
})

describe('a header that must be there once', () => {
  it('is found in any case, and empty is none', () => {
    expect(oneHeader(['x-original-uri', '/a', 'Host', 'b'], 'X-Original-URI')).toBe('/a')
    expect(oneHeader(['X-Original-URI', ''], 'X-Original-URI')).toBeNull()
    expect(oneHeader([], 'X-Original-URI')).toBeNull()
  })

  it.each([[['X-Original-URI', '/a', 'x-original-uri', '/a']], [['X_Original_URI', '/a']], [['x.original-uri', '/a']]])(
    'is refused twice and under another spelling: %s',
    headers => {
      expect(codeOf(() => oneHeader(headers, 'X-Original-URI'))).toBe('header_ambiguous')
    },
  )
})

const rules = ['GET /orders=orders:read', '* /admin=admin', 'POST /orders=orders:write', '* /orders/secret=secret']
const demanded = (method: string, uri: string): readonly string[] =>
  scopesDemanded(rules.map(parseRequirement), 'allow', parseCallTarget(method, uri))

describe('rules by method and path', () => {
  it('hold for whole segments and everything below them, all that fit together', () => {
    expect(demanded('GET', '/orders')).toEqual(['orders:read'])
    expect(demanded('GET', '/orders/7?x=1')).toEqual(['orders:read'])
    expect(demanded('HEAD', '/orders/7')).toEqual(['orders:read'])
    expect(demanded('POST', '/orders/')).toEqual(['orders:write'])
    expect(demanded('GET', '/orders/secret/1')).toEqual(['orders:read', 'secret'])
    expect(demanded('PUT', '/admin')).toEqual(['admin'])
    expect(demanded('GET', '/orders-old')).toEqual([])
    expect(demanded('GET', '/')).toEqual([])
  })

  it('hold in either case and with a suffix, as backends read a path', () => {
    for (const uri of ['/oRders/7', '/ORDERS', '/orders.json', '/orders.JSON?x', '/%4frders'])
      expect(demanded('GET', uri), uri).toEqual(['orders:read'])
    const umlaut = [parseRequirement('* /%C3%A4mter=offices')]
    for (const uri of ['/%C3%84MTER', '/%c3%a4mter/1'])
      expect(scopesDemanded(umlaut, 'allow', parseCallTarget('GET', uri)), uri).toEqual(['offices'])
    const capital = [parseRequirement('* /Orders=orders')]
    expect(scopesDemanded(capital, 'allow', parseCallTarget('GET', '/orders'))).toEqual(['orders'])
  })

  it('refuse what none of them is for, where that is wanted', () => {
    const known = ['* /health=*', 'GET /orders=orders:read'].map(parseRequirement)
    const of = (method: string, uri: string) => scopesDemanded(known, 'refuse', parseCallTarget(method, uri))
    expect([of('GET', '/health'), of('GET', '/orders')]).toEqual([[], ['orders:read']])
    for (const [method, uri] of [
      ['POST', '/orders'],
      ['GET', '/'],
    ] as const)
      expect(codeOf(() => of(method, uri))).toBe('rule_missing')
  })

  it('are not got round by any encoding of a letter', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.boolean()), { minLength: 5, maxLength: 5 }), choices => {
        const spelling = [...'admin'].map((letter, at) => {
          const hex = letter.charCodeAt(0).toString(16)
          const [encode, upper] = choices[at] as [boolean, boolean]
          return encode ? `%${upper ? hex.toUpperCase() : hex}` : letter
        })
        expect(demanded('GET', `/${spelling.join('')}/x`)).toEqual(['admin'])
      }),
    )
  })

  it('never lose a demand by anything put into a path that is taken at all', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'/.%2fFeE5c;\\a#?'), maxLength: 12 }), junk => {
        const uri = `/admin/${junk}`
        try {
          expect(demanded('GET', uri)).toEqual(['admin'])
        } catch (error) {
          expect((error as { code?: string }).code).toBe('path_ambiguous')
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('are told with their lines where they have another form', () => {
    const text = '# orders\nGET /orders=orders:read\n\nget /x=y\n* /a//b=c # twice\n'
    expect(() => parseRequirementFile(text, 'rules')).toThrow(/rules:4: .*rules:5: .*empty segment/s)
    expect(parseRequirementFile('* /a/=b:c # why\n', 'rules')).toEqual([{ method: '*', path: '/a', scope: 'b:c' }])
    for (const rule of ['GET orders=x', '/orders=x', 'GET /orders', 'GET /orders=', 'GET /orders=a b'])
      expect(
        codeOf(() => parseRequirement(rule)),
        rule,
      ).toBe('usage')
  })
})
