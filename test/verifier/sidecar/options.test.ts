// Command lines of agentca-verify: what they mean, and every fault with its cure before anything is opened.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkSpec } from '../../../src/verifier/sidecar/check.ts'
import { helpOf, parseOptions } from '../../../src/verifier/sidecar/options.ts'
import { readServeSettings, serveSpec } from '../../../src/verifier/sidecar/serve-options.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-options-'))
  writeFileSync(join(directory, 'rules'), 'GET /a=b\n')
  writeFileSync(join(directory, 'bad-rules'), 'GET /a=b\nrubbish\n')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const settingsOf = (...argv: readonly string[]) =>
  readServeSettings(parseOptions('serve', serveSpec, argv), directory, read => {
    const value = read()
    return () => value
  })
const unix = ['--listen', 'unix:/run/x.sock', '--proxy', 'nginx', '--state', 'state']
const tcp = ['--listen', '[::1]:9191', '--proxy', 'envoy', '--state', 's', '--accept-proxy', 'spiffe://a/service/edge']

describe('agentca-verify serve', () => {
  it('decides for a proxy over a unix socket, by the usual names of that proxy', () => {
    expect(settingsOf(...unix).calls).toMatchObject({
      listen: { path: '/run/x.sock' },
      socketMode: 0o600,
      serving: {
        mode: 'forward-auth',
        proxies: null,
        by: {
          format: 'nginx',
          certificateHeader: 'Agentca-Client-Certificate',
          callHeaders: { method: 'X-Original-Method', uri: 'X-Original-URI' },
        },
      },
      kinds: ['agent'],
      assertionSeconds: 10,
      onStale: 'refuse',
      maxStaleness: '5m',
      stateDirectory: join(directory, 'state'),
    })
  })

  it('takes the call from the request itself for Envoy, and names that it is given', () => {
    expect(settingsOf(...tcp).calls?.serving).toMatchObject({
      proxies: ['spiffe://a/service/edge'],
      by: { certificateHeader: 'X-Forwarded-Client-Cert', callHeaders: null },
    })
    const own = ['--certificate-header', 'X-C', '--method-header', 'X-M', '--uri-header', 'X-U']
    expect(settingsOf(...tcp, ...own).calls?.serving).toMatchObject({
      by: { certificateHeader: 'X-C', callHeaders: { method: 'X-M', uri: 'X-U' } },
    })
  })

  it('puts rules of the command line and of a file together', () => {
    const { calls } = settingsOf(...unix, '--require', '* /=use', '--require', 'POST /x=y', '--require-file', 'rules')
    expect(calls?.requirements().map(({ scope }) => scope)).toEqual(['use', 'y', 'b'])
  })

  it('lets calls that no rule is for through unless told to refuse them', () => {
    expect(settingsOf(...unix).calls?.otherwise).toBe('allow')
    expect(settingsOf(...unix, '--otherwise', 'refuse').calls?.otherwise).toBe('refuse')
  })

  it('keeps lists alone', () => {
    const { calls, lists } = settingsOf('--crl-file', 'crls.pem', '--on-change', 'sh -c \'a b\' "c d"')
    expect([calls, lists]).toEqual([null, { file: join(directory, 'crls.pem'), onChange: ['sh', '-c', 'a b', 'c d'] }])
  })

  it.each<[string, readonly string[], RegExp]>([
    ['nothing to do', [], /nothing to do/],
    ['no form of the certificate', ['--listen', 'unix:/x.sock', '--state', 's'], /--proxy is missing/],
    ['an unknown form', [...unix.slice(0, 2), '--proxy', 'apache'], /expected nginx, haproxy, caddy/],
    ['no state', unix.slice(0, 4), /--state is missing/],
    ['TCP for any proxy', ['--listen', '127.0.0.1:1', '--proxy', 'nginx', '--state', 's'], /--accept-proxy is missing/],
    ['named proxies on a unix socket', [...unix, '--accept-proxy', 'spiffe://a/service/b'], /mode says who may ask/],
    ['a proxy that is no SPIFFE ID', [...tcp, '--accept-proxy', 'edge'], /--accept-proxy/],
    ['a relative socket', ['--listen', 'unix:x.sock', '--proxy', 'nginx', '--state', 's'], /absolute path/],
    ['a port that is none', ['--listen', '127.0.0.1:70000', ...unix.slice(2)], /HOST:PORT/],
    ['half of a pair of headers', [...unix, '--method-header', 'X-M'], /go together/],
    ['a header name that has two spellings', [...unix, '--certificate-header', 'X_C'], /letters, digits and -/],
    ['an upstream for forward-auth', [...unix, '--upstream', '127.0.0.1:1'], /--upstream is for/],
    [
      'an upstream elsewhere',
      ['--mode', 'http', ...tcp.slice(0, 2), '--upstream', '10.0.0.1:80'],
      /not on this machine/,
    ],
    ['an assertion that lives long', [...unix, '--assertion-seconds', '31'], /1 to 30/],
    ['a bound that is no duration', [...unix, '--max-staleness', '5x'], /--max-staleness: expected a duration/],
    ['a socket for others by mistake', [...unix, '--socket-mode', 'rw'], /0660/],
    ['a rule of another form', [...unix, '--require', 'orders:read'], /METHOD PATH-PREFIX=SCOPE/],
    ['a faulty file of rules', [...unix, '--require-file', 'bad-rules'], /bad-rules:2/],
    ['a file that is not there', [...unix, '--require-file', 'nowhere'], /cannot read/],
    ['a command without a file', [...unix, '--on-change', 'x'], /--on-change is for --crl-file/],
    ['a command with an open quote', ['--crl-file', 'f', '--on-change', "sh 'x"], /no command/],
    ['an unknown option', ['--lisen', 'x'], /unknown option '--lisen'/],
    ['an option twice', [...unix, '--state', 't'], /given 2 times/],
    ['a word too many', [...unix, 'orders'], /unexpected argument orders/],
    ['an empty value', ['--listen', ''], /--listen is empty/],
  ])('refuses %s', (_, argv, said) => {
    expect(() => settingsOf(...argv)).toThrow(said)
  })

  it('shows every option in its help', () => {
    for (const spec of [serveSpec, checkSpec]) {
      const help = helpOf(spec)
      for (const name of Object.keys(spec.options)) expect(help).toContain(`--${name}`)
      for (const line of help.split('\n').filter(each => !each.startsWith('  agentca-verify')))
        expect(line.length).toBeLessThanOrEqual(120)
    }
  })
})
