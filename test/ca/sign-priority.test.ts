// Which signatures go first: those of holders who would lose what they have.
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { AcmeAccount } from '../../src/store/acme-port.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createRequester, createTestAuthority, leaf, type TestAuthority } from './authority.ts'

let ca: TestAuthority
beforeAll(async () => {
  ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
}, 120_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const accountOf = async (name: string): Promise<AcmeAccount> => {
  const { id: registrationId } = await ca.registerAgent(name)
  const id = randomBytes(16).toString('hex')
  const account = { id, registrationId, kid: null, thumbprint: id, jwk: '{}', contacts: [], names: [], createdAt: 1 }
  const keyHash = randomBytes(32).toString('hex')
  const decide = () => ({ act: 'create', leaf: leaf('acme_account_created') }) as const
  await ca.ledger.acme.accounts.create({ account, keyHash, decide })
  return { ...account, deactivatedAt: null }
}

/** Its certificate, and with which priority that was signed. */
const order = async (account: AcmeAccount) => {
  const orderId = randomBytes(8).toString('hex')
  const [createdAt, expiresAt] = [Date.now(), Date.now() + 3_600_000]
  const nothing = {
    authorizations: [],
    notBefore: null,
    notAfter: null,
    replaces: null,
    certificate: null,
    error: null,
  }
  const row = { id: orderId, account: account.id, profile: 'agent', ...nothing, expiresAt, createdAt }
  await ca.ledger.acme.orders.create(row, leaf('acme_order_created'))
  await ca.issuance.issue({
    operation: 'order',
    evidence: { kind: 'account', accountId: account.id, orderId },
    csr: (await createRequester()).csr,
    context: { requestId: orderId, who: 'agent', source: '127.0.0.1' },
    terms: { profile: 'agent', hosts: [], listed: [], notBefore: null, notAfter: null },
  })
  return ca.priorities.at(-1)
}

it('an enrolment waits for renewals, and so does the first order of an ACME account; its next ones are renewals', async () => {
  const agent = await ca.registerAgent('billing')
  const first = await ca.enrol(await ca.createToken(agent.id), await createRequester())
  expect(ca.priorities.at(-1)).toBe('enrol')
  await ca.renew(first.record.serial, await createRequester())
  expect(ca.priorities.at(-1)).toBe('renew')

  const account = await accountOf('orders')
  expect([await order(account), await order(account)]).toEqual(['enrol', 'renew'])
  expect(await order(await accountOf('others'))).toBe('enrol')
})
