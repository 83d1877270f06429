// The command line against the real admin API: a real authority, signer and ledger behind the admin socket, and OpenSSL as the judge of
// what comes out.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAdminRouter } from '../../src/http/admin/router.ts'
import { createApp } from '../../src/http/app.ts'
import { createListener, type Listener } from '../../src/http/listener.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { CertificateAnswer, StatusAnswer } from '../../src/schema/admin-answers.ts'
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
  directory = mkdtempSync(join(tmpdir(), 'agentca-cli-'))
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
/** A command that has to succeed, and its JSON. */
const json = async <T>(line: string): Promise<T> => {
  const { code, out, err } = await run(`${line} -o json`)
  expect([line, code, code === 0 ? '' : err]).toEqual([line, 0, ''])
  return JSON.parse(out) as T
}

let files = 0
const requestFile = async (): Promise<string> => {
  const name = `request-${++files}.pem`
  writeFileSync(join(directory, name), encodePem('CERTIFICATE REQUEST', (await createRequester()).csr))
  return name
}
const issue = async (agent: string): Promise<string> =>
  (await json<{ serial: string }>(`cert issue --agent ${agent} --csr ${await requestFile()}`)).serial

describe('an agent’s life at the command line', () => {
  it('is registered, gets certificates, is held, released and retired', async () => {
    await json('agent create billing --owner finance --role payer --attribute tier=gold --until 30d')
    expect(await run('agent create billing --owner finance')).toMatchObject({ code: 6, out: '' })
    const nope = await run('agent create unprofiled --owner finance --profile nope')
    expect([nope.code, nope.err]).toEqual([3, expect.stringContaining('agentca profile list')])
    const serials = [await issue('billing'), await issue('billing')]
    expect((await run('cert list --agent billing -o name')).out.trim().split('\n')).toEqual(serials.toReversed())

    await json('agent hold billing --why odd')
    expect(
      (await json<CertificateAnswer[]>('cert list --agent billing --state held')).map(each => each.reason),
    ).toEqual(['certificateHold', 'certificateHold'])
    const refused = await run(`cert issue --agent billing --csr ${await requestFile()}`)
    expect([refused.code, refused.err]).toEqual([5, expect.stringContaining('agentca agent release billing')])
    await json('agent release billing')
    expect(await json<CertificateAnswer[]>('cert list --agent billing --state issued')).toHaveLength(2)

    const unconfirmed = await run('agent retire billing')
    expect([unconfirmed.code, unconfirmed.err]).toEqual([
      6,
      expect.stringContaining('agent retire billing --confirm 2'),
    ])
    const retired = await run('agent retire billing --confirm 2')
    expect([retired.code, retired.err]).toEqual([
      0,
      expect.stringMatching(
        /^retired agent billing: 2 live certificates, 2 instances, 0 tokens of agent billing, 0 subscriptions; archived are audit leaves \d+ to \d+$/m,
      ),
    ])
    expect(await json<CertificateAnswer[]>('cert list --agent billing --state revoked')).toHaveLength(2)
    expect((await run(`cert issue --agent billing --csr ${await requestFile()}`)).code).toBe(5)
  })

  it('changes with its registration', async () => {
    await json('agent create changing --owner finance')
    await json('agent update changing --owner treasury --instances 1 --role auditor')
    expect(await json('agent show changing')).toMatchObject({ owner: 'treasury', instances: 1, roles: ['auditor'] })
    await issue('changing')
    const second = await run(`cert issue --agent changing --csr ${await requestFile()}`)
    expect([second.code, second.err]).toEqual([5, expect.stringContaining('instance_limit_reached')])
    await json('agent attest changing --until 2040-01-01')
    expect(await json('agent show changing')).toMatchObject({ until: '2040-01-01T00:00:00.000Z' })
  })

  it('is written down', async () => {
    const leaves = await json<{ event: string; subject: string | null }[]>('audit tail --subject agent:billing -n 50')
    expect(leaves.map(each => each.event)).toContain('registration_created')
    expect(leaves.every(each => each.subject === 'agent:billing')).toBe(true)
  })
})

