// The signer process on a real SoftHSM2: signatures, crashes, hangs, the PIN latch.

import { execFileSync } from 'node:child_process'
import { verify } from 'node:crypto'
import { statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { utf8 } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { attachSigner } from '../../src/signer/attached.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import { importSpki } from '../../src/signer/ec-key.ts'
import { SignerError } from '../../src/signer/errors.ts'
import { hsmTestSign } from '../../src/signer/inspect.ts'
import type { SignerHealth } from '../../src/signer/port.ts'
import { testSignPrefix } from '../../src/signer/purpose-checks.ts'
import {
  createTokenFixture,
  eventually,
  goodLeaf,
  leafSpki,
  signerConfig,
  startSigner,
  type TokenFixture,
} from './harness.ts'
import { buildPkcs11Shim, type Pkcs11Shim } from './shim.ts'

let fixture: TokenFixture
let shim: Pkcs11Shim

beforeAll(async () => {
  fixture = await createTokenFixture()
  shim = buildPkcs11Shim()
})
afterAll(() => {
  shim.remove()
  fixture.remove()
})

const leaf = (n = 1, deadlineMs = 5000) =>
  ({ purpose: 'leaf', key: 'issuing-1', tbs: goodLeaf(fixture, n), priority: 'enrol', deadlineMs }) as const
const testSign = (text = 'x', deadlineMs = 5000) =>
  ({
    purpose: 'test-sign',
    key: 'issuing-1',
    tbs: utf8(`${testSignPrefix}${text}`),
    priority: 'status',
    deadlineMs,
  }) as const
const caught = (promise: Promise<unknown>): Promise<SignerError> =>
  promise.then(
    () => {
      throw new Error('expected a SignerError')
    },
    error => {
      expect(error).toBeInstanceOf(SignerError)
      return error as SignerError
    },
  )

describe('the signer process', () => {
  test('signs 1,000 leaves at once, and every signature verifies by another implementation', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'many' }))
    await signer.supervisor.ready(20_000)
    const key = importSpki(fixture.issuerSpki)
    const results = await Promise.all(
      Array.from({ length: 1000 }, async (_, n) => {
        const request = leaf(n + 1, 20_000)
        return verify('sha256', request.tbs, key, await signer.client.sign(request))
      }),
    )
    expect(results.filter(Boolean)).toHaveLength(1000)
    const { counts } = await signer.client.health()
    expect(counts.find(c => c.key === 'issuing-1' && c.purpose === 'leaf')).toMatchObject({
      total: 1000,
      uncertain: 0,
      sinceStart: 1000,
    })
  })

  test('is reachable by its owner only, and runs without core dumps and with a thread for every session', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'modes' }))
    await signer.supervisor.ready(20_000)
    expect(statSync(signer.config.socket).mode & 0o777).toBe(0o600)
    expect(statSync(signer.config.stateDirectory).mode & 0o777).toBe(0o700)
    const { pid } = signer.supervisor.state()
    const limits = execFileSync('cat', [`/proc/${pid}/limits`], { encoding: 'utf8' })
    expect(limits).toMatch(/Max core file size +[01] +[01] /)
    expect(execFileSync('cat', [`/proc/${pid}/environ`], { encoding: 'latin1' })).toContain('UV_THREADPOOL_SIZE=8')
  })

  test('tells hsm test-sign and hsm keys what an operator needs', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'inspect' }))
    await signer.supervisor.ready(20_000)
    const signed = await hsmTestSign(signer.client, { monotonic: () => performance.now() })
    expect(signed.map(s => s.key)).toEqual(['issuing-1', 'ocsp-1', 'log-1'])
    expect(
      verify(
        'sha256',
        Buffer.from(signed[0]!.signedHex, 'hex'),
        importSpki(fixture.issuerSpki),
        Buffer.from(signed[0]!.signatureHex, 'hex'),
      ),
    ).toBe(true)
    const keys = await signer.client.keys()
    expect(keys).toHaveLength(3)
    for (const key of keys) {
      expect(key).toMatchObject({
        sensitive: true,
        extractable: false,
        alwaysSensitive: true,
        neverExtractable: true,
        local: true,
        sign: true,
        curve: 'P-256',
      })
    }
  })

  test('refuses what does not fit its purpose before the HSM is called, and says so', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'refuse' }))
    await signer.supervisor.ready(20_000)
    const error = await caught(signer.client.sign({ ...leaf(), tbs: utf8('not a certificate') }))
    expect(error).toMatchObject({ code: 'signer_refused', rule: 'not_parsable', hsmCalled: 'no' })
    expect(await caught(signer.client.sign({ ...leaf(), key: 'log-1' }))).toMatchObject({
      code: 'signer_refused',
      rule: 'key_purpose',
      hsmCalled: 'no',
    })
  })

  test('answers everything that was asked before it is told to end: signed, or certainly not', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'orderly' }))
    await signer.supervisor.ready(20_000)
    const asked = Array.from({ length: 500 }, (_, n) => signer.client.sign(leaf(n + 1)))
    const restarting = signer.supervisor.restart()
    const outcomes = await Promise.all(
      asked.map(each =>
        each.then(
          () => 'signed',
          (error: SignerError) => error.hsmCalled,
        ),
      ),
    )
    await restarting
    expect(new Set(outcomes)).not.toContain('maybe')
    expect(outcomes).toContain('signed')
  })

  test('keeps exact counts over an orderly restart, and never counts too few after a crash', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'counts' }))
    await signer.supervisor.ready(20_000)
    for (let n = 1; n <= 3; n++) await signer.client.sign(leaf(n))
    const leafCount = async () => (await signer.client.health()).counts.find(c => c.purpose === 'leaf')!
    await signer.supervisor.restart()
    await signer.supervisor.ready(20_000)
    expect(await leafCount()).toMatchObject({ total: 3, uncertain: 0 })
    await signer.client.sign(leaf(4))
    const { pid } = signer.supervisor.state()
    process.kill(pid!, 'SIGKILL')
    await eventually(
      'restart',
      async () =>
        signer.supervisor.state().pid !== pid &&
        signer.supervisor.state().state === 'ready' &&
        (await signer.client.health()).state === 'ready',
    )
    const after = await leafCount()
    expect(after.total).toBeGreaterThanOrEqual(4)
    expect(after.total - after.uncertain).toBeLessThanOrEqual(4)
  })
})

