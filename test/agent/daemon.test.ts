// The daemon's command line without a process: what it says of wrong input, its help, its exit codes, and `once` and `status` from an
// empty directory to a refused identity.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hooksOf, wordsOf } from '../../src/agent/daemon/after-change.ts'
import { runCommandLine } from '../../src/agent/daemon/command-line.ts'
import { relative } from '../../src/agent/daemon/facts.ts'
import { createMemoryDirectory } from '../../src/agent/daemon/memory-directory.ts'
import { leaf } from '../ca/authority.ts'
import { type CaServer, createCaServer } from './ca-server.ts'

let ca: CaServer
beforeAll(async () => {
  ca = await createCaServer()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const daemon = async (...argv: readonly string[]) => {
  let [out, err] = ['', '']
  const code = await runCommandLine(argv, {
    out: text => {
      out += text
    },
    err: text => {
      err += text
    },
    env: { PATH: process.env.PATH },
    cwd: ca.scratch('.'),
  })
  return { code, out, err }
}
const codeOf = (work: () => unknown): string => {
  try {
    work()
    return 'fulfilled'
  } catch (error) {
    return (error as { code: string }).code
  }
}
const evidence = async (agent: string) => [
  '--url',
  ca.url,
  '--ca-file',
  ca.caFile,
  '--token-file',
  await ca.tokenFile(agent),
]

describe('help', () => {
  it('is there for each command, with exit code 0 and on standard output', async () => {
    for (const command of ['run', 'once', 'exec', 'status']) {
      const { code, out, err } = await daemon(command, '--help')
      expect([code, err]).toEqual([0, ''])
      expect(out).toMatch(new RegExp(`^usage: agentca-agent ${command} `))
      expect((await daemon('help', command)).out).toBe(out)
    }
    expect(await daemon('--help')).toMatchObject({ code: 0, err: '' })
    expect(await daemon()).toMatchObject({ code: 2, out: '' })
    expect((await daemon('version')).out).toMatch(/^agentca-agent \d+\.\d+\.\d+ \(Node /)
  })
})

describe('wrong input', () => {
  it.each([
    [['rnu'], /there is no command rnu\n {2}hint: did you mean run\?/],
    [['run', '--tokenfile', 'x'], /no option --tokenfile\n {2}hint: did you mean --token-file\?/],
    [['run', '--token', 'secret'], /no option --token/],
    [['run'], /--dir is missing \(or AGENTCA_DIR\)\n {2}hint: agentca-agent run --dir DIR/],
    [['run', '--dir'], /--dir/],
    [['run', '--dir', ''], /--dir is empty/],
    [['run', '--dir', 'd', 'stray'], /stray is no option/],
    [['run', '--dir', 'd', '--key-mode', '0644'], /expected 0400, 0440, 0600 or 0640/],
    [['run', '--dir', 'd', '--owner', 'no-such-user-here'], /there is no user no-such-user-here/],
    [['run', '--dir', 'd', '--signal', 'HUP'], /belong together/],
    [['run', '--dir', 'd', '--signal', 'HOP', '--pid-file', 'p'], /there is no signal HOP/],
    [['run', '--dir', 'd', '--on-change', "echo 'open"], /--on-change is no command/],
    [['run', '--dir', 'd', '--token-fd', '1'], /expected the number of an open file descriptor/],
    [['run', '--dir', 'd', '--patience', 'soon'], /expected a duration, got soon/],
    [['run', '--dir', 'd', '--key-algorithm', 'RSA'], /expected P-256 or P-384 or Ed25519, got RSA/],
    [['once', '--dir', 'd', '-o', 'yaml'], /expected table or json, got yaml/],
    [['exec'], /there is no command behind --/],
    [['exec', 'true'], /the program goes behind --: agentca-agent exec -- true/],
    [['exec', '--grace', 'x', '--', 'true'], /expected a duration/],
  ])('%j: says what, and what to type', async (argv, told) => {
    const { code, out, err } = await daemon(...argv)
    expect([code, out]).toEqual([2, ''])
    expect(err).toMatch(told)
    expect(err).toMatch(/\n {2}hint: /)
  })

  it('is told as a document where JSON was asked for', async () => {
    const { code, err } = await daemon('status', '--dir', 'nothing-here', '-o', 'json')
    expect(code).toBe(2)
    expect(JSON.parse(err)).toMatchObject({
      code: 'option_missing',
      hint: expect.stringContaining('agentca-agent once'),
    })
  })

  it('names everything that is missing to enrol with', async () => {
    expect((await daemon('once', '--dir', 'missing')).err).toMatch(/url \(AGENTCA_URL\).*caFile.*tokenFile/)
  })
})

describe('once and status', () => {
  it('enrol, do nothing, renew when told to, run the hook after a change only, and tell it', async () => {
    const dir = ca.scratch('once')
    const hook = ['--on-change', `sh -c 'echo "$AGENTCA_DIR" >> ${ca.scratch('hooked')}'`]
    const first = await daemon('once', '--dir', dir, ...(await evidence('once')), ...hook)
    expect(first).toMatchObject({ code: 0, err: '' })
    expect(first.out).toMatch(/^identity +spiffe:\/\/example\.org\/agent\/once\/i\/[\s\S]*did +enrolled\n$/)
    const idle = await daemon('once', '--dir', dir, '-o', 'json', ...hook)
    expect(JSON.parse(idle.out)).toMatchObject({ generation: 1, did: 'it is not time to renew yet' })
    const forced = await daemon('once', '--dir', dir, '-o', 'json', '--force', ...hook)
    expect(JSON.parse(forced.out)).toMatchObject({ generation: 2, did: 'renewed' })
    expect(readFileSync(ca.scratch('hooked'), 'utf8')).toBe(`${dir}\n${dir}\n`)
    expect(await daemon('once', '--dir', dir, '--force', '--on-change', 'false')).toMatchObject({
      code: 8,
      err: expect.stringContaining('the hook ended with code 1'),
    })

    const shown = await daemon('status', '--dir', dir)
    expect(shown.code).toBe(10)
    expect(shown.out).toMatch(/^state +nobody renews\n[\s\S]*the CA says +active\nhint +agentca-agent run --dir /)
    expect(shown.out.split('\n').length).toBeLessThan(24)
    ca.front.ledger.registrations.change({
      kind: 'agent',
      name: 'once',
      at: Date.now(),
      decide: () => ({ set: {}, state: 'held' }),
      leaf: () => leaf('registration_changed'),
    })
    const held = await daemon('status', '--dir', dir, '-o', 'json')
    expect(held.code).toBe(4)
    expect(JSON.parse(held.out)).toMatchObject({
      state: 'refused by the CA',
      ca: { state: 'registration_held' },
      hint: 'agentca agent release once',
    })
    expect(await daemon('status', '--dir', dir, '--offline')).toMatchObject({ code: 10 })
    // A refused renewal has its own exit code and says what helps.
    const refused = await daemon('once', '--dir', dir, '--force')
    expect(refused).toMatchObject({ code: 4, err: expect.stringContaining('hint: agentca agent release once') })
  })
})

describe('a directory in memory', () => {
  it('is for its owner only, and gone at the end; what a dead run left goes too', async () => {
    const dead = '/dev/shm/agentca-exec-4194301-0123456789abcdef'
    mkdirSync(dead, { recursive: true })
    writeFileSync(join(dead, 'tls.key'), 'left over')
    const directory = await createMemoryDirectory(['/dev/shm'])
    expect(directory.kept).toBe('in memory')
    expect(statSync(directory.path).mode & 0o777).toBe(0o700)
    expect(readdirSync('/dev/shm')).not.toContain('agentca-exec-4194301-0123456789abcdef')
    await directory[Symbol.asyncDispose]()
    expect(() => statSync(directory.path)).toThrow('ENOENT')
  })

  it('says that it is on a disk where there is no memory to be had', async () => {
    const directory = await createMemoryDirectory(['/proc', '/no/such/place'])
    expect(directory.path.startsWith(tmpdir())).toBe(true)
    const kind = spawnSync('stat', ['--file-system', '--format=%T', tmpdir()], { encoding: 'utf8' }).stdout.trim()
    expect(directory.kept).toBe(kind === 'tmpfs' ? 'in memory' : 'on disk')
    await directory[Symbol.asyncDispose]()
    rmSync(directory.path, { recursive: true, force: true })
  })
})

describe('hooks', () => {
  it('are words, never a shell', () => {
    expect(wordsOf('on-change', `a 'b c' "d e"f`)).toEqual(['a', 'b c', 'd ef'])
    expect(codeOf(() => wordsOf('on-change', '  '))).toBe('option_invalid')
    const io = { out: () => {}, err: () => {}, env: {}, cwd: '/somewhere' }
    expect(hooksOf(io, { signal: 'hup'.toUpperCase(), 'pid-file': 'x.pid' }).signalTo).toEqual({
      signal: 'SIGHUP',
      pidFile: '/somewhere/x.pid',
    })
  })
})

describe('times', () => {
  it('are told as people tell them', () => {
    expect(relative(90_000, 0)).toBe('in 1 min')
    expect(relative(0, 7_200_000)).toBe('2 h ago')
    expect(relative(0, 172_800_000)).toBe('2 d ago')
    expect(relative(4000, 0)).toBe('in 4 s')
  })
})
