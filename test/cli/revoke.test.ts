// Consent to what cannot be taken back: counts, names, y/N; and how far a revocation is known to have got.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runCommand, type Surroundings } from './command.ts'
import { at, crl, issuing, leaf, pemOf, radius, serial } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'
import { type StatusServer, startStatusServer } from './status-server.ts'

let server: TestServer
let status: StatusServer
beforeAll(async () => {
  server = await startServer()
  status = await startStatusServer(issuing)
})
afterAll(async () => {
  await status?.[Symbol.asyncDispose]()
  await server?.[Symbol.asyncDispose]()
})
beforeEach(() => {
  server.reset()
  status.revoked = []
})

const run = (line: string, around: Surroundings = {}) =>
  runCommand(line.split(' '), { env: server.env, cwd: server.directory, ...around })
const deeds = () => server.bodiesOf('revoke').filter(body => !(body as { dryRun: boolean }).dryRun)

describe('consent to a revocation', () => {
  it('shows the blast radius before anything is done', async () => {
    const { err } = await run('revoke --agent billing --reason superseded --dry-run')
    expect(err).toContain('dry run: this ends 3 live certificates, 3 instances, 0 tokens of agent billing')
    expect(deeds()).toEqual([])
  })

  it('asks y/N at a terminal where one certificate is hit, and does it on yes', async () => {
    const { code, err } = await run(`revoke --serial ${serial} --reason superseded`, { answers: [true] })
    expect([code, deeds().length]).toEqual([0, 1])
    expect(err).toContain(`revoke by serial ${serial}?`)
  })

  it('does nothing on no, and says so by exit code 130', async () => {
    const { code, err } = await run(`revoke --serial ${serial} --reason superseded`, { answers: [false] })
    expect([code, deeds().length]).toEqual([130, 0])
    expect(err).toContain('nothing was done')
  })

  it.each([
    ['without a terminal, one certificate needs --yes', `revoke --serial ${serial} --reason superseded`, '--yes'],
    ['many are not covered by --yes', 'revoke --owner finance --reason superseded --yes', '--confirm 3'],
    [
      'a wrong count is refused with the right one',
      'revoke --owner finance --reason superseded --confirm 2',
      '--confirm 3',
    ],
  ])('%s', async (_, line, hint) => {
    const { code, err } = await run(line)
    expect([code, deeds().length]).toEqual([6, 0])
    expect(err).toMatch(new RegExp(`hint: agentca revoke .*${hint}$`, 'm'))
  })

  it('does not ask where many are hit, even at a terminal: the count has to be typed', async () => {
    const { code } = await run('revoke --owner finance --reason superseded', { answers: [] })
    expect([code, deeds().length]).toEqual([6, 0])
  })

  it('sends the accepted count along, so that the server refuses when more would be hit by then', async () => {
    await run('revoke --owner finance --reason superseded --confirm 3')
    expect(deeds()).toMatchObject([{ by: 'owner', value: 'finance', expected: 3 }])
  })

  it('counts what is being signed as hit', async () => {
    server.answer('revoke', ({ body }) => ({
      ...{ by: body.by, value: body.value, reason: body.reason, at, dryRun: body.dryRun },
      radius: radius(1, { intents: 1 }),
      feed: null,
    }))
    const { code, err } = await run(`revoke --instance a1b2 --reason superseded --yes`)
    expect(code).toBe(6)
    expect(err).toContain('1 live certificate, 1 being signed')
    expect(err).toContain('--confirm 2')
  })

  it('takes a CA only by its name', async () => {
    expect((await run('revoke --issuer issuing-1 --reason cACompromise --confirm 3')).code).toBe(6)
    expect(deeds()).toEqual([])
    expect((await run('revoke --issuer issuing-1 --reason cACompromise --confirm issuing-1')).code).toBe(0)
    expect(deeds()).toMatchObject([{ by: 'issuer', value: 'issuing-1' }])
  })

  it.each([
    ['certificateHold', 'agentca agent hold NAME'],
    ['removeFromCRL', 'expected one of unspecified, keyCompromise'],
    ['because', 'expected one of unspecified, keyCompromise'],
  ])('refuses the reason %s', async (reason, says) => {
    const { code, err } = await run(`revoke --agent billing --reason ${reason} --confirm 3`)
    expect([code, err]).toEqual([2, expect.stringContaining(says)])
    expect(server.calls).toEqual([])
  })

  it('refuses two selectors', async () => {
    expect((await run('revoke --agent billing --owner finance --reason superseded')).code).toBe(2)
    expect(server.calls).toEqual([])
  })

  it('takes a key by a file that holds it', async () => {
    writeFileSync(join(server.directory, 'leaf.pem'), pemOf(leaf))
    await run('revoke --key leaf.pem --reason keyCompromise --dry-run')
    expect(server.bodiesOf('revoke')).toMatchObject([{ by: 'key', value: leaf.certificate.spkiHashHex }])
  })
})

