// When an issuance asks whether the clock can be trusted: each time it is asked counts as a signing, behind which it must not fall.
import { expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { noSteps } from '../../src/base/steps.ts'
import { createIssuance, type IssuanceDeps } from '../../src/ca/issue.ts'
import { noIssuancePolicy } from '../../src/ca/scopes-issuance.ts'
import { makeLedger, now } from '../store/make-ledger.ts'

test('a stranger’s request does not get to the clock', async () => {
  let asked = 0
  const ledger = makeLedger()
  const issuance = createIssuance({
    policy: noIssuancePolicy,
    clock: { now: () => now, monotonic: () => 0 },
    log: silentLog,
    issuance: ledger.issuance,
    tokens: ledger.tokens,
    checkClock: () => void asked++,
    maintenance: { check: () => void asked++ },
    reached: noSteps,
  } as unknown as IssuanceDeps)
  const enrolment = issuance.issue({
    operation: 'enrol',
    evidence: { kind: 'token', tokenHash: '00'.repeat(32) },
    csr: new Uint8Array(0),
    context: { requestId: 'r', who: 'anonymous', source: '192.0.2.1' },
  })
  await expect(enrolment).rejects.toMatchObject({ code: 'token_unknown' })
  expect(asked).toBe(0)
  await ledger.close()
})
