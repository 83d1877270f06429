// Rules over the text of src that attacks would otherwise have to find by chance: who opens connections and who chose the address, how
// secrets are compared, what is started as a program.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts'))
  .map(file => ({ file, text: readFileSync(join(root, 'src', file), 'utf8') }))

/** Run where agents, backends and operators are, with their rights, towards what their own configuration names. */
const elsewhere = /^(?:agent|verifier|cli|testing)\//
const opens = /\b(?:connect|createConnection|tlsConnect|request|fetch|Agent|Client|Pool|lookup|Resolver|createSocket)\b/

const importsOf = (text: string): readonly string[] =>
  [
    ...text.matchAll(
      /^import (?!type)([^;]*?) from '(?:undici|node:(?:net|tls|http|https|http2|dns|dgram)(?:\/promises)?)'/gms,
    ),
  ].map(([, names]) => names as string)

/** Every place of the CA that goes out, and who says where to. */
const outbound: Readonly<Record<string, string>> = {
  'acme/validation/dns-questions.ts': 'name servers of the configuration',
  'acme/validation/http-01.ts': 'an address that allowed-address.ts let through; redirects are not followed',
  'acme/validation/tls-alpn-01.ts': 'an address that allowed-address.ts let through',
  'enrol/fetch-keys.ts': 'the issuer of an attestor, from its file',
  'events/syslog-sink.ts': 'the receiver, from the configuration',
  'events/webhook-sink.ts': 'the receiver, from the configuration',
  'front/connect.ts': 'the core’s own socket in the file system',
  'front/streams.ts': 'the core’s own socket in the file system',
  'http/listener.ts': 'its own socket in the file system',
  'server/separate-signer.ts': 'its own sockets in the file system',
  'server/init-inputs.ts': 'nothing: ports that are free',
  'signer/client.ts': 'the signer’s socket in the file system',
  'signer/process.ts': 'its own socket in the file system',
}

test('what goes out of the CA is known, and none of it goes where a request says', () => {
  const found = files
    .filter(
      ({ file, text }) =>
        !elsewhere.test(file) &&
        (importsOf(text).some(names => opens.test(names)) || /(?<![.\w])fetch\(['"`\w]/.test(text)),
    )
    .map(({ file }) => file)
  expect(found.filter(file => !Object.hasOwn(outbound, file))).toEqual([])
})

/** Names of variables that hold a secret, compared by a way that ends at the first difference. (cert-export.ts asks for one twice.) */
const earlyExit =
  /\b\w*(?:[sS]ecret|[hH]mac|[pP]assword|tokenText|\bpin|\bmac|macKey)\b\s*[!=]==(?!\s*(?:undefined|null|''))/

test('no secret is compared by a way that ends at the first difference: tokens are looked up by hash, MACs by timingSafeEqual', () => {
  const found = files.flatMap(({ file, text }) =>
    text
      .split('\n')
      .flatMap((line, at) =>
        earlyExit.test(line) && !line.includes('typeof') && file !== 'cli/cert-export.ts'
          ? [`${file}:${at + 1}: ${line.trim()}`]
          : [],
      ),
  )
  expect(found).toEqual([])
  const hashed = ['http/agent-issuance.ts', 'http/est.ts', 'http/est-credentials.ts', 'enrol/admit.ts']
  for (const { file, text } of files.filter(each => hashed.includes(each.file)))
    expect(/tokens?\.(?:text|token)\s*[!=]==|[!=]==\s*\w+\.token\b/.test(text), file).toBe(false)
  // The ledger has hashes only: there is no column to compare a token with.
  const columns = files
    .filter(({ file }) => /^store\/sqlite\/schema/.test(file))
    .map(({ text }) => text)
    .join('\n')
  expect(/join_?tokens?\b[^;]*\btoken\s+TEXT/i.test(columns)).toBe(false)
  for (const file of ['events/webhook-signature.ts', 'acme/nonces.ts', 'acme/accounts.ts', 'signer/pin-latch.ts'])
    expect(files.find(each => each.file === file)?.text, file).toContain('timingSafeEqual(')
})

/** What is started: its program and arguments come from here or from an operator's own command line, never through a shell. */
const startsPrograms: readonly string[] = files
  .filter(({ text }) => /from 'node:child_process'/.test(text))
  .map(({ file }) => file)

test('no program is started through a shell with text of others in its command', () => {
  expect(startsPrograms.length).toBeGreaterThan(3)
  for (const { file, text } of files.filter(each => startsPrograms.includes(each.file))) {
    expect(/\bexec(?:Sync)?\(\s*[`'"]|shell:\s*true/.test(text), file).toBe(false)
    for (const [, script = ''] of text.matchAll(/'-e?u?c',\s*(`[^`]*`|'[^']*')/g))
      expect(script, file).not.toContain('${')
  }
})

test('nothing is evaluated: no eval, no Function from text, no vm', () => {
  for (const { file, text } of files) {
    expect(/(?<![.\w])eval\(|new Function\(|from 'node:vm'/.test(text), file).toBe(false)
  }
})
