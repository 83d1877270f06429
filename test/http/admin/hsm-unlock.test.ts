// A PIN that the token refused is told so that no program tries it again by itself.
import { expect, test } from 'vitest'
import type { AdminDeps } from '../../../src/http/admin/deps.ts'
import { hsmHandlers } from '../../../src/http/admin/hsm.ts'
import { exitCodeOf, problemOf, retryAfterSeconds } from '../../../src/http/problem.ts'
import { SignerError, type SignerErrorCode } from '../../../src/signer/errors.ts'

const problemAfter = async (code: SignerErrorCode) => {
  const unlock = async () => {
    throw new SignerError(code, 'the token refused the PIN', { hsmCalled: 'no', hint: 'correct the PIN' })
  }
  const ledger = { audit: { append: async () => {} } }
  const deps = { hsm: { unlock, restarts: () => 0 }, ledger, clock: { now: () => 0 } } as unknown as AdminDeps
  const context = { requestId: 'r', who: 'operator:root', source: 'socket' }
  const call = { body: { pin: '0000-wrong' }, context } as unknown as Parameters<
    ReturnType<typeof hsmHandlers>['hsmUnlock']
  >[0]
  const error = await Promise.resolve(hsmHandlers(deps).hsmUnlock(call)).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  const problem = problemOf(error, 'r')
  return { ...problem, exit: exitCodeOf(problem.code), retryAfter: retryAfterSeconds(problem, () => 0) }
}

test('a refused PIN is the operator’s to correct, never one to retry', async () => {
  expect(await problemAfter('pin_latched')).toMatchObject({
    code: 'pin_refused',
    status: 403,
    exit: 4,
    retryAfter: null,
    hint: 'correct the PIN',
  })
})

test('an HSM that fails otherwise may be asked again', async () => {
  expect(await problemAfter('hsm_error')).toMatchObject({ code: 'hsm_error', status: 503, exit: 7, retryAfter: 1 })
})
