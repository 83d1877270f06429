// A CA in production mode: the machine's own socket reads and changes nothing, the first operator comes in by the token that `init` left,
// and whatever operators do from then on carries their names; as long as they have a certificate, and no call longer.
import { cpSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Credential } from '../../src/agent/credential.ts'
import { tlsMaterialOf } from '../../src/agent/credential.ts'
import { openCredentialDirectory, readCredentialDirectory } from '../../src/agent/credential-directory.ts'
import { packageRoot } from '../../src/cli/home.ts'
import type { LeafAnswer, ProfileAnswer, RegistrationAnswer } from '../../src/schema/admin-answers.ts'
import type { Ran } from '../cli/command.ts'
import { ask } from '../http/harness.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createOperator, type Operator } from './operator.ts'
import { until } from './until.ts'

let home: StoryHome
let directory: string
let profiles: string
let server: CaProcess
/** At the machine's own socket. */
let socket: Operator

beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_MODE: 'production' })
  directory = dirname(home.paths.home)
  profiles = join(directory, 'profiles')
  cpSync(join(packageRoot, 'ca-config', 'profiles'), profiles, { recursive: true })
  server = await startCa(home, 'serve', { AGENTCA_PROFILES: profiles })
  socket = createOperator(home.env, directory)
}, 180_000)
afterAll(async () => {
  await server?.stop()
  home?.remove()
})
afterEach(() => {
  vi.useRealTimers()
})

/** An operator elsewhere, with nothing but a credential directory. */
const elsewhere = (name: string): Operator => {
  const { PATH = '' } = home.env
  const env = { PATH, AGENTCA_HOME: join(directory, 'nowhere') }
  return createOperator(env, directory, ['--url', server.line.api, '--credential', name])
}
const enrol = (tokenFile: string, name: string): Promise<Ran> =>
  socket.run(
    `enroll --url ${server.line.api} --ca-file ${home.rootFile} --token-file ${tokenFile} --dir ${name} -o json`,
  )
/** With a token from an operator who may make one. */
const enrolBy = async (admin: Operator, name: string): Promise<Operator> => {
  await admin.json(`token create --operator ${name} --file ${name}.token`)
  const { code, err } = await enrol(`${name}.token`, name)
  expect([code, code === 0 ? '' : err]).toEqual([0, ''])
  return elsewhere(name)
}
const credentialOf = async (name: string): Promise<Credential> =>
  (await readCredentialDirectory(join(directory, name))) as Credential

const leafOf = async (requestId: string): Promise<LeafAnswer | undefined> =>
  (await socket.json<LeafAnswer[]>('audit tail -n 100')).find(({ content }) => content?.req === requestId)

/** A refusal as the command tells it, and its leaf. */
const expectRefused = async (ran: Ran, [exit, code]: readonly [number, string], who: string) => {
  const problem = JSON.parse(ran.err.split('\n').find(line => line.startsWith('{')) ?? '{}')
  expect([ran.code, problem.code, ran.out]).toEqual([exit, code, ''])
  expect(problem.hint).toEqual(expect.any(String))
  expect((await leafOf(problem.requestId))?.content).toMatchObject({ event: 'request_refused', code, who })
}

describe('the admin socket in production', () => {
  it.each(['status', 'agent list', 'audit tail', 'hsm status', 'ca list', 'cert list', 'owner list'])(
    'answers "%s"',
    async line => {
      expect((await socket.run(line)).code).toBe(0)
    },
  )

  it.each([
    'agent create x --owner y',
    'service create x',
    'operator create x --role admin',
    'token create --operator admin',
    'owner gone y --yes',
    'agent hold x',
    'revoke --agent x --reason keyCompromise --yes',
    'crl publish',
    'ca activate issuing-1 --confirm issuing-1',
    'hsm test-sign',
    'audit checkpoint',
    'clock accept --why because',
  ])('refuses "%s"', async line => {
    const ran = await socket.run(`${line} -o json`)
    await expectRefused(ran, [4, 'operator_certificate_needed'], 'operator:local')
  })
})