describe('a module that misbehaves', () => {
  test('killed inside C_Sign: the request is unavailable and maybe called, and the next one succeeds after a restart', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'killed', modulePath: shim.modulePath }))
    shim.set({})
    await signer.supervisor.ready(20_000)
    const before = shim.signCalls()
    shim.set({ sleep_ms: 5000 })
    const failing = caught(signer.client.sign(leaf(1, 20_000)))
    await eventually('C_Sign entered', () => shim.signCalls() > before)
    const { pid } = signer.supervisor.state()
    shim.set({})
    process.kill(pid!, 'SIGKILL')
    expect(await failing).toMatchObject({ code: 'signer_unavailable', hsmCalled: 'maybe' })
    await eventually(
      'a new process',
      () => signer.supervisor.state().pid !== pid && signer.supervisor.state().state === 'ready',
    )
    expect((await signer.client.sign(leaf(2))).length).toBeGreaterThan(60)
  })

  test.each([
    ['after a fast start, on the event loop', 0],
    ['after a slow start, on the thread pool', 120],
  ])(
    'hangs %s: the deadline answers the caller, the supervisor kills and restarts, requests succeed again',
    async (_, sleep_ms) => {
      await using signer = startSigner(signerConfig(fixture, { name: `hang${sleep_ms}`, modulePath: shim.modulePath }))
      shim.set({ sleep_ms })
      await signer.supervisor.ready(20_000)
      shim.set({ sleep_ms: 60_000 })
      expect(await caught(signer.client.sign(leaf(1, 200)))).toMatchObject({
        code: 'signer_deadline',
        hsmCalled: 'maybe',
      })
      shim.set({})
      await eventually('a kill', () => signer.supervisor.state().kills === 1)
      await signer.supervisor.ready(20_000)
      expect((await signer.client.sign(leaf(2))).length).toBeGreaterThan(60)
    },
  )

  test('stopped as a whole (SIGSTOP): found by its silence, killed and restarted', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'stopped' }))
    await signer.supervisor.ready(20_000)
    const { pid } = signer.supervisor.state()
    process.kill(pid!, 'SIGSTOP')
    await eventually(
      'a new process',
      () => signer.supervisor.state().pid !== pid && signer.supervisor.state().state === 'ready',
    )
    expect(signer.supervisor.state().kills).toBe(1)
    expect((await signer.client.sign(leaf(2))).length).toBeGreaterThan(60)
  })

  test('is not taken for silent while this process has no time to listen', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'patient' }))
    await signer.supervisor.ready(20_000)
    // Each stall is longer than an answer may take; all together are several times what a signer may be silent.
    for (let stalls = 0; stalls < 6; stalls++) {
      for (const end = performance.now() + 1500; performance.now() < end; );
      await delay(20)
    }
    expect(signer.supervisor.state()).toMatchObject({ kills: 0, starts: 1 })
  })

  test('that somebody else keeps alive is not down while this process has no time to listen, and is when it hangs', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'attached' }), { hangMs: 60_000 })
    await signer.supervisor.ready(20_000)
    const { socket } = signer.config
    const client = createSignerClient({ socket, clock: systemClock, log: silentLog })
    const late = 'the signer did not answer in time'
    // What was answered, and what had become of the answer before.
    const said: { detail: string; before: string }[] = []
    let stall = false
    const health = async (): Promise<SignerHealth> => {
      const before = attached.state().state
      const answer = client.health()
      // Longer than an answer may take, from the moment when it was asked for.
      if (stall) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500)
      stall = false
      const heard = await answer
      said.push({ detail: heard.detail, before })
      return heard
    }
    const attached = attachSigner({ socket, client: { ...client, health }, clock: systemClock, probeMs: 50 })
    try {
      await attached.ready(20_000)
      stall = true
      const next = () => said.slice(said.findIndex(({ detail }) => detail === late)).slice(1)
      await eventually(
        'a late answer and the next',
        () => said.some(({ detail }) => detail === late) && next().length > 0,
      )
      expect(next()[0]?.before).toBe('ready')
      process.kill(signer.supervisor.state().pid!, 'SIGSTOP')
      await eventually('down', () => attached.state().state === 'down')
    } finally {
      process.kill(signer.supervisor.state().pid!, 'SIGCONT')
      await attached.close()
      await client.close()
    }
  })

  test('a signature that does not verify is never released', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'flip', modulePath: shim.modulePath }))
    shim.set({})
    await signer.supervisor.ready(20_000)
    shim.set({ flip: 1 })
    expect(await caught(signer.client.sign(leaf(1)))).toMatchObject({
      code: 'hsm_error',
      rule: 'signature_invalid',
      hsmCalled: 'maybe',
    })
    shim.set({})
    expect((await signer.client.sign(leaf(2))).length).toBeGreaterThan(60)
  })

  test('queued behind a slow module, a request whose deadline passes was never called', async () => {
    await using signer = startSigner(
      { ...signerConfig(fixture, { name: 'queued', modulePath: shim.modulePath }), sessions: 1 },
      { hangMs: 20_000 },
    )
    shim.set({ sleep_ms: 120 })
    await signer.supervisor.ready(20_000)
    shim.set({ sleep_ms: 1000 })
    const first = signer.client.sign(testSign('a', 10_000))
    const second = await caught(signer.client.sign(leaf(1, 100)))
    expect(second).toMatchObject({ code: 'signer_deadline', hsmCalled: 'no' })
    expect((await first).length).toBeGreaterThan(60)
    shim.set({})
  })

  test('a session error is retried on a new session, once, and the caller notices nothing', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'retry', modulePath: shim.modulePath }))
    // Three test signatures at the start; the fourth call fails once with CKR_SESSION_HANDLE_INVALID, then the shim behaves.
    shim.set({})
    await signer.supervisor.ready(20_000)
    shim.set({ ckr: 0xb3, times: 4 })
    expect((await signer.client.sign(leaf(1))).length).toBeGreaterThan(60)
    shim.set({})
    expect((await signer.client.health()).counts.find(c => c.purpose === 'leaf')?.total).toBe(2)
  })

  test('a lost device ends the process, which comes back when the device does', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'device', modulePath: shim.modulePath }))
    shim.set({})
    await signer.supervisor.ready(20_000)
    const { pid } = signer.supervisor.state()
    shim.set({ ckr: 0x30 })
    expect(await caught(signer.client.sign(leaf(1)))).toMatchObject({
      code: 'hsm_error',
      hsmCalled: 'maybe',
      facts: { ckr: 'CKR_DEVICE_ERROR' },
    })
    expect(await caught(signer.client.sign(leaf(2)))).toMatchObject({ code: 'signer_unavailable' })
    shim.set({})
    await eventually(
      'a new process',
      () => signer.supervisor.state().pid !== pid && signer.supervisor.state().state === 'ready',
    )
    expect((await signer.client.sign(leaf(3))).length).toBeGreaterThan(60)
  })

  test('an error of C_SignInit leaves hsmCalled at no', async () => {
    await using signer = startSigner(signerConfig(fixture, { name: 'init', modulePath: shim.modulePath }))
    shim.set({})
    await signer.supervisor.ready(20_000)
    shim.set({ init_ckr: 0x70 })
    expect(await caught(signer.client.sign(leaf(1)))).toMatchObject({
      code: 'hsm_error',
      hsmCalled: 'no',
      facts: { class: 'config' },
    })
    shim.set({})
  })
})

