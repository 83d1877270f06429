// Whom the limit on signature checks counts, and for how long.
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { utf8 } from '../../src/base/bytes.ts'
import { createPossessionCheck } from '../../src/front/hot.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { createKey } from '../http/harness.ts'

const clock = { now: () => 0, monotonic: () => 0 }
const rates = { anonymousPerMinute: 1, identityPerMinute: 2 }
const bodyOf = async () => utf8(JSON.stringify({ csr: encodePem('CERTIFICATE REQUEST', (await createKey()).csr) }))

test('each connection with a certificate has its own, and a network one for all that is in it', async () => {
  const check = createPossessionCheck(clock, rates)
  const body = await bodyOf()
  const [one, other] = [{}, {}]
  expect([one, one, one, other].map(caller => check(body, caller))).toEqual([
    ...['checked', 'checked', 'unchecked'],
    'checked',
  ])
  expect(['192.0.2.0/24', '192.0.2.0/24'].map(caller => check(body, caller))).toEqual(['checked', 'unchecked'])
})

test('a connection that is gone is not held', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const check = createPossessionCheck(clock, rates)
  const gone = Array.from({ length: 100 }, () => {
    const connection = {}
    check(new Uint8Array(0), connection)
    return new WeakRef(connection)
  })
  await turn()
  collect()
  expect(gone.filter(ref => ref.deref() !== undefined).length).toBeLessThan(5)
  expect(check(new Uint8Array(0), {})).toBe('unchecked')
})