describe('operators in production', () => {
  let admin: Operator

  it('begin with the token that init left, which is good for one key', async () => {
    expect((await enrol(home.report.firstOperatorToken, 'admin')).code).toBe(0)
    admin = elsewhere('admin')
    expect(await admin.json('status')).toMatchObject({ mode: 'production' })
    expect((await enrol(home.report.firstOperatorToken, 'again')).code).toBe(5)
  })

  it('act under their names, each within its role', async () => {
    await admin.json('agent create billing --owner finance')
    await admin.json('operator create vera --role viewer')
    await admin.json('operator create sam --role security')
    const [vera, sam] = [await enrolBy(admin, 'vera'), await enrolBy(admin, 'sam')]
    expect((await vera.json<RegistrationAnswer[]>('agent list')).map(({ name }) => name)).toEqual(['billing'])
    const creating = await vera.run('agent create payments --owner finance -o json')
    await expectRefused(creating, [4, 'role_insufficient'], 'operator:vera')
    await sam.json('agent hold billing --why odd')
    const promoting = await sam.run('operator create sam2 --role admin -o json')
    await expectRefused(promoting, [4, 'role_insufficient'], 'operator:sam')
    const changes = await socket.json<LeafAnswer[]>('audit tail --subject agent:billing')
    expect(changes.map(({ event, content }) => [event, content?.who, content?.why])).toEqual([
      ['registration_created', 'operator:admin', undefined],
      ['registration_changed', 'operator:sam', 'odd'],
    ])
  })

  it('are refused from the next call on when they are retired, also on a connection that lives', async () => {
    const { key, cert, ca } = tlsMaterialOf(await credentialOf('vera'))
    const agent = new Agent({ keepAlive: true, maxSockets: 1, key, cert, ca, rejectUnauthorized: false })
    const call = () => ask(Number(new URL(server.line.api).port), '/v1/admin/whoami', { agent })
    expect((await call()).body).toMatchObject({ name: 'vera', role: 'viewer' })
    const [live] = Object.values(agent.freeSockets).flat()
    await admin.json('operator retire vera --yes')
    expect((await call()).body.code).toBe('registration_retired')
    expect(Object.values(agent.freeSockets).flat()).toEqual([live])
    agent.destroy()
    const ran = await elsewhere('vera').run('agent list -o json')
    await expectRefused(ran, [5, 'registration_retired'], 'operator:vera')
  })

  it('cannot end without an admin among them', async () => {
    const { code, err } = await admin.run('operator retire admin --yes -o json')
    expect([code, err]).toEqual([6, expect.stringContaining('agentca operator create NAME --role admin')])
  })
})