describe('a revocation at the command line', () => {
  it('hits what its preview showed, and shows on the CRL that OpenSSL reads', async () => {
    await json('agent create revoked --owner finance')
    const serials = [await issue('revoked'), await issue('revoked'), await issue('revoked')]
    const preview = await run('revoke --agent revoked --reason keyCompromise --dry-run -o name')
    expect([preview.code, preview.out.trim().split('\n').toSorted()]).toEqual([0, serials.toSorted()])
    expect((await run('revoke --agent revoked --reason keyCompromise --confirm 2')).code).toBe(6)
    await json('revoke --agent revoked --reason keyCompromise --confirm 3')
    await json('crl publish')
    const crl = world.ledger.status.latestCrl(world.front.ca.issuer.id)
    writeFileSync(join(directory, 'crl.der'), crl?.der as Uint8Array)
    const text = execFileSync('openssl', [
      'crl',
      '-inform',
      'DER',
      '-in',
      join(directory, 'crl.der'),
      '-noout',
      '-text',
    ])
      .toString()
      .toLowerCase()
    for (const serial of serials) expect(text).toContain(serial)
  })

  it('of one instance leaves the others alone', async () => {
    await json('agent create fleet --owner finance')
    const [first, second] = [await issue('fleet'), await issue('fleet')]
    const { instance } = await json<CertificateAnswer>(`cert show ${first}`)
    await json(`instance revoke ${instance} --reason superseded --yes`)
    expect(await json(`cert show ${first}`)).toMatchObject({ state: 'revoked', reason: 'superseded' })
    expect(await json(`cert show ${second}`)).toMatchObject({ state: 'issued' })
    expect(await json(`instance show ${instance}`)).toMatchObject({ state: 'revoked' })
  })

  it('of what nobody has is not found', async () => {
    expect((await run('revoke --agent nobody --reason superseded --yes')).code).toBe(3)
    expect((await run('revoke --serial 0abc --reason superseded --yes')).code).toBe(3)
  })
})

describe('tokens and owners at the command line', () => {
  it('makes a token, lists it without its secret, and revokes it', async () => {
    await json('agent create joining --owner finance')
    const created = await json<{ id: string; token: string; expiresAt: string }>(
      'token create --agent joining --ttl 15m',
    )
    expect(created.token.length).toBeGreaterThan(40)
    const listed = await run('token list --agent joining -o json')
    expect(listed.out).toContain(created.id)
    expect(listed.out).not.toContain(created.token)
    expect(await json(`token revoke ${created.id}`)).toMatchObject({ state: 'revoked' })
    expect((await run('token revoke nothing')).code).toBe(3)
  })

  it('holds the agents of an owner who left', async () => {
    await json('agent create orphan --owner leaver')
    await issue('orphan')
    expect((await run('owner gone leaver')).code).toBe(6)
    await json('owner gone leaver --yes')
    expect(await json('agent show orphan')).toMatchObject({ state: 'held' })
    expect(
      (await json<{ name: string; state: string }[]>('owner list')).find(each => each.name === 'leaver')?.state,
    ).toBe('gone')
  })
})

describe('certificates at the command line', () => {
  it('come out as OpenSSL reads them, and inspect as they were shown', async () => {
    await json('agent create exported --owner finance')
    const serial = await issue('exported')
    expect((await run(`cert export ${serial} --chain --file chain.pem`)).code).toBe(0)
    const args = ['x509', '-in', join(directory, 'chain.pem'), '-noout', '-serial']
    expect(execFileSync('openssl', args).toString().trim().toLowerCase()).toBe(`serial=${serial}`)
    const [leaf, ca] = JSON.parse((await run('cert inspect chain.pem -o json')).out) as {
      serial: string
      ca: boolean
    }[]
    expect([leaf?.serial, leaf?.ca, ca?.ca]).toEqual([serial, false, true])
  })
})

describe('the CA at the command line', () => {
  it('shows itself on one screen', async () => {
    const { code, out } = await run('status')
    expect(code).toBe(0)
    expect(out).toMatch(/^issuing-1 +issuing +active/m)
    expect(await json<StatusAnswer>('status')).toMatchObject({ signer: { state: 'ready' }, clock: { state: 'ok' } })
  })

  it('shows its keys, which cannot be taken out of their token', async () => {
    expect(await json('hsm keys')).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ label: 'issuing-1', extractable: false, sensitive: true, local: true }),
      ]),
    )
    expect(await json('hsm status')).toMatchObject({ state: 'ready' })
  })

  it('shows its CAs and the bundle', async () => {
    expect((await run('ca list -o name')).out.trim().split('\n').toSorted()).toEqual(['issuing-1', 'root-1'])
    writeFileSync(join(directory, 'bundle.pem'), (await run('bundle show')).out)
    const args = ['x509', '-in', join(directory, 'bundle.pem'), '-noout', '-subject', '-nameopt', 'RFC2253']
    expect(execFileSync('openssl', args).toString()).toContain('CN=agentca test root')
    expect((await run('ca activate issuing-9 --confirm issuing-9')).code).toBe(3)
  })

  it('has an audit log whose every leaf verifies, from the server and from an export', async () => {
    const { size } = world.ledger.audit.head()
    expect(size).toBeGreaterThan(20)
    const verdict = await run('audit verify -o json')
    expect(verdict.code).toBe(10)
    expect(JSON.parse(verdict.out)).toMatchObject({ findings: [] })
    expect((await run('audit export --file log.jsonl')).code).toBe(0)
    const exported = await run('audit verify --file log.jsonl -o json')
    expect(JSON.parse(exported.out)).toMatchObject({ size: world.ledger.audit.head().size, findings: [] })
  })

  it('lists profiles, and answers for its clock', async () => {
    expect((await run('profile list -o name')).out).toContain('agent\n')
    expect((await run('clock show -o name')).out).toBe('ok\n')
  })
})
