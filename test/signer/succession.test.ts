// A signer whose core was killed ends by itself, with nobody left to read what it says; the next one must find its exact counts.
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createSignerClient, type SignerClient } from '../../src/signer/client.ts'
import type { SignerConfigInput } from '../../src/signer/config.ts'
import { createTokenFixture, eventually, goodLeaf, signerConfig, type TokenFixture } from './harness.ts'
import { buildPkcs11Shim, type Pkcs11Shim } from './shim.ts'

const entry = fileURLToPath(new URL('../../src/signer/main.ts', import.meta.url))

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

interface LoneSigner extends AsyncDisposable {
  readonly client: SignerClient
  /** What the end of its core looks like from here: all three pipes break at once. */
  leave(): void
  readonly ended: Promise<number | null>
}

/** As the supervisor starts it, but for the supervision. */
const startAlone = (config: SignerConfigInput): LoneSigner => {
  const configFile = `${config.socket}.json`
  writeFileSync(configFile, JSON.stringify(config))
  const child: ChildProcess = spawn(process.execPath, [entry, '--config', configFile, '--exit-with-stdin'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '8' },
  })
  const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
  const client = createSignerClient({ socket: config.socket, clock: systemClock, log: silentLog })
  return {
    client,
    leave: () => {
      for (const pipe of [child.stdout, child.stderr, child.stdin]) pipe?.destroy()
    },
    ended,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await ended
      await client.close()
    },
  }
}

const isReady = (signer: LoneSigner) => async () => (await signer.client.health()).state === 'ready'
const leaf = (n: number) =>
  ({ purpose: 'leaf', key: 'issuing-1', tbs: goodLeaf(fixture, n), priority: 'enrol', deadlineMs: 20_000 }) as const
const leafCount = async ({ client }: LoneSigner) => (await client.health()).counts.find(each => each.purpose === 'leaf')

test('a signer whose core is gone ends with exact counts', { timeout: 60_000 }, async () => {
  const config = signerConfig(fixture, { name: 'left' })
  {
    await using signer = startAlone(config)
    await eventually('the signer is ready', isReady(signer))
    for (let n = 1; n <= 3; n++) await signer.client.sign(leaf(n))
    signer.leave()
    expect(await signer.ended).toBe(0)
  }
  await using next = startAlone(config)
  await eventually('the next one is ready', isReady(next))
  expect(await leafCount(next)).toMatchObject({ total: 3, uncertain: 0 })
})

test('the next signer waits until the last one has written its counts', { timeout: 60_000 }, async () => {
  const config = signerConfig(fixture, { name: 'followed', modulePath: shim.modulePath })
  // Slow enough for the thread pool from the first call on.
  shim.set({ sleep_ms: 120 })
  await using signer = startAlone(config)
  await eventually('the signer is ready', isReady(signer))
  const calls = shim.signCalls()
  shim.set({ sleep_ms: 1500 })
  const running = signer.client.sign(leaf(1)).catch(() => {})
  await eventually('C_Sign is entered', () => shim.signCalls() > calls)
  shim.set({})
  signer.leave()
  await using next = startAlone(config)
  expect(await signer.ended).toBe(0)
  await running
  await eventually('the next one is ready', isReady(next))
  expect(await leafCount(next)).toMatchObject({ total: 1, uncertain: 0 })
  await next.client.sign(leaf(2))
})

test('a signer that hung when its core was killed leaves alone what its successor has', {
  timeout: 60_000,
}, async () => {
  const config = signerConfig(fixture, { name: 'hung', modulePath: shim.modulePath })
  shim.set({})
  await using hung = startAlone(config)
  await eventually('the signer is ready', isReady(hung))
  for (let n = 1; n <= 3; n++) await hung.client.sign(leaf(n))
  // On the event loop: it does not even notice that its core is gone.
  const calls = shim.signCalls()
  shim.set({ hold: 1 })
  const lost = hung.client.sign(leaf(4)).catch(() => {})
  await eventually('C_Sign is entered', () => shim.signCalls() > calls)
  hung.leave()
  await hung.client.close()
  await lost
  let total: number
  {
    // The call that waits goes on waiting; none of a new process does.
    shim.set({ hold: 1, times: 0 })
    await using next = startAlone(config)
    await eventually('the next one is ready', isReady(next))
    await next.client.sign(leaf(5))
    shim.set({})
    // By its own SIGKILL.
    expect(await hung.ended).toBe(null)
    await next.client.sign(leaf(6))
    total = (await leafCount(next))!.total
    const other = createSignerClient({ socket: config.socket, clock: systemClock, log: silentLog })
    await eventually('it can still be reached', async () => (await other.health()).state === 'ready')
    await other.close()
  }
  await using third = startAlone(config)
  await eventually('the third one is ready', isReady(third))
  expect((await leafCount(third))!.total).toBeGreaterThanOrEqual(total)
})
