// The present state of an account, where a story would have to start its CA twice.
import { expect, it } from 'vitest'
import type { AcmeDeps } from '../../src/acme/deps.ts'
import { checkAccountState } from '../../src/acme/request.ts'
import type { AcmeAccount } from '../../src/store/acme-port.ts'
import type { Registration } from '../../src/store/records.ts'

const depsWith = (unboundService: string | null) =>
  ({
    clock: { now: () => 1000 },
    settings: { unboundService },
    instances: { get: () => null },
    owners: { find: () => null },
  }) as unknown as AcmeDeps
const registration = { kind: 'service', name: 'open', owner: null, until: null, state: 'active' } as Registration
const accountWith = (kid: string | null) => ({ id: 'a', kid, deactivatedAt: null }) as AcmeAccount

it('an account without a binding is accepted as long as none is required', () => {
  const check = (unboundService: string | null, kid: string | null) => () =>
    checkAccountState(depsWith(unboundService), accountWith(kid), registration)
  expect(check('open', null)).not.toThrow()
  expect(check(null, 'k')).not.toThrow()
  expect(check(null, null)).toThrow(expect.objectContaining({ code: 'externalAccountRequired' }))
})
