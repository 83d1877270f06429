// Rows on their way from a ledger to lists: in the event loop and in a thread, over a thread's death, and beside changes.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { noSteps } from '../../src/base/steps.ts'
import { type CrlDeps, completeScope, issueCrl } from '../../src/ca/crl.ts'
import { type CrlEntries, type CrlEntriesDeps, createCrlEntries } from '../../src/ca/crl-entries.ts'
import type { ListOrder } from '../../src/ca/crl-table.ts'
import { allOctets } from '../../src/pki/crl-shards.ts'
import { eventually } from '../signer/harness.ts'
import { leaf } from './authority.ts'
import { createPublication, type Publication, serialsOf } from './publication.ts'

let world: Publication
let directory: string
beforeAll(async () => {
  world = await createPublication()
  directory = mkdtempSync(join(tmpdir(), 'agentca-entries-'))
  for (const serial of await world.enrolled('listed', 40)) await world.revoke(serial)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
})

const open = (changes: Partial<CrlEntriesDeps> = {}): CrlEntries & AsyncDisposable => {
  const entries = createCrlEntries({ log: silentLog, revocations: world.ca.ledger.revocations, ...changes })
  return { ...entries, [Symbol.asyncDispose]: () => entries.close() }
}
const inThread = { inlineRows: 5 }

const issue = async (entries: CrlEntries) => {
  const deps: CrlDeps = {
    clock: systemClock,
    entries,
    signer: world.ca.signer.client,
    published: () => leaf('crl_published'),
    lifetimeSeconds: 86_400,
    regularIntervalSeconds: 43_200,
    signDeadlineMs: 20_000,
    reached: noSteps,
  }
  const { issuer, ledger } = world.ca
  return issueCrl(deps, issuer, completeScope(ledger.status, issuer.id), 0n)
}
const fieldsOfNow = (): ListOrder['fields'] => ({
  issuerName: world.ca.issuer.subjectDer,
  signatureAlgorithm: world.ca.issuer.signatureAlgorithm,
  authorityKeyId: world.ca.issuer.keyIdentifier,
  crlNumber: 1n,
  thisUpdate: Date.now(),
  nextUpdate: Date.now() + 86_400_000,
})
const inLedger = (): readonly string[] =>
  world.ca.ledger.revocations
    .entries({ issuerId: world.ca.issuer.id, since: 0, after: null, limit: 1000 })
    .map(({ serial }) => serial)

describe('a list', () => {
  it.each([
    ['in the event loop', {}],
    ['in a thread', inThread],
    ['where there is no thread', { ...inThread, thread: null }],
  ])('has every row of the ledger, written %s', async (_where, changes) => {
    await using entries = open(changes)
    expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
    const [serial] = await world.enrolled(`later-${Math.random().toString(36).slice(2)}`)
    await world.revoke(serial!)
    const next = await issue(entries)
    expect(serialsOf(next.der)).toContain(serial)
    expect(next.revision).toBe(world.ca.ledger.revocations.revision(world.ca.issuer.id))
  })

  it('moves to a thread when rows outgrow the event loop, and misses none of them', async () => {
    await using entries = open({ inlineRows: inLedger().length + 2 })
    expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
    for (const serial of await world.enrolled('outgrows', 6)) {
      await world.revoke(serial)
      expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
    }
  })

  it('shows a release as soon as the hold is gone', async () => {
    const { registrations } = world.ca.ledger
    const [serial] = await world.enrolled('held-once')
    const change = (state: 'held' | 'active') =>
      registrations.change({
        kind: 'agent',
        name: 'held-once',
        at: Date.now(),
        decide: () => ({ set: {}, state }),
        leaf: () => leaf('registration_changed'),
      })
    await using entries = open(inThread)
    await change('held')
    expect(serialsOf((await issue(entries)).der)).toContain(serial)
    await change('active')
    expect(serialsOf((await issue(entries)).der)).not.toContain(serial)
  })

  it('that is ordered while rows of its own are lost is refused, never empty', async () => {
    const dies = join(directory, 'dies.ts')
    writeFileSync(
      dies,
      `import { parentPort } from 'node:worker_threads'\nparentPort.on('message', () => process.exit(3))\n`,
    )
    await using entries = open({ ...inThread, thread: pathToFileURL(dies) })
    await expect(issue(entries)).rejects.toMatchObject({ code: 'internal' })
    await expect(issue(entries)).rejects.toMatchObject({ code: 'internal' })
  })
})