describe('the PIN latch', () => {
  test('a wrong PIN is sent once, not again by restarts, and unlock after correction works', async () => {
    shim.set({})
    const pinSource = join(fixture.directory, 'wrong.pin')
    writeFileSync(pinSource, 'wrong-pin', { mode: 0o600 })
    const logins = shim.loginCalls()
    await using signer = startSigner(signerConfig(fixture, { name: 'latch', modulePath: shim.modulePath, pinSource }))
    await eventually('locked', async () => (await signer.client.health()).state === 'locked')
    expect(shim.loginCalls() - logins).toBe(1)
    for (let i = 0; i < 3; i++) {
      await signer.supervisor.restart()
      await eventually('locked', async () => (await signer.client.health()).state === 'locked')
    }
    expect(shim.loginCalls() - logins).toBe(1)
    expect(await signer.client.health()).toMatchObject({ pinLatched: true })
    expect(await caught(signer.client.sign(leaf()))).toMatchObject({
      code: 'pin_latched',
      hsmCalled: 'no',
      hint: 'agentca hsm unlock',
    })

    expect(await caught(signer.client.unlock())).toMatchObject({ code: 'pin_latched' })
    expect(shim.loginCalls() - logins).toBe(2)

    writeFileSync(pinSource, execFileSync('cat', [fixture.token.pinFile]), { mode: 0o600 })
    expect(await signer.client.unlock()).toMatchObject({ state: 'ready', pinLatched: false })
    expect((await signer.client.sign(leaf())).length).toBeGreaterThan(60)
  })

  test('whoever only opens the socket of a group cannot use up the attempts: a PIN is tried again when its file was touched', async () => {
    shim.set({})
    const pinSource = join(fixture.directory, 'group.pin')
    writeFileSync(pinSource, 'wrong-pin', { mode: 0o600 })
    const logins = shim.loginCalls()
    const own = signerConfig(fixture, { name: 'group', modulePath: shim.modulePath, pinSource })
    await using signer = startSigner({ ...own, access: 'group' })
    await eventually('locked', async () => (await signer.client.health()).state === 'locked')
    const refused = { code: 'pin_latched', hint: expect.stringContaining('as the user of the signer') }
    for (let i = 0; i < 5; i++) expect(await caught(signer.client.unlock())).toMatchObject(refused)
    // A time to come would be newer than every refusal.
    utimesSync(pinSource, new Date(), new Date(Date.now() + 3_600_000))
    expect(await caught(signer.client.unlock())).toMatchObject(refused)
    expect(shim.loginCalls() - logins).toBe(1)

    const latchedAt = statSync(join(own.stateDirectory, 'pin-latch.json')).mtimeMs
    await eventually('a later time', () => Date.now() > latchedAt + 50)
    utimesSync(pinSource, new Date(), new Date())
    for (let i = 0; i < 3; i++) expect(await caught(signer.client.unlock())).toMatchObject(refused)
    expect(shim.loginCalls() - logins).toBe(2)

    writeFileSync(pinSource, execFileSync('cat', [fixture.token.pinFile]), { mode: 0o600 })
    expect(await signer.client.unlock()).toMatchObject({ state: 'ready', pinLatched: false })
  })

  test('without pin-source the signer starts locked and an operator’s PIN unlocks it', async () => {
    const config = signerConfig(fixture, { name: 'manual' })
    const { pinSource: _, ...module } = config.module
    await using signer = startSigner({ ...config, module })
    await eventually('locked', async () => (await signer.client.health()).state === 'locked')
    const pin = execFileSync('cat', [fixture.token.pinFile], { encoding: 'utf8' })
    expect(await signer.client.unlock(pin)).toMatchObject({ state: 'ready' })
    expect((await signer.client.sign(leaf())).length).toBeGreaterThan(60)
  })
})

test('the sample subject key is on its curve', () => {
  expect(importSpki(leafSpki).asymmetricKeyType).toBe('ec')
})
