// The API's own certificate, when the disk fails or the process ends between what the CA recorded and what is kept, and when it is revoked.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import { createApiCertificate } from '../../src/server/api-certificate.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createTestAuthority, leaf, type TestAuthority } from '../ca/authority.ts'

let ca: TestAuthority
beforeAll(async () => {
  ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
  await ca.ledger.registrations.create(
    {
      kind: 'service',
      name: 'agentca',
      owner: null,
      purpose: '',
      profile: 'api',
      roles: [],
      attributes: {},
      dnsNames: ['localhost'],
      instanceLimit: null,
      operatorRole: null,
      until: null,
      at: Date.now(),
    },
    leaf('registration_created'),
  )
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

/** A third of its life has passed; only the server sees it so. */
const late = 11 * 86_400_000

const createBench = async () => {
  const directory = join(mkdtempSync(join(ca.directory, 'server-')), 'api')
  const time = { aheadMs: 0 }
  const open = () =>
    createApiCertificate({
      clock: { now: () => Date.now() + time.aheadMs, monotonic: systemClock.monotonic },
      log: silentLog,
      issuance: ca.issuance,
      issuers: createIssuers(ca.ledger.issuers, null),
      certificates: ca.ledger.certificates,
      directory,
    })
  const api = open()
  const first = (await api.load()).certificate.serialHex
  return { directory, api, first, time, open }
}
const recordOf = (serial: string) => ca.ledger.certificates.get(serial)!
const countOf = (instanceId: string) => ca.ledger.certificates.list({ instanceId, limit: 100 }).rows.length

test('however often it cannot be kept, its lineage gets one certificate more and is not locked', async () => {
  const { directory, api, first, time } = await createBench()
  time.aheadMs = late
  const inTheWay = join(directory, 'credential-bundle.pem')
  renameSync(inTheWay, `${inTheWay}.away`)
  mkdirSync(join(inTheWay, 'not-empty'), { recursive: true })
  for (let i = 0; i < 4; i++) await expect(api.renewIfDue()).rejects.toThrow()
  rmdirSync(join(inTheWay, 'not-empty'))
  rmdirSync(inTheWay)
  const renewed = await api.renewIfDue()
  const { instanceId } = recordOf(first)
  expect(recordOf(renewed!.certificate.serialHex)).toMatchObject({ instanceId, generation: 2, state: 'issued' })
  expect([recordOf(first).state, countOf(instanceId)]).toEqual(['issued', 2])
})

test('a process that ended behind the commit gets the same certificate after its next start', async () => {
  const { directory, api, first, time, open } = await createBench()
  time.aheadMs = late
  const bundle = join(directory, 'credential-bundle.pem')
  renameSync(bundle, `${bundle}.kept`)
  mkdirSync(join(bundle, 'not-empty'), { recursive: true })
  await expect(api.renewIfDue()).rejects.toThrow()
  rmdirSync(join(bundle, 'not-empty'))
  rmdirSync(bundle)
  renameSync(`${bundle}.kept`, bundle)
  const restarted = open()
  expect((await restarted.load()).certificate.serialHex).toBe(first)
  const renewed = await restarted.renewIfDue()
  expect(recordOf(renewed!.certificate.serialHex)).toMatchObject({ generation: 2, state: 'issued' })
  expect(countOf(recordOf(first).instanceId)).toBe(2)
})

test('a next key that became the present one is not asked with again, and neither is one that cannot be read', async () => {
  const { directory, api, first, time } = await createBench()
  const { key } = await api.load()
  time.aheadMs = late
  for (const text of [key, 'not a key']) {
    writeFileSync(join(directory, 'next-key.pem'), text)
    const renewed = await api.renewIfDue()
    expect(recordOf(renewed!.certificate.serialHex)).toMatchObject({ instanceId: recordOf(first).instanceId })
    expect(renewed!.key).not.toBe(text)
    expect(existsSync(join(directory, 'next-key.pem'))).toBe(false)
  }
})

test('one that was revoked is replaced before its time', async () => {
  const { api, first } = await createBench()
  expect(await api.renewIfDue()).toBeNull()
  await ca.ledger.revocations.revoke({
    selector: { by: 'instance', value: recordOf(first).instanceId },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => leaf('revoked'),
  })
  const replaced = await api.renewIfDue()
  expect(recordOf(replaced!.certificate.serialHex)).toMatchObject({ generation: 1, state: 'issued' })
  expect(await api.renewIfDue()).toBeNull()
})
