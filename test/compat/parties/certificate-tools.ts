// Commands that judge one certificate, as docs/integrations/openssl.md and gnutls.md have them.
import { join } from 'node:path'
import { expect } from 'vitest'
import { blockWith } from '../../setup/documents.ts'
import { type Ran, runProgram } from '../../story/served-ca.ts'
import { compat } from '../compat.ts'
import { compatWorld } from '../world.ts'
import { gnutlsServer, opensslServer } from './tls-tools.ts'

/** The page's command about the certificate of one of the cast; `path` is the program's. */
const judged = async (page: string, words: string, path: string, who: string, more = ''): Promise<Ran> => {
  const { ca, etc } = await compatWorld()
  const command = blockWith(`docs/integrations/${page}.md`, 'sh', words)
    .text.replace(words, `${words.replace(/^\S+/, path)}${more}`)
    .replaceAll('/etc/agentca', etc)
    .replaceAll('127.0.0.1:8081', new URL(ca.urls.status).host)
    .trimEnd()
  return runProgram('bash', ['-ec', command], { cwd: join(etc, who) })
}

const { subject: openssl } = opensslServer
const { subject: gnutls } = gnutlsServer

export const certificateTools = (): void => {
  compat(openssl, '`openssl verify` with all lists accepts a good agent', async ({ path }) => {
    const { out, err } = await judged('openssl', 'openssl verify', path('openssl'), 'good')
    expect([out.trim(), err]).toEqual(['tls.crt: OK', ''])
  })
  compat(
    openssl,
    '`openssl verify` refuses a revoked, an expired and a foreign agent, each for its reason',
    async ({ path }) => {
      const verify = async (who: string, more = '') => {
        const { code, out, err } = await judged('openssl', 'openssl verify', path('openssl'), who, more)
        return [code, /error \d+ at.*?: (.*)/.exec(out + err)?.[1]]
      }
      expect(await verify('revoked')).toEqual([2, 'certificate revoked'])
      expect(await verify('expired')).toEqual([2, 'certificate has expired'])
      // Its end is all that is wrong with it.
      expect(await verify('expired', ' -no_check_time')).toEqual([0, undefined])
      const [code, reason] = await verify('foreign')
      expect([code, reason]).toEqual([2, expect.stringMatching(/issuer certificate|CRL|signature/)])
    },
  )
  compat(
    openssl,
    '`openssl ocsp` says good and revoked, and that it is not asked about another CA',
    async ({ path }) => {
      const ocsp = async (who: string) => {
        const { out, err } = await judged('openssl', 'openssl ocsp', path('openssl'), who)
        return [/(?:tls\.crt|Responder Error): (\w+)/.exec(out)?.[1], /Response verify (\w+)/.exec(out + err)?.[1]]
      }
      expect(await ocsp('good')).toEqual(['good', 'OK'])
      expect(await ocsp('revoked')).toEqual(['revoked', 'OK'])
      expect(await ocsp('foreign')).toEqual(['unauthorized', undefined])
    },
  )
  compat(gnutls, '`certtool --verify` with all lists accepts a good agent', async ({ path }) => {
    const { code, out } = await judged('gnutls', 'certtool --verify', path('certtool'), 'good')
    expect([code, out]).toEqual([0, expect.stringContaining('Chain verification output: Verified.')])
  })
  compat(
    gnutls,
    '`certtool --verify` refuses a revoked, an expired and a foreign agent, each for its reason',
    async ({ path }) => {
      for (const [who, reason] of [
        ['revoked', 'The certificate chain is revoked'],
        ['expired', 'The certificate chain uses expired certificate'],
        ['foreign', 'The certificate issuer is unknown'],
      ] as const) {
        const { code, out } = await judged('gnutls', 'certtool --verify', path('certtool'), who)
        expect([who, code, out]).toEqual([who, 1, expect.stringContaining(reason)])
      }
    },
  )
  compat(gnutls, '`certtool --verify` takes a missing list for one that revokes nobody', async ({ path }) => {
    const { etc } = await compatWorld()
    const args = ['--verify', '--load-ca-certificate', join(etc, 'orders/ca.crt'), '--infile', 'tls.crt']
    const { code } = await runProgram(path('certtool'), args, { cwd: join(etc, 'revoked') })
    expect(code).toBe(0)
  })
}
