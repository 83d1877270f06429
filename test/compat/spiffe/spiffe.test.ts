// go-spiffe over files that `agentca enroll` wrote and the bundle that the CA serves: SPIFFE's own library says whether they are what they claim.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { blockWith } from '../../setup/documents.ts'
import { mustRun, type Ran, runProgram, type ServedCa, startServedCa } from '../../story/served-ca.ts'
import { until } from '../../story/until.ts'
import { compat } from '../compat.ts'
import { builtGo, compileMs, type GoProgram, goSubject } from '../go-program.ts'
import type { FoundSubject } from '../subject.ts'

const program: GoProgram = {
  name: 'go-spiffe',
  folder: import.meta.dirname,
  module: 'github.com/spiffe/go-spiffe/v2',
}
const goSpiffe = goSubject(program)

const check = (what: string, run: (found: FoundSubject) => Promise<void>): void =>
  compat(goSpiffe, what, run, compileMs)

let made: Promise<ServedCa> | null = null
afterAll(async () => {
  if (made !== null) await (await made)[Symbol.asyncDispose]()
})

const domain = 'agentca.local'

const fetched = async (ca: ServedCa, path: string): Promise<string> => {
  const answer = await fetch(`${ca.urls.status}${path}`)
  const text = await answer.text()
  writeFileSync(join(ca.directory, path.split('/').at(-1) as string), text)
  return text
}

const makeAll = async (): Promise<ServedCa> => {
  const ca = await startServedCa()
  for (const name of ['orders', 'invoices', 'stolen']) await ca.enrolled(name)
  await fetched(ca, '/bundle.json')
  await fetched(ca, '/crl/bundle.pem')
  return ca
}

interface Scene {
  readonly ca: ServedCa
  run(...args: readonly string[]): Promise<Ran>
  idOf(name: string): string
}

const sceneOf = async (found: FoundSubject): Promise<Scene> => {
  const binary = await builtGo(program, found)
  made ??= makeAll()
  const ca = await made
  return {
    ca,
    run: (...args) => runProgram(binary, args, { cwd: ca.directory }),
    idOf: name => JSON.parse(readFileSync(join(ca.directory, name, 'identity.json'), 'utf8')).spiffeId,
  }
}

/** Of a caller to orders; both authorize exactly the other. */
const call = ({ run, idOf }: Scene, caller: string, more: readonly string[] = [], expected = caller): Promise<Ran> =>
  run('mtls', 'orders', caller, 'bundle.json', domain, idOf('orders'), idOf(expected), ...more)

check('reads a leaf as an X.509-SVID, and verifies it by the SPIFFE bundle', async found => {
  const { run, idOf } = await sceneOf(found)
  const { code, out, err } = await run('svid', 'invoices', 'bundle.json', domain)
  expect([code, err]).toEqual([0, ''])
  expect(JSON.parse(out)).toEqual({
    id: idOf('invoices'),
    chain: 3,
    authorities: 1,
    jwtKeys: 0,
    sequence: expect.any(Number),
    refreshSecond: expect.any(Number),
  })
  expect(JSON.parse(out).refreshSecond).toBeGreaterThan(0)
  const elsewhere = await run('svid', 'invoices', 'bundle.json', 'elsewhere.example')
  expect([elsewhere.code, elsewhere.err]).toEqual([1, expect.stringContaining('no X.509 bundle')])
})

check('connects two agents by mTLS, each authorized by its SPIFFE ID; another one is refused', async found => {
  const scene = await sceneOf(found)
  const { code, out, err } = await call(scene, 'invoices')
  expect([code, err]).toEqual([0, ''])
  expect(JSON.parse(out)).toEqual({ seen: scene.idOf('invoices') })
  const { run, idOf } = scene
  const byName = (caller: string) => run('mtls', 'orders', caller, 'bundle.json', domain, idOf('orders'), 'invoices')
  expect((await byName('invoices')).code).toBe(0)
  expect((await byName('stolen')).err).toContain('expected agent invoices, got spiffe://agentca.local/agent/stolen/i/')
  const other = await call(scene, 'stolen', [], 'invoices')
  expect([other.code, other.err]).toEqual([1, expect.stringMatching(/^server: .*unexpected ID/)])
})

check('refuses a revoked agent by the lists, as its page has it; without them it lets it in', async found => {
  const scene = await sceneOf(found)
  const { ca } = scene
  const lists = ['bundle.pem']
  expect((await call(scene, 'stolen', lists)).code).toBe(0)
  const { serial } = JSON.parse(readFileSync(join(ca.directory, 'stolen/identity.json'), 'utf8'))
  expect((await ca.agentca('revoke', '--agent', 'stolen', '--reason', 'keyCompromise', '--yes')).code).toBe(0)
  await until('the list has it', async () => {
    await fetched(ca, '/crl/bundle.pem')
    const read = ['crl', '-in', 'bundle.pem', '-noout', '-text']
    return (await mustRun('openssl', read, { cwd: ca.directory })).toLowerCase().includes(serial)
  })
  const refused = await call(scene, 'stolen', lists)
  expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('CN=agent-stolen is revoked')])
  expect((await call(scene, 'invoices', lists)).code).toBe(0)
  expect((await call(scene, 'stolen')).code).toBe(0)
  writeFileSync(join(ca.directory, 'none.pem'), '')
  const without = await call(scene, 'invoices', ['none.pem'])
  expect([without.code, without.err]).toEqual([1, expect.stringContaining('no current list of')])
})

it.each(['config.go', 'revocation.go'])('the page shows %s, which these checks run', file => {
  const source = readFileSync(join(import.meta.dirname, file), 'utf8')
  const [, first] = /^func (\w+)/m.exec(source) as unknown as [string, string]
  expect(blockWith('docs/integrations/go-spiffe.md', 'go', `func ${first}(`).text).toBe(source)
})
