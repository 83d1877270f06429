// Declarative files at the command line, against the real admin API: the difference first, nothing twice, nothing retired by silence.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { createAdminRouter } from '../../src/http/admin/router.ts'
import { createApp } from '../../src/http/app.ts'
import { createListener, type Listener } from '../../src/http/listener.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { RegistrationAnswer } from '../../src/schema/admin-answers.ts'
import { homePaths } from '../../src/server/home.ts'
import { createRequester } from '../ca/authority.ts'
import { type AdminWorld, createAdminWorld } from '../http/admin/admin-world.ts'
import { runCommand } from './command.ts'

let world: AdminWorld
let listener: Listener
let directory: string
let env: Readonly<Record<string, string>>

beforeAll(async () => {
  world = await createAdminWorld()
  directory = mkdtempSync(join(tmpdir(), 'agentca-apply-'))
  const paths = homePaths(join(directory, 'home'))
  env = { AGENTCA_HOME: paths.home }
  mkdirSync(paths.run, { recursive: true, mode: 0o700 })
  const adminRouter = createAdminRouter(world.deps)
  listener = createListener(createServer(createApp({ face: 'socket', deps: world.front.deps, adminRouter })))
  await listener.listenOn(paths.adminSocket)
})
afterAll(async () => {
  await listener?.close(0)
  await world?.[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const run = (line: string) => runCommand(line.split(' '), { env, cwd: directory })
const write = (name: string, text: string): void => writeFileSync(join(directory, name), text)
const show = async (kind: string, name: string): Promise<RegistrationAnswer> =>
  JSON.parse((await run(`${kind} show ${name} -o json`)).out)
interface Planned {
  readonly steps: readonly { action: string; kind: string; name: string; changes: readonly { member: string }[] }[]
}

describe('the example', () => {
  it('shows what it would do, does it, and then has nothing to do', async () => {
    cpSync(join(root, 'ca-config/apply-example'), join(directory, 'example'), { recursive: true })
    const dry = await run('apply -f example --set example --dry-run -o json')
    expect(dry.code).toBe(0)
    expect((JSON.parse(dry.out) as Planned).steps.map(({ action, kind, name }) => `${action} ${kind} ${name}`)).toEqual(
      [
        'create owner platform@example.org',
        'create service orders',
        'create agent ci-acme',
        'create agent night-report',
        'apply policy policies',
      ],
    )
    expect((await run('agent show ci-acme')).code).toBe(3)

    const done = await run('apply -f example --set example')
    expect([done.code, done.err]).toEqual([0, '5 applied\n'])
    expect(await show('agent', 'ci-acme')).toMatchObject({
      ...{ owner: 'platform@example.org', roles: ['order-reader'], instances: 20, managedBy: 'example' },
      until: '2030-01-01T00:00:00.000Z',
    })
    expect((await show('agent', 'night-report')).boundKeyHash).toMatch(/^6ce5b50d/)

    const { version } = await show('agent', 'ci-acme')
    const again = await run('apply -f example --set example')
    expect([again.code, again.err]).toEqual([0, 'nothing to do: 5 as declared\n'])
    expect((await show('agent', 'ci-acme')).version).toBe(version)
  })

  it('changes what differs, and says from what to what', async () => {
    const file = join(directory, 'example/agents.yaml')
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace('instances: 20', 'instances: 5').replace('region: eu', 'region: us'),
    )
    const dry = await run('apply -f example --set example --dry-run -o json')
    const changed = (JSON.parse(dry.out) as Planned).steps.filter(({ action }) => action !== 'keep')
    expect(changed).toMatchObject([
      {
        ...{ action: 'update', name: 'ci-acme' },
        changes: [
          { member: 'attributes', from: { region: 'eu' }, to: { region: 'us' } },
          { member: 'instances', from: 20, to: 5 },
        ],
      },
    ])
    expect((await run('apply -f example --set example')).err).toBe('1 applied\n')
    expect(await show('agent', 'ci-acme')).toMatchObject({ instances: 5, attributes: { region: 'us' } })
  })
})

describe('pruning', () => {
  const agent = (name: string): string => `kind: Agent\nname: ${name}\nowner: finance\n`

  it('retires what belongs to the set and is declared no more, after its blast radius was confirmed', async () => {
    await run('agent create by-hand --owner finance')
    write('set.yaml', `${agent('stays')}---\n${agent('goes')}`)
    await run('apply -f set.yaml --set shop')
    for (const name of ['one', 'two']) {
      write(`${name}.csr`, encodePem('CERTIFICATE REQUEST', (await createRequester()).csr))
      expect((await run(`cert issue --agent goes --csr ${name}.csr`)).code).toBe(0)
    }
    write('set.yaml', agent('stays'))
    expect((await run('apply -f set.yaml --set shop')).err).toBe('nothing to do: 1 as declared\n')
    expect((await run('apply -f set.yaml --prune')).code).toBe(2)

    const unconfirmed = await run('apply -f set.yaml --set shop --prune')
    expect([unconfirmed.code, unconfirmed.err]).toEqual([6, expect.stringContaining('--confirm 2')])
    expect((await show('agent', 'goes')).state).toBe('active')
    const pruned = await run('apply -f set.yaml --set shop --prune --confirm 2')
    expect([pruned.code, pruned.err]).toEqual([0, expect.stringContaining('ends 2 live certificates')])
    expect((await show('agent', 'goes')).state).toBe('retired')
    for (const name of ['stays', 'by-hand']) expect((await show('agent', name)).state).toBe('active')
  })

  it('leaves what belongs to another set, which is not taken over by accident either', async () => {
    write('other.yaml', agent('stays'))
    const refused = await run('apply -f other.yaml --set other')
    expect([refused.code, refused.err]).toEqual([
      2,
      expect.stringContaining('other.yaml:1: agent stays belongs to set shop'),
    ])
    expect((await run('apply -f other.yaml --set other --take-over')).code).toBe(0)
    expect((await show('agent', 'stays')).managedBy).toBe('other')
  })
})

describe('owners', () => {
  interface Listed {
    readonly name: string
    readonly managedBy: string | null
    readonly registrations: number
  }
  const owner = async (name: string): Promise<Listed | undefined> =>
    (JSON.parse((await run('owner list -o json')).out) as readonly Listed[]).find(each => each.name === name)
  const planned = async (line: string): Promise<readonly string[]> =>
    (JSON.parse((await run(`${line} --dry-run -o json`)).out) as Planned).steps.map(
      ({ action, kind, name }) => `${action} ${kind} ${name}`,
    )

  it('come into being by their document alone, and the second apply has nothing to do', async () => {
    write('owner.yaml', 'kind: Owner\nname: archive\n')
    expect(await planned('apply -f owner.yaml')).toEqual(['create owner archive'])
    expect(await owner('archive')).toBeUndefined()
    expect((await run('apply -f owner.yaml')).err).toBe('1 applied\n')
    expect(await owner('archive')).toMatchObject({ registrations: 0, managedBy: null })
    expect((await run('apply -f owner.yaml')).err).toBe('nothing to do: 1 as declared\n')
    // A set that declares one who is in none takes it.
    const taking = await run('apply -f owner.yaml --set rooms --dry-run')
    expect(taking.out).toContain('managedBy: - → rooms')
    await run('apply -f owner.yaml --set rooms')
    expect(await owner('archive')).toMatchObject({ managedBy: 'rooms' })
    write('other-owner.yaml', 'kind: Owner\nname: archive\n')
    const refused = await run('apply -f other-owner.yaml --set other')
    expect([refused.code, refused.err]).toEqual([
      2,
      expect.stringContaining('other-owner.yaml:1: name: owner archive belongs to set rooms'),
    ])
  })

  it('are removed when pruning is asked for and nothing is registered to them, and never by silence', async () => {
    const owners = ['a', 'b', 'c'].map(name => `kind: Owner\nname: floor-${name}\n`)
    const agents = ['a', 'b'].map(name => `kind: Agent\nname: lift-${name}\nowner: floor-${name}\n`)
    write('house.yaml', [...owners, ...agents].join('---\n'))
    expect((await run('apply -f house.yaml --set house')).err).toBe('5 applied\n')
    await run('agent create by-hand-too --owner floor-b')
    await run('owner create floor-d')

    write('house.yaml', owners[0] as string)
    expect((await run('apply -f house.yaml --set house')).err).toBe('nothing to do: 1 as declared\n')
    const pruning = await run('apply -f house.yaml --set house --prune --dry-run -o json')
    expect(pruning.err).toContain('owner floor-b is declared no more and stays')
    expect((JSON.parse(pruning.out) as Planned).steps.map(({ action, name }) => `${action} ${name}`)).toEqual([
      'keep floor-a',
      'retire lift-a',
      'retire lift-b',
      'remove floor-c',
    ])
    expect((await run('apply -f house.yaml --set house --prune --confirm 0')).code).toBe(0)
    expect(await owner('floor-c')).toBeUndefined()
    for (const name of ['a', 'b', 'd']) expect(await owner(`floor-${name}`)).toBeDefined()

    // With its last agent goes, in the same apply, whose it was.
    await run('agent retire by-hand-too --yes')
    expect(await planned('apply -f house.yaml --set house --prune')).toEqual([
      'keep owner floor-a',
      'remove owner floor-b',
    ])
    await run('apply -f house.yaml --set house --prune')
    expect(await owner('floor-b')).toBeUndefined()
  })

  it('and their last agents go in one apply', async () => {
    write('both.yaml', 'kind: Owner\nname: tent\n---\nkind: Agent\nname: peg\nowner: tent\n')
    await run('apply -f both.yaml --set camp')
    write('both.yaml', 'kind: Owner\nname: caravan\n')
    const { code, err } = await run('apply -f both.yaml --set camp --prune --confirm 0')
    expect([code, err]).toEqual([0, expect.stringContaining('3 applied')])
    expect(await owner('tent')).toBeUndefined()
    expect((await show('agent', 'peg')).state).toBe('retired')
  })

  it('who are gone are a fault', async () => {
    write('gone.yaml', 'kind: Owner\nname: leaver\n')
    await run('apply -f gone.yaml')
    await run('owner gone leaver --yes')
    const { code, err } = await run('apply -f gone.yaml')
    expect([code, err]).toEqual([2, expect.stringContaining('gone.yaml:1: name: owner leaver is gone')])
  })
})

describe('faults', () => {
  it('are told all at once, with file and line, and nothing is done', async () => {
    write(
      'faulty.yaml',
      `kind: Agent
name: fine
owner: finance
---
kind: Agent
name: no-owner
instances: many
---
kind: Robot
name: what
---
kind: Service
name: spaced
dns: [a.example]
colour: blue
---
kind: Agent
name: fine
owner: finance
`,
    )
    const { code, err } = await run('apply -f faulty.yaml')
    expect(code).toBe(2)
    const told = err.split('\n').filter(line => line.startsWith('faulty.yaml:'))
    expect(told).toEqual([
      expect.stringMatching(/^faulty\.yaml:5: owner: /),
      expect.stringMatching(/^faulty\.yaml:7: instances: /),
      expect.stringMatching(/^faulty\.yaml:9: kind: expected kind Owner, Agent, Service or Policy/),
      expect.stringMatching(/^faulty\.yaml:15: colour: unknown key/),
      'faulty.yaml:17: Agent fine is at faulty.yaml:1 too',
    ])
    expect((await run('agent show fine')).code).toBe(3)
  })

  it('that only the server knows are told before anything is done, too', async () => {
    write(
      'unknown.yaml',
      'kind: Agent\nname: first\nowner: finance\n---\nkind: Agent\nname: second\nowner: finance\nprofile: nope\n',
    )
    const { code, err } = await run('apply -f unknown.yaml')
    expect([code, err]).toEqual([2, expect.stringContaining('unknown.yaml:5: no profile is called nope')])
    expect((await run('agent show first')).code).toBe(3)
  })

  it('a policy whose cases do not hold is refused where nothing else changes', async () => {
    cpSync(join(directory, 'example/policies'), join(directory, 'wrong-policies'), { recursive: true })
    write(
      'wrong-policies/tests/wrong.yaml',
      '- name: nobody\n  agent: ci-acme\n  action: orders:read\n  expect: deny\n',
    )
    write('policy.yaml', 'kind: Policy\ndirectory: wrong-policies\n')
    const { code, err } = await run('apply -f policy.yaml')
    expect([code, err]).toEqual([2, expect.stringContaining('1 cases do not hold')])
  })

  it('where a part fails, says what was applied', async () => {
    write('part.yaml', 'kind: Agent\nname: applied\nowner: finance\n---\nkind: Policy\ndirectory: wrong-policies\n')
    const { out, err } = await run('apply -f part.yaml -o json')
    expect(JSON.parse(out)).toMatchObject({
      applied: [{ action: 'create', name: 'applied' }],
      failed: { kind: 'policy', name: 'wrong-policies' },
    })
    expect(err).toContain('1 of 2 were applied')
    expect((await show('agent', 'applied')).state).toBe('active')
  })

  it('an empty file, and a file that is not there', async () => {
    write('empty.yaml', '---\n')
    expect(await run('apply -f empty.yaml')).toMatchObject({ code: 2 })
    expect((await run('apply -f nowhere.yaml')).err).toContain('cannot read nowhere.yaml')
  })
})
