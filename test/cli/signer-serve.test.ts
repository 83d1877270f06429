// `agentca signer serve` as its unit runs it: SIGHUP at any time, also with a configuration that no signer could start with.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { addSignerKey } from '../../src/server/separate-signer.ts'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { createSignerClient, type SignerClient } from '../../src/signer/client.ts'
import { ck } from '../../src/signer/cryptoki.ts'
import { curveFacts } from '../../src/signer/ec-key.ts'
import { hsmTestSign } from '../../src/signer/inspect.ts'
import { createPinLatch } from '../../src/signer/pin-latch.ts'
import { openToken, readPinFile } from '../../src/signer/token.ts'
import { createTokenFixture, signerConfig, type TokenFixture } from '../signer/harness.ts'
import { buildPkcs11Shim, type Pkcs11Shim } from '../signer/shim.ts'
import { until } from '../story/until.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')

let fixture: TokenFixture
let shim: Pkcs11Shim
let directory: string
let served: ChildProcess
let client: SignerClient
let log = ''
let lines = ''

beforeAll(async () => {
  fixture = await createTokenFixture()
  shim = buildPkcs11Shim()
  directory = join(fixture.directory, 'own')
  mkdirSync(directory, { mode: 0o700 })
})
afterAll(() => {
  shim.remove()
  fixture.remove()
})

const configFile = () => join(directory, 'signer.json')
const socket = () => signerConfig(fixture).socket

beforeEach(() => {
  shim.set({})
  // So that its presence says that this test's signer listens.
  rmSync(socket(), { force: true })
  writeFileSync(configFile(), JSON.stringify(signerConfig(fixture, { modulePath: shim.modulePath })), { mode: 0o600 })
  client = createSignerClient({ socket: socket(), clock: systemClock, log: silentLog })
  log = ''
  lines = ''
})
afterEach(async () => {
  await client.close()
  if (served.exitCode !== null || served.signalCode !== null) return
  const ended = once(served, 'exit')
  served.kill('SIGTERM')
  await ended
})

const serve = (): void => {
  served = spawn(process.execPath, [main, 'signer', 'serve', '--directory', directory], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  served.stdout!.setEncoding('utf8').on('data', text => {
    lines += text
  })
  served.stderr!.setEncoding('utf8').on('data', text => {
    log += text
  })
}
const ready = () => until('it is ready', async () => (await client.health()).state === 'ready' && lines.includes('\n'))
/** Of the process that has the token; another one counts from 0. */
const signedWith = async (key: string): Promise<number | undefined> =>
  (await client.health()).counts.find(count => count.key === key && count.purpose === 'test-sign')?.sinceStart
const sign = (key: string) => hsmTestSign(client, { key, monotonic: systemClock.monotonic })

const generateExtractable = async (label: string): Promise<void> => {
  const { modulePath, label: tokenLabel, serial: tokenSerial, confPath, pinFile } = fixture.token
  const opened = openToken(
    { modulePath, tokenLabel, tokenSerial, softhsmConf: confPath },
    createPinLatch(fixture.directory),
  )
  const named = [
    { type: ck.CKA_LABEL, value: label },
    { type: ck.CKA_ID, value: Buffer.from(label) },
    { type: ck.CKA_TOKEN, value: true },
  ]
  try {
    opened.login(readPinFile(pinFile))
    await opened.cryptoki.C_GenerateKeyPairAsync(
      opened.keepAlive(),
      { mechanism: ck.CKM_EC_KEY_PAIR_GEN },
      [...named, { type: ck.CKA_EC_PARAMS, value: Buffer.from(curveFacts['P-256'].paramsHex, 'hex') }],
      [
        ...named,
        { type: ck.CKA_PRIVATE, value: true },
        { type: ck.CKA_SIGN, value: true },
        { type: ck.CKA_EXTRACTABLE, value: true },
      ],
    )
  } finally {
    opened.close()
  }
}

describe('SIGHUP', () => {
  it('with a key that the token has not, or another one than its certificate says, leaves the signer at work', async () => {
    serve()
    await ready()
    const good = readFileSync(configFile(), 'utf8')
    await sign('ocsp-1')
    const before = await signedWith('ocsp-1')
    const refused = 'the changed configuration is not taken'
    let refusals = 0
    const isRefused = async (why: string): Promise<void> => {
      served.kill('SIGHUP')
      refusals++
      await until(why, () => log.split(refused).length - 1 === refusals)
      expect(log).toContain(why)
      expect(await signedWith('ocsp-1')).toBe(before)
      expect(await client.health()).toMatchObject({ state: 'ready' })
    }
    writeFileSync(configFile(), '{')
    await isRefused('signer_config_invalid')
    writeFileSync(configFile(), good)
    const add = (label: string) => addSignerKey({ directory, label, certificatePem: fixture.issuerPem, dryRun: false })
    add('issuing-2')
    await isRefused('key_not_found')
    {
      await using token = await openCeremonyToken(fixture.token.uri, { softhsmConf: fixture.token.confPath })
      await token.generateKey('issuing-2', 'P-256')
    }
    await isRefused('key_mismatch')
    expect(log).toContain('agentca signer add-key')
    await generateExtractable('loose-1')
    const withKey = (label: string): string => {
      const config = JSON.parse(good)
      return JSON.stringify({ ...config, keys: [...config.keys, { label, purposes: ['checkpoint', 'test-sign'] }] })
    }
    writeFileSync(configFile(), withKey('loose-1'))
    await isRefused('key_unsafe')
    writeFileSync(configFile(), withKey('issuing-2'))
    served.kill('SIGHUP')
    await until('the new key', async () => (await client.health()).keys.some(({ label }) => label === 'issuing-2'))
    await sign('issuing-2')
  })

  it('during the first start does not end it', async () => {
    shim.set({ hold: 1 })
    serve()
    await until('it listens', () => existsSync(socket()))
    expect(lines).toBe('')
    served.kill('SIGHUP')
    shim.set({})
    await ready()
    expect([served.exitCode, served.signalCode]).toEqual([null, null])
    await until('it signs', async () =>
      sign('ocsp-1').then(
        () => true,
        () => false,
      ),
    )
  })
})
