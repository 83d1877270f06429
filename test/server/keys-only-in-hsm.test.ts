// No CA key is made, read or kept outside an HSM: by the sources, where every way to a private key in software is on a list with its
// reason, and by the files of an initialised home.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseConfig } from '../../src/schema/config.ts'
import { withToken } from '../../src/server/ceremony/token-target.ts'
import { homePaths } from '../../src/server/home.ts'
import { initHome } from '../../src/server/init.ts'
import { onlineTarget, rootTarget } from '../../src/server/init-places.ts'

const source = join(import.meta.dirname, '../../src')
const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(name => ({ name, code: readFileSync(join(source, name), 'utf8').replace(/^\s*(\/\/|\/?\*).*$/gm, '') }))

interface Way {
  readonly what: string
  readonly pattern: RegExp
  /** Files that may, and why. */
  readonly allowed: Readonly<Record<string, string>>
}

const ways: readonly Way[] = [
  {
    what: 'a private key made or read in software',
    pattern:
      /\b(?:generateKeyPair(?:Sync)?|generateKeySync|createPrivateKey|createECDH|createDiffieHellman|importPKCS8)\b|\bsubtle\.(?:generateKey|importKey|deriveKey|unwrapKey)\b|\.(?:rsa|ed25519)\.(?:generateKeyPair|createKeyPairGenerator)\b/,
    allowed: {
      'agent/evidence.ts': 'the key of another authority’s certificate, which the agent’s machine has anyway',
      'agent/key-pair.ts': 'the agent’s own key, on the agent’s machine',
      'cli/cert-export.ts': 'an agent’s or operator’s own key, from its directory into its own key store',
      'server/api-certificate.ts': 'the TLS key of the API, a leaf like any other',
      'testing/software-keys.ts':
        'a CA for users’ tests, which nothing of the product loads (test/testing/document.test.ts)',
      'verifier/sidecar/assertion-key.ts': 'the sidecar’s key for its assertions to backends, none of the CA',
    },
  },
  {
    what: 'a key generated in the token',
    pattern: /\bC_GenerateKeyPair(?:Async)?\(/,
    allowed: { 'signer/keys.ts': 'with the one template: sensitive, not extractable, only to sign' },
  },
  {
    what: 'that template, used',
    pattern: /\bgenerateSigningKey\(/,
    allowed: { 'signer/ceremony-token.ts': 'the token as a ceremony has it' },
  },
  {
    what: 'a ceremony’s token, asked for a key',
    pattern: /\btoken\.generateKey\(/,
    allowed: { 'server/ceremony/ceremony-keys.ts': 'ceremonies, root and issuing alike' },
  },
  {
    what: 'a key brought into the token, or out of it',
    pattern: /\bC_(?:CreateObject|CopyObject|UnwrapKey|WrapKey|DeriveKey|SetAttributeValue)/,
    allowed: {},
  },
]

describe('the sources', () => {
  test.each(ways)('$what: only where it is allowed', ({ pattern, allowed }) => {
    const found = files.filter(({ code }) => pattern.test(code)).map(({ name }) => name)
    // Equal, so that an allowance nobody needs any more fails too.
    expect(found.toSorted()).toEqual(Object.keys(allowed).toSorted())
  })
})

describe('an initialised home', () => {
  test('has no private key in any file, and its keys say that they were made in the token and cannot leave it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'agentca-keys-'))
    try {
      const paths = homePaths(directory)
      const config = parseConfig({ text: 'trustDomain: example.org', source: 'agentca.yaml', env: {} })
      await initHome({ config, paths, clock: systemClock, log: silentLog, randomBytes })
      const kept = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(name => {
        const path = join(directory, name)
        return statSync(path).isFile() && readFileSync(path, 'latin1').includes('PRIVATE KEY')
      })
      expect(kept).toEqual([])
      const keys = []
      for (const target of [onlineTarget({ config, paths }), rootTarget({ paths })])
        keys.push(...(await withToken(target, async token => token.listKeys())))
      expect(keys.map(({ label }) => label).toSorted()).toEqual(['issuing-1', 'log-1', 'ocsp-1', 'root-1'])
      for (const key of keys)
        expect(key).toMatchObject({
          sign: true,
          sensitive: true,
          alwaysSensitive: true,
          extractable: false,
          neverExtractable: true,
          local: true,
          modifiable: false,
          decrypt: false,
          unwrap: false,
          derive: false,
          signRecover: false,
        })
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
