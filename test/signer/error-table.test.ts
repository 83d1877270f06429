// The table of PKCS#11 return codes, walked completely. The only fake of PKCS#11 in the project: it exists to answer with codes.
import { createHash, generateKeyPairSync, sign as softwareSign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type CallPace, pooledPace } from '../../src/signer/call-pace.ts'
import { type Cryptoki, ck } from '../../src/signer/cryptoki.ts'
import { importSpki } from '../../src/signer/ec-key.ts'
import { type CkrClass, ckrBehaviour, ckrCodeOf, ckrTable, classifyPkcs11 } from '../../src/signer/error-table.ts'
import type { SignerError } from '../../src/signer/errors.ts'
import type { SigningKey } from '../../src/signer/keys.ts'
import { createSessionPool } from '../../src/signer/session-pool.ts'
import { signVerified } from '../../src/signer/signing.ts'
import type { Token } from '../../src/signer/token.ts'

const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = Uint8Array.from(pair.publicKey.export({ type: 'spki', format: 'der' }))
const data = Buffer.from('some bytes')

const key = {
  label: 'k',
  handle: Buffer.alloc(8),
  curve: 'P-256',
  spki,
  publicKey: importSpki(spki),
} as unknown as SigningKey

const failure = (code: number): Error => Object.assign(new Error('CKR'), { code })

/** Answers the next calls of C_SignInit and C_Sign with these codes, 0 for success, then succeeds for ever. */
const fakeModule = (script: { init?: number[]; sign?: number[]; pace: CallPace }) => {
  const init = [...(script.init ?? [])]
  const sign = [...(script.sign ?? [])]
  const seen = { sessions: 0, closed: 0, signs: 0, logins: 0, finds: 0, down: [] as string[] }
  const signed = (_: Buffer, digest: Buffer): Buffer => {
    seen.signs++
    const code = sign.shift() ?? 0
    if (code) throw failure(code)
    expect(digest).toEqual(createHash('sha256').update(data).digest())
    return softwareSign('sha256', data, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })
  }
  const cryptoki = {
    C_CloseSession: () => {
      seen.closed++
    },
    C_SignInit: () => {
      const code = init.shift() ?? 0
      if (code) throw failure(code)
    },
    C_Sign: signed,
    C_SignAsync: async (session: Buffer, digest: Buffer) => signed(session, digest),
  } as unknown as Cryptoki
  const token = {
    cryptoki,
    describe: () => ({ maxSessions: 0 }),
    openSession: () => Buffer.from([++seen.sessions]),
  } as unknown as Token
  const pool = createSessionPool(token, 2)
  const run = async () =>
    signVerified(
      {
        cryptoki,
        pool,
        pace: script.pace,
        login: () => {
          seen.logins++
        },
        findKeyAgain: k => {
          seen.finds++
          return k
        },
        onAttempt: () => {},
        onModuleDown: reason => seen.down.push(reason),
      },
      key,
      data,
    )
  return { run, seen, pool }
}

const error = (promise: Promise<unknown>): Promise<SignerError> =>
  promise.then(
    () => expect.unreachable(),
    e => e as SignerError,
  )

/** What the reference demands, written a second time and by hand: number of tries, and what is left when all fail. */
const expected: Record<CkrClass, { tries: number; down: boolean; logins: number; finds: number }> = {
  session: { tries: 2, down: true, logins: 0, finds: 0 },
  login: { tries: 2, down: true, logins: 1, finds: 1 },
  handle: { tries: 2, down: false, logins: 0, finds: 1 },
  busy: { tries: 3, down: true, logins: 0, finds: 0 },
  module: { tries: 1, down: true, logins: 0, finds: 0 },
  pin: { tries: 1, down: true, logins: 0, finds: 0 },
  config: { tries: 1, down: false, logins: 0, finds: 0 },
}

const rows = [...ckrTable].map(([code, { name, class: kind }]) => [name, code, kind] as const)

const inlinePace: CallPace = { isInline: () => true, observe: () => {} }

describe.each([
  ['on the thread pool', pooledPace],
  ['on the event loop', inlinePace],
])('every return code of the table, %s', (_where, pace) => {
  test.each(rows)('%s (%i) as %s: retried as the table says, then given up as it says', async (name, code, kind) => {
    const want = expected[kind]
    const { run, seen, pool } = fakeModule({ sign: Array(5).fill(code), pace })
    expect(await error(run())).toMatchObject({
      code: 'hsm_error',
      hsmCalled: 'maybe',
      facts: { ckr: name, class: kind },
    })
    expect(seen.signs).toBe(want.tries)
    expect(seen.down.length > 0).toBe(want.down)
    expect(seen.logins).toBe(want.logins)
    expect(seen.finds).toBe(want.finds)
    expect(seen.closed).toBe(want.tries)
    expect(pool.open()).toBe(Math.max(0, 2 - want.tries))
  })

  test.each(rows.filter(([, , kind]) => ckrBehaviour[kind].retries > 0))(
    '%s (%i) once: the next attempt succeeds unnoticed',
    async (_, code) => {
      const { run, seen } = fakeModule({ sign: [code], pace })
      expect((await run()).length).toBeGreaterThan(60)
      expect(seen.signs).toBe(2)
      expect(seen.down).toEqual([])
    },
  )

  test.each(rows)('%s (%i) from C_SignInit: C_Sign was never called', async (_, code) => {
    const { run, seen } = fakeModule({ init: Array(5).fill(code), pace })
    expect(await error(run())).toMatchObject({ hsmCalled: 'no' })
    expect(seen.signs).toBe(0)
  })

  test('the names are those of the module’s header', () => {
    const numbers = ck as unknown as Record<string, number>
    for (const [name, code] of rows) if (numbers[name] !== undefined) expect(numbers[name], name).toBe(code)
  })
})

describe('what pkcs11js throws', () => {
  test.each([
    ['a Pkcs11Error', failure(0xa0), 0xa0, 'pin'],
    ['the plain error of C_FindObjects', new Error('CKR_SESSION_HANDLE_INVALID:179\n    at x'), 179, 'session'],
    [
      'a code that pkcs11js does not know',
      Object.assign(new Error('CKR_VENDOR_DEFINED'), { code: 0x1b }),
      0x1b,
      'config',
    ],
    ['a vendor code', failure(0x8000_0001), 0x8000_0001, 'module'],
    ['CKR_GENERAL_ERROR', failure(5), 5, 'module'],
  ])('%s is classified by its number', (_, thrown, code, kind) => {
    expect(ckrCodeOf(thrown)).toBe(code)
    expect(classifyPkcs11(thrown)?.behaviour.class).toBe(kind)
  })

  test('a TypeError is not a return code', () => {
    expect(classifyPkcs11(new TypeError('x'))).toBeNull()
    expect(classifyPkcs11('CKR_OK:0')).toBeNull()
  })
})
