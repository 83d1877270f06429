// Consent to what cannot be taken back: counts, names, y/N; and how far a revocation is known to have got.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runCommand, type Surroundings } from './command.ts'
import { at, crl, issuing, leaf, pemOf, radius, serial, subscriber } from './fixtures.ts'
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

describe('how far a revocation got among those who follow the feed', () => {
  const late = Array.from({ length: 12 }, (_, i) => ({
    subscriber: `billing/${i + 1}`,
    staleSince: '2026-11-24T12:01:00.000Z',
    coveredUntil: '2026-11-24T12:06:15.000Z',
  }))
  const revokeAndWait = (more = '') => run(`revoke --serial ${serial} --reason superseded --yes --wait 1s${more}`)

  it('is applied where every service said so, and no CRL is looked at', async () => {
    server.answer('feedApplied', ({ query }) => ({ n: query.n, of: 41, applied: 41, afterMs: 38, missing: [] }))
    const { code, out } = await revokeAndWait()
    expect([code, server.calls.filter(({ name }) => name === 'crlStatus')]).toEqual([0, []])
    expect(out).toMatch(/^verifiers +applied at 41 of 41 after 38 ms$/m)
    expect(server.calls.at(-1)).toMatchObject({ name: 'feedApplied', query: { n: 8, waitMs: 1000 } })
  })

  it('is partly done, exit code 8, while any is stale; the answer says until when that one is covered', async () => {
    server.answer('feedApplied', ({ query }) => ({
      ...{ n: query.n, of: 41, applied: 40, afterMs: 38 },
      missing: late.slice(0, 1),
    }))
    const { code, out, err } = await revokeAndWait()
    expect(code).toBe(8)
    expect(out).toContain('applied at 40 of 41 after 38 ms; billing/1 stale since 12:01:00Z, covered until 12:06:15Z')
    expect(err).toContain('hint: agentca feed status')
  })

  it('names ten of many, and has all in its JSON', async () => {
    server.answer('feedApplied', ({ query }) => ({ n: query.n, of: 12, applied: 0, afterMs: null, missing: late }))
    expect((await revokeAndWait()).out).toMatch(/applied at 0 of 12; billing\/1 .*; billing\/10 .*; 2 more$/m)
    const { code, out } = await revokeAndWait(' -o json')
    expect([code, JSON.parse(out).applied.missing]).toEqual([8, late])
  })

  it('asks again until the time is over, never for longer than a connection may be silent', async () => {
    let asked = 0
    server.answer('feedApplied', ({ query }) => {
      const missing = ++asked < 3 ? late.slice(0, 1) : []
      return { n: query.n, of: 1, applied: missing.length === 0 ? 1 : 0, afterMs: 9, missing }
    })
    const { code } = await run(`revoke --serial ${serial} --reason superseded --yes --wait 60s`)
    expect([code, asked]).toEqual([0, 3])
    const waits = server.calls.flatMap(({ name, query }) => (name === 'feedApplied' ? [query] : []))
    expect(waits).toEqual(Array.from({ length: 3 }, () => ({ n: 8, waitMs: 20_000 })))
  })
})

describe('the subscribers of the feed', () => {
  it('are warned of, exit code 10, when a service does not hear', async () => {
    const subscribers = [subscriber('orders/1', { state: 'stale', staleSince: at }), subscriber('orders/2')]
    server.answer('feedStatus', () => ({
      ...{ epoch: 'e1', n: 8, oldest: 1, heartbeatSeconds: 5, leaseSeconds: 15 },
      subscribers,
    }))
    const { code, out, err } = await run('feed status')
    expect([code, err]).toEqual([10, 'not connected: orders/1\n'])
    expect(out).toContain('e1.8')
    expect(JSON.parse((await run('feed status -o json')).out).subscribers).toEqual(subscribers)
    expect((await run('feed status -o name')).out).toBe('orders/1\norders/2\n')
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
