// Every command against a server: once right, with the requests it makes and what it shows, and once wrong, with exit code and cure.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { createProgram } from '../../src/cli/program.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { createRequester } from '../ca/authority.ts'
import { cases } from './cases.ts'
import { runCommand, silentIo } from './command.ts'
import { issuing, leaf, logKeyPem, pemOf, root } from './fixtures.ts'
import { policyActions, policyText } from './policy-fixtures.ts'
import { startServer, type TestServer } from './server.ts'
import { type StatusServer, startStatusServer } from './status-server.ts'

let server: TestServer
let status: StatusServer

beforeAll(async () => {
  server = await startServer()
  status = await startStatusServer(issuing)
  const write = (name: string, content: string): void => writeFileSync(join(server.directory, name), content)
  write('monitor.yaml', 'rules: {burst: {when: rate, action: hold, ceiling: 100}}')
  write('rules-wrong.yaml', 'rules: {loud: {when: rate, action: shout, ceiling: 100}}')
  const { csr } = await createRequester()
  write('request.pem', encodePem('CERTIFICATE REQUEST', csr))
  write('key.pem', encodePem('PUBLIC KEY', leaf.certificate.spkiDer))
  write('leaf.pem', pemOf(leaf))
  write('issuing.pem', pemOf(issuing))
  write('root.pem', pemOf(root))
  write('log.pem', logKeyPem)
  write('pin', '123456\n')
  write('job.jwt', 'a.b.c\n')
  write('declared.yaml', 'kind: Agent\nname: ci-acme\nowner: finance\n')
  const attestor = 'kind: jwt\nissuer: https://issuer.test\naudience: ca\nrules: [{agent: ci, require: {sub: job}}]\n'
  write('attestor-good.yaml', attestor)
  write('attestor-faulty.yaml', `${attestor}algorithms: [HS256]\n`)
  write('bad.yaml', 'kind: agent\nlifetime: 1s\n')
  for (const name of ['profiles', 'policies', 'bad-policies']) mkdirSync(join(server.directory, name))
  write('policies/actions.yaml', policyActions)
  write('policies/orders.cedar', policyText)
  write('bad-policies/wrong.cedar', '// two lines\npermit(principal);\n')
  write('profiles/agent.yaml', 'kind: agent\nlifetime: 1h\n')
})
afterAll(async () => {
  await status?.[Symbol.asyncDispose]()
  await server?.[Symbol.asyncDispose]()
})
beforeEach(() => server.reset())

const argvOf = (line: string): readonly string[] =>
  line
    .split(' ')
    .map(word =>
      word === '@crl.url'
        ? `${status.url}/ca.crl`
        : word === '@ocsp.url'
          ? `${status.url}/ocsp`
          : word.replace(/^@/, ''),
    )

const run = (line: string) => runCommand(argvOf(line), { env: server.env, cwd: server.directory })

/** Commands that others own have their tests elsewhere. */
const elsewhere: ReadonlySet<string> = new Set([
  // test/story/backup.test.ts
  'backup create',
  'backup restore',
  'backup verify',
  // test/attack/served/two-users.test.ts
  'signer serve',
  'signer separate',
  'signer add-key',
  'init',
  'serve',
  'enroll',
  'ceremony root',
  'ceremony issuing',
  'ceremony crl',
])

const leavesOf = (command: Command, path: readonly string[] = []): readonly string[] =>
  command.commands.length === 0
    ? [path.join(' ')]
    : command.commands.flatMap(child => leavesOf(child, [...path, child.name()]))

it('knows every command of the tree, and no other', async () => {
  const known = leavesOf(await createProgram(silentIo)).filter(path => !elsewhere.has(path))
  expect(Object.keys(cases).sort()).toEqual(known.toSorted())
})

/** Reads, and what only writes a file of the caller's. Every other command changes something of a CA. */
const reads =
  /^(status|doctor|why|version|completion|activity|top|orphans)$|(^| )(rules|findings|list|show|status|check|keys|inspect|export|tail|verify|explain|test|diff|suggest|fetch)$/

it('has a dry run for every command that changes something', async () => {
  const without = leavesOf(await createProgram(silentIo)).filter(path => !reads.test(path) && !elsewhere.has(path))
  for (const path of without) expect((await runCommand([...path.split(' '), '--help'])).out).toContain('--dry-run')
})

it('loads the one command that is asked for, by the name it has in the tree', async () => {
  const { commands } = await createProgram(silentIo)
  for (const name of commands.map(command => command.name()))
    expect((await createProgram(silentIo, name)).commands.map(command => command.name())).toEqual([name])
  expect((await createProgram(silentIo, 'agnet')).commands).toHaveLength(commands.length)
})

it.each(Object.entries(cases))('agentca %s does its work', async (_, { good, asks = [], shows, code = 0 }) => {
  const ran = await run(good)
  expect([ran.code, ran.code === code ? '' : ran.err]).toEqual([code, ''])
  expect(ran.out).toContain(shows)
  for (const [at, [name, body]] of asks.entries()) {
    expect(server.calls[at]).toMatchObject({ name, ...(body === undefined ? {} : { body }) })
  }
  if (asks.length > 0) expect(server.calls).toHaveLength(asks.length)
})

it.each(Object.entries(cases))(
  'agentca %s refuses what is wrong, and says why',
  async (_, { wrong, wrongCode, says }) => {
    const ran = await run(wrong)
    expect([ran.code, ran.err]).toEqual([wrongCode, expect.stringContaining(says)])
  },
)

it.each(Object.entries(cases))('agentca %s has a help that names its options', async path => {
  const { code, out, err } = await runCommand([...path.split(' '), '--help'])
  expect([code, err]).toEqual([0, ''])
  expect(out).toContain(`Usage: agentca ${path}`)
})
