// The configuration of ACME beside its probes.
import { expect, it } from 'vitest'
import { parseConfig } from '../../src/schema/config.ts'
import type { SchemaError } from '../../src/schema/errors.ts'

const parsed = (text: string, env: Readonly<Record<string, string>> = {}) =>
  parseConfig({ text, source: 'agentca.yaml', env }).acme

it('external accounts are required unless the file or the environment says no, and names the service of the others', () => {
  expect(parsed('')).toMatchObject({ requireExternalAccount: true, orderLifetime: 86_400, maxOpenOrders: 100 })
  expect(parsed('').maxUnboundAccounts).toBe(10_000)
  const open = { requireExternalAccount: false, unboundService: 'open' }
  expect(parsed('acme: {requireExternalAccount: false, unboundService: open}')).toMatchObject(open)
  const env = { AGENTCA_ACME_REQUIREEXTERNALACCOUNT: 'false', AGENTCA_ACME_UNBOUNDSERVICE: 'open' }
  expect(parsed('', env)).toMatchObject(open)
})

it.each([
  ['acme: {requireExternalAccount: false}', 'acme.unboundService'],
  ['acme: {requireExternalAccount: maybe}', 'acme.requireExternalAccount'],
  ['acme: {orders: {burst: 0}}', 'acme.orders.burst'],
  ['acme: {maxUnboundAccounts: 0}', 'acme.maxUnboundAccounts'],
])('%s is a fault of %s', (text, path) => {
  let faults: SchemaError['faults'] = []
  try {
    parsed(text)
  } catch (error) {
    faults = (error as SchemaError).faults
  }
  expect(faults.map(fault => fault.path)).toContain(path)
})
