// A real token with real keys and a CA certificate, and a real signer process over it, for the tests of this folder.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { encodeName } from '../../src/pki/names.ts'
import { oidOf } from '../../src/pki/oid.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { createSignerClient, type SignerClient } from '../../src/signer/client.ts'
import type { SignerConfigInput } from '../../src/signer/config.ts'
import { initSoftHsmToken, type SoftHsmToken } from '../../src/signer/softhsm-token.ts'
import { createSignerSupervisor, type SignerSupervisor } from '../../src/signer/supervisor.ts'
import {
  authorityKey,
  certificate,
  extendedKeyUsage,
  isCa,
  keyUsage,
  ski,
  subjectAltName,
  tbsCertificate,
  uri,
} from './tbs-samples.ts'

export const trustDomain = 'example.org'
const day = 86_400_000

export interface TokenFixture {
  readonly directory: string
  readonly token: SoftHsmToken
  readonly issuerName: Uint8Array
  readonly issuerSpki: Uint8Array
  readonly issuerNotAfter: number
  readonly issuerPem: string
  readonly responderSpki: Uint8Array
  readonly logSpki: Uint8Array
  remove(): void
}

/** Keys issuing-1, ocsp-1 and log-1, and a self-signed CA certificate over the first. */
export const createTokenFixture = async (): Promise<TokenFixture> => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-signer-'))
  const token = initSoftHsmToken({ directory: join(directory, 'token'), label: 'agentca' })
  await using ceremony = await openCeremonyToken(token.uri, { softhsmConf: token.confPath })
  const issuing = await ceremony.generateKey('issuing-1', 'P-256')
  const responder = await ceremony.generateKey('ocsp-1', 'P-256')
  const log = await ceremony.generateKey('log-1', 'P-256')
  const issuerName = encodeName([['CN', 'agentca issuing 1']])
  const now = Math.floor(Date.now() / 1000) * 1000
  const issuerNotAfter = now + 30 * day
  const tbs = tbsCertificate({
    issuer: issuerName,
    subject: issuerName,
    spki: issuing.publicKeySpki,
    notBefore: now - day,
    notAfter: issuerNotAfter,
    extensions: [
      isCa(),
      keyUsage(5, 6),
      { oid: oidOf.subjectKeyIdentifier, value: Uint8Array.from([4, 20, ...ski(issuing.publicKeySpki)]) },
    ],
  })
  return {
    directory,
    token,
    issuerName,
    issuerSpki: issuing.publicKeySpki,
    issuerNotAfter,
    issuerPem: encodePem('CERTIFICATE', certificate(tbs, await issuing.sign(tbs))),
    responderSpki: responder.publicKeySpki,
    logSpki: log.publicKeySpki,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}

export const signerConfig = (
  fixture: TokenFixture,
  changes: { modulePath?: string; pinSource?: string; name?: string } = {},
): SignerConfigInput => ({
  socket: join(fixture.directory, `${changes.name ?? 'signer'}.sock`),
  stateDirectory: join(fixture.directory, `${changes.name ?? 'signer'}-state`),
  trustDomain,
  module: {
    path: changes.modulePath ?? fixture.token.modulePath,
    tokenLabel: 'agentca',
    tokenSerial: fixture.token.serial,
    pinSource: changes.pinSource ?? fixture.token.pinFile,
    softhsmConf: fixture.token.confPath,
  },
  sessions: 4,
  keys: [
    { label: 'issuing-1', purposes: ['leaf', 'crl', 'ocsp-responder', 'test-sign'], certificate: fixture.issuerPem },
    { label: 'ocsp-1', purposes: ['ocsp-response', 'test-sign'] },
    { label: 'log-1', purposes: ['checkpoint', 'test-sign'] },
  ],
})

export interface RunningSigner extends AsyncDisposable {
  readonly client: SignerClient
  readonly supervisor: SignerSupervisor
  readonly config: SignerConfigInput
}

export const startSigner = (
  config: SignerConfigInput,
  options: { hangMs?: number; probeMs?: number } = {},
): RunningSigner => {
  const configFile = `${config.socket}.json`
  writeFileSync(configFile, JSON.stringify(config))
  const client = createSignerClient({ socket: config.socket, clock: systemClock, log: silentLog })
  const supervisor = createSignerSupervisor({
    configFile,
    sessions: config.sessions,
    client,
    clock: systemClock,
    log: silentLog,
    maxStartsPerMinute: 50,
    probeMs: 50,
    hangMs: 300,
    ...options,
  })
  return {
    client,
    supervisor,
    config,
    async [Symbol.asyncDispose]() {
      await supervisor.close()
      await client.close()
    },
  }
}

/** A leaf that passes every check, for the agent's instance `n`. */
export const goodLeaf = (fixture: TokenFixture, n = 1): Uint8Array => {
  const now = Math.floor(Date.now() / 1000) * 1000
  const serial = new Uint8Array(16)
  serial[0] = 1
  new DataView(serial.buffer).setUint32(8, n)
  return tbsCertificate({
    serial,
    issuer: fixture.issuerName,
    subject: encodeName([['CN', 'agent-a']]),
    spki: leafSpki,
    notBefore: now - 60_000,
    notAfter: now + 3_600_000,
    extensions: [
      authorityKey(fixture.issuerSpki),
      keyUsage(0),
      extendedKeyUsage(oidOf.clientAuth),
      subjectAltName(uri(`spiffe://${trustDomain}/agent/a/i/i${n}`)),
    ],
  })
}

/** A subject's key: not a CA key, so software may make it. */
export const leafSpki = Uint8Array.from(
  Buffer.from(
    // RFC 6979 A.2.5, the P-256 example key.
    '3059301306072a8648ce3d020106082a8648ce3d0301070342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299',
    'hex',
  ),
)

export const eventually = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  for (let i = 0; i < 1500; i++) {
    if (await condition()) return
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  throw new Error(`never: ${what}`)
}

export const readText = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')