describe('how far a revocation got', () => {
  const listAt = (): void =>
    server.answer('crlStatus', () => ({ items: [crl('issuing-1', `${status.url}/ca.crl`)], next: null }))

  it('is published once its serials are on the CRL', async () => {
    status.revoked = [leaf.certificate.serial]
    listAt()
    const { code, out } = await run(`revoke --serial ${serial} --reason superseded --yes --wait 5s -o json`)
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({
      radius: { serials: [serial] },
      publication: { state: 'published', missing: 0 },
    })
  })

  it('waits for the list that has them', async () => {
    listAt()
    let asked = 0
    server.answer('crlStatus', () => {
      if (++asked === 2) status.revoked = [leaf.certificate.serial]
      return { items: [{ ...crl('issuing-1', `${status.url}/ca.crl`), number: String(asked) }], next: null }
    })
    const { code, out } = await run(`revoke --serial ${serial} --reason superseded --yes --wait 30s`)
    expect([code, asked]).toEqual([0, 2])
    expect(out).toMatch(/^crl +published after \d+ ms$/m)
  })

  it('is partly done, exit code 8, when they are not on it in time', async () => {
    listAt()
    const { code, err } = await run(`revoke --serial ${serial} --reason superseded --yes --wait 1s`)
    expect(code).toBe(8)
    expect(err).toContain('1 not on the published CRLs yet')
  })

  it('is partly done when no list can be seen from here', async () => {
    const { code, err } = await run(`revoke --serial ${serial} --reason superseded --yes --wait 1s`)
    expect(code).toBe(8)
    expect(err).toContain('cannot be seen from here')
  })
})

describe('a join token', () => {
  const within = async (work: (directory: string) => Promise<void>): Promise<void> => {
    const directory = mkdtempSync(join(tmpdir(), 'agentca-token-'))
    try {
      await work(directory)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }

  it('comes as JSON with token and expiresAt', async () => {
    const { out } = await run('token create --agent billing -o json')
    expect(JSON.parse(out)).toMatchObject({ token: 'agentca-token-secret', expiresAt: at })
  })

  it('goes into a file for its owner alone, and then nowhere else', () =>
    within(async directory => {
      const { code, out, err } = await run('token create --agent billing --file token', { cwd: directory })
      expect(code).toBe(0)
      expect(out + err).not.toContain('agentca-token-secret')
      expect(readFileSync(join(directory, 'token'), 'utf8')).toBe('agentca-token-secret\n')
      expect(statSync(join(directory, 'token')).mode & 0o777).toBe(0o600)
      expect(err).toContain('--token-file token')
    }))

  it('is not made when its file could not be written', () =>
    within(async directory => {
      writeFileSync(join(directory, 'token'), '')
      expect((await run('token create --agent billing --file token', { cwd: directory })).code).toBe(2)
      expect(server.calls).toEqual([])
    }))

  it('binds to the hash of the key in a file', async () => {
    writeFileSync(join(server.directory, 'leaf.pem'), pemOf(leaf))
    await run('token create --agent billing --bind-key leaf.pem')
    expect(server.bodiesOf('tokensCreate')).toMatchObject([{ bindKeyHash: leaf.certificate.spkiHashHex }])
  })
})
