// The HSM as the signer process sees it: one open token, its configured keys, a session pool, and a state that says whether it may be
// asked. Everything synchronous and dangerous happens in here; the process around it may be killed at any time.

import { utf8 } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { DerReader } from '../pki/der.ts'
import { oidOf } from '../pki/oid.ts'
import { parseOnePem } from '../pki/pem.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo, spkiHashHex } from '../pki/spki.ts'
import { createCallPace } from './call-pace.ts'
import type { SignerConfig, SignerKeyConfig } from './config.ts'
import type { Cryptoki } from './cryptoki.ts'
import { SignerError, TokenError } from './errors.ts'
import { findSigningKey, type ListedKey, listKeys, type SigningKey } from './keys.ts'
import type { PinLatch } from './pin-latch.ts'
import type { SignerState, SignPurpose } from './port.ts'
import { testSignPrefix } from './purpose-checks.ts'
import type { IssuerFacts, PurposeKey } from './refusal.ts'
import { createSessionPool, type SessionPool } from './session-pool.ts'
import { signVerified } from './signing.ts'
import { readCertificate } from './tbs-fields.ts'
import { openToken, readPinFile, type Token } from './token.ts'

export interface HsmDeps {
  readonly config: SignerConfig
  readonly latch: PinLatch
  readonly log: Log
  readonly count: (key: string, purpose: SignPurpose) => void
  /** For the fake that provokes return codes. */
  readonly cryptoki?: Cryptoki
}

export interface Hsm {
  state(): { readonly state: SignerState; readonly detail: string }
  /** Opens, logs in, finds and tests every key. @throws TokenError, or the module's own error; the state says what holds then */
  start(pin?: string): Promise<void>
  keys(): readonly PurposeKey[]
  idHexOf(label: string): string
  /** Every private key in the token. */
  attributes(): readonly ListedKey[]
  /** At once where the module is fast enough for the event loop. @throws SignerError */
  sign(label: string, purpose: SignPurpose, data: Uint8Array): Uint8Array | Promise<Uint8Array>
  /** Whether `sign` answers at once, as long as nothing fails. */
  isInline(): boolean
  slots(): number
  openSessions(): number
}

const issuerFacts = (pem: string): { readonly issuer: IssuerFacts; readonly spki: Uint8Array } => {
  const fields = readCertificate(parseOnePem(pem, 'CERTIFICATE'))
  const skiField = fields.extensions.get(oidOf.subjectKeyIdentifier)
  // RFC 5280 §4.2.1.2: a CA certificate must have one; the SHA-1 of the key is the form to assume where it has none.
  const ski = skiField
    ? new DerReader(skiField.value).readOctetString()
    : keyIdentifier(parseSubjectPublicKeyInfo(fields.spkiDer))
  return {
    issuer: { subjectDer: fields.subjectDer, keyIdentifier: ski, notAfter: fields.notAfter },
    spki: fields.spkiDer,
  }
}

interface LoadedKey {
  signing: SigningKey
  readonly purposeKey: PurposeKey
}

const loadKey = (token: Token, config: SignerKeyConfig): LoadedKey => {
  const bound = config.certificate === undefined ? undefined : issuerFacts(config.certificate)
  const expected =
    bound?.spki ?? (config.publicKey === undefined ? undefined : parseOnePem(config.publicKey, 'PUBLIC KEY'))
  const signing = findSigningKey({ cryptoki: token.cryptoki, session: token.keepAlive() }, config.label, expected)
  return {
    signing,
    purposeKey: {
      label: config.label,
      curve: signing.curve,
      spki: signing.spki,
      spkiSha256Hex: spkiHashHex(signing.spki),
      purposes: config.purposes,
      issuer: bound?.issuer,
      ceilings: config.ceilings,
    },
  }
}

export const createHsm = (deps: HsmDeps): Hsm => {
  const { config, latch, log } = deps
  const keys = new Map<string, LoadedKey>()
  let purposeKeys: readonly PurposeKey[] = []
  const pace = createCallPace()
  let current: { readonly token: Token; readonly pool: SessionPool; readonly pin: string } | null = null
  let state: SignerState = 'down'
  let detail = 'starting'

  const down = (reason: string): void => {
    if (state === 'down') return
    state = 'down'
    detail = reason
    log.error({ reason }, 'the HSM is down for this process')
  }

  const sign: Hsm['sign'] = (label, purpose, data) => {
    const loaded = keys.get(label)
    if (!current || !loaded)
      throw new SignerError('signer_unavailable', `key "${label}" is not loaded: ${detail}`, { hsmCalled: 'no' })
    const { token, pool, pin } = current
    return signVerified(
      {
        cryptoki: token.cryptoki,
        pool,
        pace,
        login: () => token.login(pin),
        findKeyAgain: key => {
          loaded.signing = findSigningKey({ cryptoki: token.cryptoki, session: token.keepAlive() }, key.label, key.spki)
          return loaded.signing
        },
        onAttempt: () => deps.count(label, purpose),
        onModuleDown: down,
      },
      loaded.signing,
      data,
    )
  }

  const open = async (pin: string): Promise<void> => {
    const { module } = config
    const selector = {
      modulePath: module.path,
      tokenLabel: module.tokenLabel,
      tokenSerial: module.tokenSerial,
      softhsmConf: module.softhsmConf,
    }
    const token = openToken(selector, latch, deps.cryptoki)
    try {
      token.login(pin)
      keys.clear()
      purposeKeys = []
      for (const key of config.keys) {
        const made = loadKey(token, key)
        keys.set(key.label, made)
        purposeKeys = [...purposeKeys, made.purposeKey]
      }
      current = { token, pool: createSessionPool(token, config.sessions), pin }
      // Proves that the private key belongs to the public one before the first real request.
      for (const { label } of config.keys) await sign(label, 'test-sign', utf8(`${testSignPrefix}start ${label}`))
    } catch (error) {
      current = null
      token.close()
      throw error
    }
  }

  return {
    state: () => ({ state, detail }),
    async start(pin) {
      const source = config.module.pinSource
      if (pin === undefined && source === undefined) {
        state = 'locked'
        detail = 'no pin-source is configured: run agentca hsm unlock'
        return
      }
      try {
        await open(pin ?? readPinFile(source!))
        state = 'ready'
        detail = `${keys.size} keys, ${current?.pool.size ?? 0} sessions`
      } catch (error) {
        const locked =
          error instanceof TokenError &&
          (error.code === 'pin_wrong' || error.code === 'pin_latched' || error.code === 'pin_source_unreadable')
        state = locked ? 'locked' : 'down'
        detail = messageOf(error)
        throw error
      }
    },
    keys: () => purposeKeys,
    idHexOf: label => keys.get(label)?.signing.idHex ?? '',
    attributes: () =>
      current ? listKeys({ cryptoki: current.token.cryptoki, session: current.token.keepAlive() }) : [],
    sign,
    isInline: pace.isInline,
    slots: () => current?.pool.size ?? config.sessions,
    openSessions: () => current?.pool.open() ?? 0,
  }
}
