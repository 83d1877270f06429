// Running the CA at the command line: what a state means for the exit code, where secrets come from, what files are refused.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parsePem } from '../../src/pki/pem.ts'
import { runCommand, type Surroundings } from './command.ts'
import { hsmStatus, issuing, pemOf, root, status } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server?.[Symbol.asyncDispose]())
beforeEach(() => server.reset())

const run = (line: string, around: Surroundings = {}) =>
  runCommand(line.split(' '), { env: server.env, cwd: server.directory, ...around })
const put = (name: string, content: string): void => writeFileSync(join(server.directory, name), content)

describe('agentca hsm', () => {
  it.each([
    ['locked', false, 'agentca hsm unlock --pin-file FILE'],
    ['locked', true, 'a wrong PIN was tried once'],
    ['down', false, 'agentca doctor'],
  ] as const)(
    'status says by exit code 7 that it is %s (latched: %s), and what to do',
    async (state, pinLatched, says) => {
      server.answer('hsmStatus', () => ({ ...hsmStatus, state, pinLatched }))
      const { code, out, err } = await run('hsm status')
      expect([code, out, err]).toEqual([7, expect.stringContaining(state), expect.stringContaining(says)])
    },
  )

  it('unlock takes the PIN from standard input, without its line end, and shows it nowhere', async () => {
    const { code, out, err } = await run('hsm unlock --pin-file -', { stdin: '123456\n' })
    expect(server.bodiesOf('hsmUnlock')).toEqual([{ pin: '123456' }])
    expect([code, `${out}${err}`.includes('123456')]).toEqual([0, false])
  })

  it('unlock without a file lets the signer read its own PIN source again', async () => {
    await run('hsm unlock')
    expect(server.bodiesOf('hsmUnlock')).toEqual([{}])
  })

  it.each(['', '\n', '1234\n5678\n'])('unlock sends nothing of %j', async stdin => {
    const { code, err } = await run('hsm unlock --pin-file -', { stdin })
    expect([code, err, server.calls]).toEqual([2, expect.stringContaining('one line with the secret'), []])
  })
})

it('agentca clock show says by exit code 7 that the core refuses to sign', async () => {
  server.answer('clockShow', () => ({ state: 'refused', now: '', lastSigning: null, detail: 'went back 1 h' }))
  const { code, err } = await run('clock show')
  expect([code, err]).toEqual([7, expect.stringContaining('agentca clock accept')])
})

describe('agentca status', () => {
  it('has on one screen what an operator looks for', async () => {
    const { out } = await run('status')
    expect(out.split('\n').length).toBeLessThan(25)
    expect(out).toMatch(/^certificates +41 issued, 1 held, 2 revoked/m)
    expect(out).toMatch(/^agents +5 active, 1 held, 0 retired$/m)
    expect(out).toMatch(/^root-1 +root +active +\d+ +1764000000000 +2 +60m +200d$/m)
    expect(out).toMatch(/^last minute +12 issued, 1 refused, 0 revoked$/m)
    expect(out).toMatch(/^signer +ready/m)
  })

  it('says what is wrong with the clock and the log, with the cure', async () => {
    server.answer('status', () => ({
      ...status(),
      clock: { state: 'refused', now: '', lastSigning: null, detail: 'went back 1 h' },
      audit: { size: 3, checkpoint: null },
    }))
    const { out } = await run('status')
    expect(out).toMatch(/^clock +refused: went back 1 h \(agentca clock accept\)$/m)
    expect(out).toMatch(/^audit +3 leaves, no checkpoint yet$/m)
  })

  it('colours the days of a CA that is about to end', async () => {
    server.answer('status', () => ({ ...status(), issuers: status().issuers.map(each => ({ ...each, daysLeft: 20 })) }))
    expect((await run('status', { colours: true })).out).toContain('\u001b[31m20\u001b[39m')
  })
})

describe('agentca ca', () => {
  it('prepare takes one certificate', async () => {
    put('two.pem', pemOf(issuing) + pemOf(root))
    const { code, err } = await run('ca prepare issuing-2 --certificate two.pem --confirm issuing-2')
    expect([code, err, server.calls]).toEqual([2, expect.stringContaining('expected one certificate'), []])
  })

  it('asks for no name where nothing is done', async () => {
    put('issuing.pem', pemOf(issuing))
    expect((await run('ca prepare issuing-2 --certificate issuing.pem --dry-run')).code).toBe(0)
    expect(server.bodiesOf('issuersPrepare')).toMatchObject([{ dryRun: true }])
  })

  it('is asked for its roots alone by bundle show', async () => {
    const { out } = await run('bundle show')
    expect(parsePem(out, 'CERTIFICATE').map(der => Buffer.from(der).toString('hex'))).toEqual([
      Buffer.from(root.certificate.der).toString('hex'),
    ])
  })
})

describe('agentca profile check', () => {
  it('names every fault of every file, beyond the hard ceilings too', async () => {
    mkdirSync(join(server.directory, 'checked'), { recursive: true })
    put('checked/good.yaml', 'kind: agent\n')
    put('checked/odd.yaml', 'kind: robot\nlifetime: 1h\nunknown: 1\n')
    put('checked/long.yaml', 'kind: agent\nlifetime: 30d\n')
    put('checked/notes.txt', 'not a profile')
    const { code, out, err } = await run('profile check checked -o json')
    const results = JSON.parse(out) as { profile: string; result: string; faults: readonly string[] }[]
    expect(code).toBe(2)
    expect(results.map(({ profile, result }) => [profile, result])).toEqual([
      ['good', 'ok'],
      ['long', 'failed'],
      ['odd', 'failed'],
    ])
    expect(err).toMatch(/long\.yaml: lifetime: expected at most 86400s/)
    expect(err.match(/odd\.yaml: (?:kind|unknown): /g)).toHaveLength(2)
  })

  it('does not take an empty directory for one in order', async () => {
    mkdirSync(join(server.directory, 'empty'), { recursive: true })
    expect((await run('profile check empty')).code).toBe(2)
  })
})

describe('a dry run', () => {
  it.each([
    ['agent create billing --owner finance --dry-run', 'agentsCreate'],
    ['agent hold billing --dry-run', 'agentsHold'],
    ['agent retire billing --dry-run', 'agentsRetire'],
    ['owner create archive --dry-run', 'ownersCreate'],
    ['owner gone finance --dry-run', 'ownersGone'],
    ['owner remove finance --dry-run', 'ownersRemove'],
    ['token create --agent billing --dry-run', 'tokensCreate'],
    ['instance unlock a1b2 --dry-run', 'instancesUnlock'],
    ['revoke --agent billing --reason superseded --dry-run', 'revoke'],
    ['ca retire issuing-1 --dry-run', 'issuersRetire'],
  ] as const)('%s asks once, and says that nothing was done', async (line, route) => {
    const { code, err } = await run(line)
    expect(code).toBe(0)
    expect(server.bodiesOf(route)).toEqual([expect.objectContaining({ dryRun: true })])
    expect(server.calls).toHaveLength(1)
    expect(err).toContain('dry run')
  })

  it.each([
    ['clock accept --dry-run', 'clockShow'],
    ['crl publish --dry-run', 'crlStatus'],
    ['hsm unlock --dry-run', 'hsmStatus'],
  ] as const)('%s only looks', async (line, route) => {
    const { code, err } = await run(line)
    expect(code).toBe(0)
    expect(server.calls.map(call => call.name)).toEqual([route])
    expect(err).toContain('dry run')
  })
})