describe('the certificate of an operator', () => {
  /** By the clock of the operator's machine, which is all that says when something is due. */
  const inHours = (hours: number): void => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hours * 3_600_000 })
  }

  it('is left alone before it is due', async () => {
    const before = await credentialOf('admin')
    inHours(5)
    await elsewhere('admin').json('status')
    expect((await credentialOf('admin')).facts).toEqual(before.facts)
  })

  it('is renewed by whatever command comes when it is due', async () => {
    const before = await credentialOf('admin')
    inHours(8)
    const { code, err } = await elsewhere('admin').run('agent list -o json')
    expect([code, err]).toEqual([0, ''])
    const after = await credentialOf('admin')
    expect(after.facts).toMatchObject({ instance: before.facts.instance, generation: 2 })
    vi.useRealTimers()
    await elsewhere('admin').json('agent release billing')
    expect((await credentialOf('admin')).facts.serial).toBe(after.facts.serial)
    const [renewal] = await socket.json<LeafAnswer[]>('audit tail --subject operator:admin -n 1')
    expect(renewal).toMatchObject({ event: 'certificate_issued', content: { serial: after.facts.serial } })
  })

  it('serves on where it is not renewed: another program has the directory', async () => {
    const before = await credentialOf('sam')
    inHours(8)
    await using _held = await openCredentialDirectory(join(directory, 'sam'))
    const { code, err } = await elsewhere('sam').run('agent list -o json')
    expect([code, err]).toEqual([0, ''])
    expect((await credentialOf('sam')).facts).toEqual(before.facts)
  })

  it('that has expired is told with its cure, which works', async () => {
    inHours(13)
    const ran = await elsewhere('sam').run('agent list -o json')
    const problem = JSON.parse(ran.err) as { readonly code: string; readonly hint: string }
    expect([ran.code, problem.code]).toEqual([4, 'credential_expired'])
    const [asked, enrolling] = problem.hint.split('; then: agentca ')
    const token = asked?.replace(/^let another operator run: agentca /, '').replace('FILE', 'sam2.token') ?? ''
    vi.useRealTimers()
    expect((await elsewhere('admin').run(token)).code).toBe(0)
    expect((await socket.run((enrolling ?? '').replace('FILE', 'sam2.token'))).code).toBe(0)
    expect(await elsewhere('sam').json('agent list')).toHaveLength(1)
  })

  it('that has expired comes back by itself where its profile lets the last key recover', async () => {
    const show = () => socket.json<ProfileAnswer>('profile show operator')
    const { hash } = await show()
    writeFileSync(join(profiles, 'operator.yaml'), 'kind: operator\nlifetime: 2d\nrecovery:\n  mode: same-key\n')
    server.child.kill('SIGHUP')
    await until('another profile', async () => (await show()).hash !== hash)
    const before = await credentialOf('sam')
    // A proof carries the time, so the clocks have to agree: it is the file that says that all is over.
    const file = join(directory, 'sam', 'identity.json')
    const past = new Date(Date.now() - 3_600_000).toISOString()
    const identity = JSON.parse(readFileSync(file, 'utf8')) as object
    writeFileSync(file, JSON.stringify({ ...identity, renewAfter: past, notAfter: past }))
    expect(await elsewhere('sam').json('agent list')).toHaveLength(1)
    expect((await credentialOf('sam')).facts).toMatchObject({ instance: before.facts.instance, generation: 2 })
  })
})

describe('a lock-out', () => {
  interface Recovered {
    readonly file: string
  }

  it('is ended by the owner of the home through the socket, and everybody hears of it', async () => {
    const { file } = await socket.json<Recovered>('operator recover admin --why lost')
    expect([file, statSync(file).mode & 0o777]).toEqual([home.paths.firstOperatorToken, 0o600])
    expect((await enrol(file, 'back')).code).toBe(0)
    expect((await enrol(file, 'back-again')).code).toBe(5)
    expect(await elsewhere('back').json('status')).toMatchObject({
      recovered: [{ operator: 'admin' }],
    })
    const doctor = await elsewhere('back').run('doctor -o json')
    expect(doctor.out).toContain('operator admin was let in by the owner of the CA’s home')
    expect((await elsewhere('back').run('operator recover sam')).code).not.toBe(0)
  })

  it('is ended without a server too', async () => {
    await server.stop()
    const refused = await socket.run('operator recover sam -o json')
    expect([refused.code, JSON.parse(refused.err).code]).toEqual([6, 'conflict'])
    const { file } = await socket.json<Recovered>('operator recover admin')
    server = await startCa(home, 'serve', { AGENTCA_PROFILES: profiles })
    expect((await enrol(file, 'back-later')).code).toBe(0)
    const [newest] = await socket.json<LeafAnswer[]>('audit tail --event operator_recovered -n 1')
    expect(newest).toMatchObject({ subject: 'operator:admin', content: { who: 'operator:local' } })
    expect(await elsewhere('back-later').json('operator list')).toBeDefined()
  })
})
