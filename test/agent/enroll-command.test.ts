// `agentca enroll` as a command line: its files, its output, its exit codes, its hook.
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCredentialDirectory, readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { wordsOf } from '../../src/cli/change-hook.ts'
import { type Ran, runCommand, type Surroundings } from '../cli/command.ts'
import { selfSigned } from '../http/harness.ts'
import { type CaServer, createBackend, createCaServer } from './ca-server.ts'

let ca: CaServer
beforeAll(async () => {
  ca = await createCaServer()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const enroll = (args: readonly string[], around: Surroundings = {}): Promise<Ran> =>
  runCommand(['enroll', ...args], around)
let count = 0
const newDir = (): string => ca.scratch(`dir-${count++}`)
const argsFor = async (agent: string, dir: string): Promise<readonly string[]> => [
  ...['--url', ca.url, '--ca-file', ca.caFile, '--token-file', await ca.tokenFile(agent), '--dir', dir],
]

describe('agentca enroll', () => {
  it('writes the identity, prints it, and says what to do next', async () => {
    const dir = newDir()
    const { code, out, err } = await enroll([...(await argsFor('cli', dir)), '-o', 'json'])
    expect([code, err]).toEqual([0, expect.stringContaining('enrolled; next: curl')])
    const printed = JSON.parse(out)
    expect(printed).toMatchObject({ agent: 'cli', generation: 1, url: ca.url, dir })
    expect((await readCredentialDirectory(dir))?.facts.serial).toBe(printed.serial)
    expect(out + err).not.toContain('PRIVATE')
  })

  it('prints a table for people and a name for pipes', async () => {
    expect((await enroll(await argsFor('tabled', newDir()))).out).toMatch(
      /^spiffeId +spiffe:\/\/example\.org\/agent\/tabled/,
    )
    expect((await enroll([...(await argsFor('named', newDir())), '-o', 'name'])).out).toMatch(
      /^spiffe:\/\/example\.org\/agent\/named\/i\/[0-9a-f]{32}\n$/,
    )
  })

  it('takes the token from standard input and the rest from the environment, all relative to where it runs', async () => {
    const token = readFileSync(await ca.tokenFile('piped'), 'utf8')
    const env = { AGENTCA_URL: ca.url, AGENTCA_CA_FILE: 'root.pem', AGENTCA_TOKEN_FILE: '-', AGENTCA_DIR: 'piped' }
    const ran = await enroll([], { env, stdin: token, cwd: ca.scratch('.') })
    expect(ran.code).toBe(0)
    expect((await readCredentialDirectory(ca.scratch('piped')))?.facts.agent).toBe('piped')
  })

  it('has nothing to do the second time, and enrols anew with another token', async () => {
    const dir = newDir()
    const args = await argsFor('twice', dir)
    const first = await enroll([...args, '-o', 'json'])
    const before = ca.seen.length
    const second = await enroll([...args, '-o', 'json'])
    expect([second.code, second.out]).toEqual([0, first.out])
    expect(second.err).toContain('nothing was done')
    expect(ca.seen.length).toBe(before)
    const third = await enroll([...(await argsFor('thrice', dir)), '-o', 'json'])
    expect(JSON.parse(third.out).agent).toBe('thrice')
    expect((await readCredentialDirectory(dir))?.facts.agent).toBe('thrice')
  })

  it('asks again while the CA cannot answer, and says so', async () => {
    ca.fate({ problem: { status: 503, code: 'signer_unavailable', retryAfter: '1' } })
    const { code, err } = await enroll(await argsFor('patient', newDir()))
    expect([code, err]).toEqual([0, expect.stringMatching(/signer_unavailable; asking again in \d+ s/)])
  })

  it('sets owner, group and mode of the key by name and by number', async () => {
    const dir = newDir()
    const asked = process.getuid?.() === 0 ? ['--owner', 'nobody', '--group', '65534'] : []
    expect((await enroll([...(await argsFor('owned', dir)), '--key-mode', '0640', ...asked])).code).toBe(0)
    const { mode, uid, gid } = statSync(join(dir, 'credential-bundle.pem'))
    expect(mode & 0o777).toBe(0o640)
    if (asked.length > 0) expect([uid, gid]).toEqual([65_534, 65_534])
  })

  it('checks the CA and does nothing else in a dry run', async () => {
    const dir = newDir()
    const before = ca.seen.length
    const { code, err } = await enroll([...(await argsFor('dry', dir)), '--dry-run'])
    expect([code, err]).toEqual([0, expect.stringContaining('dry run')])
    expect(ca.seen.slice(before)).toEqual(['GET /v1/capabilities'])
    expect(existsSync(dir)).toBe(false)
  })
})

describe('the hook of agentca enroll', () => {
  const script = (name: string, text: string): string => {
    writeFileSync(ca.scratch(name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
    return ca.scratch(name)
  }

  it('runs after the change without a shell, and finds the directory in its environment', async () => {
    const dir = newDir()
    const hook = script('hook', 'echo "$# $1 $AGENTCA_DIR"; cat "$AGENTCA_DIR/identity.json" >&2')
    const { code, out, err } = await enroll([...(await argsFor('hooked', dir)), '--on-change', `${hook} '$(id) *'`])
    expect(code).toBe(0)
    expect(err).toContain(`1 $(id) * ${dir}\n`)
    expect(err).toContain('"agent": "hooked"')
    expect(out).not.toContain('$(id)')
  })

  it.each([
    ['fails', () => script('fails', 'exit 3'), 'ended with code 3'],
    ['is not there', () => ca.scratch('no-such-hook'), 'could not be started'],
  ])('that %s leaves the identity in place and exit code 8', async (_, hook, says) => {
    const dir = newDir()
    const { code, err } = await enroll([...(await argsFor(`hook-${count}`, dir)), '--on-change', hook()])
    expect([code, err]).toEqual([8, expect.stringContaining(says)])
    expect(await readCredentialDirectory(dir)).not.toBeNull()
  })

  it.each([
    ['systemctl reload nginx', ['systemctl', 'reload', 'nginx']],
    ['  sh -c \'kill -HUP 1\' "two words"', ['sh', '-c', 'kill -HUP 1', 'two words']],
    ["a''b --x='1 2'", ['ab', '--x=1 2']],
    ["cmd '' x", ['cmd', '', 'x']],
  ])('%j is the words %j', (text, words) => expect(wordsOf(text)).toEqual(words))

  it.each(['', '   ', "sh -c 'open", 'a "b', "''"])('%j is no command', text =>
    expect(() => wordsOf(text)).toThrow('--on-change is no command'),
  )
})

describe('agentca enroll refuses', () => {
  const failing = async (
    change: (args: readonly string[], dir: string) => readonly string[],
    expected: readonly [code: number, says: string],
  ): Promise<void> => {
    const dir = newDir()
    const { code, out, err } = await enroll(change(await argsFor(`refused-${count}`, dir), dir))
    expect([code, err, out]).toEqual([expected[0], expect.stringContaining(expected[1]), ''])
  }
  const with_ = (args: readonly string[], flag: string, value: string): readonly string[] =>
    args.with(args.indexOf(flag) + 1, value)
  const without = (args: readonly string[], flag: string): readonly string[] => args.toSpliced(args.indexOf(flag), 2)

  it.each(['--url', '--ca-file', '--token-file', '--dir'])('a command line without %s: 2', flag =>
    failing(args => without(args, flag), [2, flag]),
  )
  it('two kinds of trust anchors: 2', () =>
    failing(args => [...args, '--ca-fingerprint', `sha256:${'0'.repeat(64)}`], [2, 'exclude each other']))
  it('a URL that is none: 2', () => failing(args => with_(args, '--url', 'ca.example.org'), [2, 'https://HOST']))
  it('a token file that is not there: 2', () =>
    failing(args => with_(args, '--token-file', '/nowhere'), [2, '/nowhere']))
  it('a mode that shows the key to all: 2', () => failing(args => [...args, '--key-mode', '0644'], [2, '0640']))
  it('a user that is not there: 2', () => failing(args => [...args, '--owner', 'no-such-user'], [2, 'no-such-user']))
  it('a hook that is no command: 2', () => failing(args => [...args, '--on-change', "'"], [2, '--on-change']))
  it('a directory that cannot be one: 2', () => failing(args => with_(args, '--dir', ca.caFile), [2, ca.caFile]))

  it('a token that nobody made, with the request id: 4', async () => {
    writeFileSync(ca.scratch('made-up'), 'made-up\n')
    await failing(args => with_(args, '--token-file', ca.scratch('made-up')), [4, '(token_unknown)'])
  })

  it('a token that somebody else used: 5', async () => {
    const token = await ca.tokenFile('taken')
    const args = with_(await argsFor('taken', newDir()), '--token-file', token)
    expect((await enroll(args)).code).toBe(0)
    await failing(other => with_(other, '--token-file', token), [5, '(token_reuse)'])
  })

  it('a directory in which another process renews: 6', async () => {
    const dir = newDir()
    await using _ = await openCredentialDirectory(dir)
    await failing(args => with_(args, '--dir', dir), [6, `renews in ${dir}`])
  })

  it('a CA that is not there, when patience has run out: 7', async () => {
    const gone = await createBackend(ca.rootPem, selfSigned('gone'))
    await gone.close()
    await failing(args => [...with_(args, '--url', gone.url), '--patience', '1s'], [7, 'no answer from'])
  })

  it('a server that is not the CA, before it hears anything: 9', async () => {
    const mallory = await createBackend(ca.rootPem, selfSigned('mallory'))
    await failing(args => with_(args, '--url', mallory.url), [9, 'did not prove to be the CA'])
    await mallory.close()
  })

  it('a fingerprint that the CA does not have: 9', () =>
    failing(
      args => [...without(args, '--ca-file'), '--ca-fingerprint', `sha256:${'0'.repeat(64)}`],
      [9, 'no root with the fingerprint'],
    ))
})