describe('what is followed', () => {
  it('says which serials changed last', async () => {
    await using entries = open()
    const { issuer, ledger } = world.ca
    await entries.follow(issuer.id)
    const [serial] = await world.enrolled('changed')
    await world.revoke(serial!)
    const octet = Number.parseInt(serial!.slice(-2), 16)
    const revision = ledger.revocations.revision(issuer.id)
    expect(entries.changedAt(issuer.id, { from: octet, to: octet })).toBeLessThan(revision)
    await entries.follow(issuer.id)
    expect(entries.changedAt(issuer.id, { from: octet, to: octet })).toBe(revision)
    expect(entries.changedAt(issuer.id, allOctets)).toBe(revision)
  })

  it('is read again from the beginning when the thread has ended', async () => {
    const once = join(directory, 'once.ts')
    const press = new URL('../../src/ca/crl-press-thread.ts', import.meta.url).href
    const flag = join(directory, 'died')
    writeFileSync(
      once,
      `import { existsSync, writeFileSync } from 'node:fs'
       if (existsSync(${JSON.stringify(flag)})) await import(${JSON.stringify(press)})
       else { writeFileSync(${JSON.stringify(flag)}, ''); process.exit(1) }`,
    )
    await using entries = open({ ...inThread, thread: pathToFileURL(once) })
    await issue(entries).catch(() => {})
    let der: Uint8Array | null = null
    await eventually('a list by another thread', async () => {
      der = await issue(entries).then(
        list => list.der,
        () => null,
      )
      return der !== null
    })
    expect(serialsOf(der!)).toEqual(inLedger())
  })

  it('is read again when a list needs what was dropped under a clock that was ahead', async () => {
    let ms = 0
    await using entries = open({ clock: { monotonic: () => ms } })
    expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
    const followed = await entries.follow(world.ca.issuer.id)
    const order = (since: number): ListOrder => ({ since, octets: allOctets, fields: fieldsOfNow() })
    ms = 3_600_000
    expect((await entries.write(followed, order(Date.now() + 400 * 86_400_000))).entries).toBe(0)
    await expect(entries.write(followed, order(0))).rejects.toMatchObject({ code: 'internal' })
    expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
  })

  it('is given up when the thread dies while it is filled: others have their turn', async () => {
    const fails = join(directory, 'fails.ts')
    writeFileSync(fails, `throw new Error('cannot start')\n`)
    const rows = Array.from({ length: 1000 }, (_, i) => ({
      ...{ serial: Uint8Array.of(1, i >> 8, i & 255), listed: true, reason: 'unspecified' as const },
      ...{ revokedAt: 0, notAfter: Date.now(), revision: 1 },
    }))
    // So many that the reading outlasts any thread's start.
    const endless = { revision: 1, next: () => rows, [Symbol.dispose]: () => {} }
    const few = { ...endless, next: () => rows.slice(0, 3) }
    const revocations: CrlEntriesDeps['revocations'] = {
      readRows: issuerId => (issuerId === 1 ? endless : few),
      rowsSince: () => [],
      revision: () => 1,
    }
    await using entries = open({ ...inThread, thread: pathToFileURL(fails), revocations })
    const [first, other] = [entries.follow(1), entries.follow(2)]
    await expect(first).rejects.toMatchObject({ code: 'internal' })
    expect(await other).toMatchObject({ issuerId: 2, revision: 1 })
  })
})

it('a thread that dies each time is left alone for some minutes: lists are written in the event loop', async () => {
  const starts = join(directory, 'starts')
  const dies = join(directory, 'dies-each-time.ts')
  writeFileSync(
    dies,
    `import { appendFileSync } from 'node:fs'\nappendFileSync(${JSON.stringify(starts)}, '.')\nprocess.exit(1)\n`,
  )
  const begun = () => readFileSync(starts, 'utf8').length
  let ms = 0
  await using entries = open({ ...inThread, thread: pathToFileURL(dies), clock: { monotonic: () => ms } })
  for (let i = 0; i < 3; i++) await expect(issue(entries)).rejects.toMatchObject({ code: 'internal' })
  for (let i = 0; i < 2; i++) expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
  expect(begun()).toBe(3)
  ms = 3_600_000
  await expect(issue(entries)).rejects.toMatchObject({ code: 'internal' })
  expect(begun()).toBe(4)
  expect(serialsOf((await issue(entries)).der)).toEqual(inLedger())
  expect(begun()).toBe(4)
})
