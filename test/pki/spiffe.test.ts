import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  agentSpiffeId,
  operatorSpiffeId,
  parseSpiffeId,
  parseTrustDomain,
  pathOf,
  principalOf,
  serviceSpiffeId,
  trustDomainOf,
} from '../../src/pki/spiffe.ts'
import { codeOf } from './refusal.ts'

const domain = parseTrustDomain('example.org')

describe('SPIFFE IDs (SPIFFE-ID §2; cases of go-spiffe)', () => {
  it.each([
    'spiffe://trustdomain',
    'spiffe://trustdomain/path',
    'spiffe://trustdomain/.path',
    'spiffe://trustdomain/..path',
    'spiffe://trustdomain/...',
    'spiffe://10.0.0.1/a/B_c-d.e',
  ])('%s is one', text => {
    expect(parseSpiffeId(text)).toBe(text)
  })

  it.each([
    '',
    's',
    'spiffe:/',
    'Spiffe://trustdomain',
    'spiffe://',
    'spiffe:///',
    'spiffe:///path',
    'spiffe://trustdomain/',
    'spiffe://trustdomain//',
    'spiffe://trustdomain//path',
    'spiffe://trustdomain/path/',
    'spiffe://trustdomain/.',
    'spiffe://trustdomain/./path',
    'spiffe://trustdomain/path/./other',
    'spiffe://trustdomain/path/..',
    'spiffe://trustdomain/..',
    'spiffe://trustdomain/../path',
    'spiffe://%62%61%64/path',
    'spiffe://trustdomain/%62%61%64',
    'spiffe://TrustDomain/a',
    'spiffe://user@trustdomain/a',
    'spiffe://trustdomain:80/a',
    'spiffe://trustdomain/a?b',
    'spiffe://trustdomain/a#b',
    'spiffe://trustdomain/a\n',
    'spiffe://[::1]/a',
    `spiffe://trustdomain/${'a'.repeat(2048)}`,
    `spiffe://${'a'.repeat(256)}/a`,
  ])('%j is none', text => {
    expect(codeOf(() => parseSpiffeId(text))).toBe('spiffe_id_malformed')
  })

  it('of code points 0 to 255 exactly the two sets of characters are legal', () => {
    for (let code = 0; code < 256; code++) {
      const character = String.fromCharCode(code)
      if (character === '/') continue
      const inDomain = codeOf(() => parseSpiffeId(`spiffe://trustdomain${character}/path`)) === 'accepted'
      const inPath = codeOf(() => parseSpiffeId(`spiffe://trustdomain/path${character}`)) === 'accepted'
      expect([character, inDomain, inPath]).toEqual([
        character,
        /[a-z0-9._-]/.test(character),
        /[A-Za-z0-9._-]/.test(character),
      ])
    }
  })

  it('split into trust domain and path', () => {
    const id = parseSpiffeId('spiffe://example.org/a/b')
    expect([trustDomainOf(id), pathOf(id)]).toEqual(['example.org', '/a/b'])
    expect(pathOf(parseSpiffeId('spiffe://example.org'))).toBe('')
  })

  it.each(['', 'A', 'a b', 'a/b', 'a:1', 'x'.repeat(256), 'a\n'])('%j is no trust domain', text => {
    expect(codeOf(() => parseTrustDomain(text))).toBe('trust_domain_malformed')
  })
})

describe('principals', () => {
  it('what is formatted is recognised again', () => {
    const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
    const instance = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/)
    fc.assert(
      fc.property(name, instance, (agent, i) => {
        expect(principalOf(agentSpiffeId(domain, agent, i))).toEqual({
          kind: 'agent',
          trustDomain: domain,
          agent,
          instance: i,
        })
        expect(principalOf(serviceSpiffeId(domain, agent))).toEqual({
          kind: 'service',
          trustDomain: domain,
          name: agent,
        })
        expect(principalOf(operatorSpiffeId(domain, agent))).toEqual({
          kind: 'operator',
          trustDomain: domain,
          name: agent,
        })
      }),
    )
  })

  it.each([
    '',
    '/agent/a',
    '/agent/a/i',
    '/agent/a/x/1',
    '/agent/A/i/1',
    '/agent/a/i/1/2',
    '/service',
    '/service/a/b',
    '/operator/a/i/1',
    '/robot/a',
    '/ns/x/sa/y',
  ])('path %j names none', path => {
    expect(principalOf(parseSpiffeId(`spiffe://example.org${path}`))).toBeNull()
  })

  it('no name or instance can smuggle another path', () => {
    expect(codeOf(() => agentSpiffeId(domain, 'a/i/1', '2'))).toBe('agent_name_malformed')
    for (const instance of ['', '..', 'a/b', 'a b', 'x'.repeat(65)])
      expect(codeOf(() => agentSpiffeId(domain, 'a', instance))).toBe('spiffe_id_malformed')
  })
})
