// Tokens and keys on a real SoftHSM2.

import { verify } from 'node:crypto'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { ck, loadCryptoki } from '../../src/signer/cryptoki.ts'
import { curveFacts, importSpki } from '../../src/signer/ec-key.ts'
import { findSigningKey, listKeys } from '../../src/signer/keys.ts'
import { createPinLatch } from '../../src/signer/pin-latch.ts'
import { initSoftHsmToken, type SoftHsmToken } from '../../src/signer/softhsm-token.ts'
import { openToken, readPinFile } from '../../src/signer/token.ts'

let directory: string
let token: SoftHsmToken
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'agentca-token-'))
  token = initSoftHsmToken({ directory: join(directory, 'online'), label: 'agentca' })
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const open = () => openCeremonyToken(token.uri, { softhsmConf: token.confPath })
const selector = () => ({
  modulePath: token.modulePath,
  tokenLabel: token.label,
  tokenSerial: token.serial,
  softhsmConf: token.confPath,
})
const code = (wanted: string) => expect.objectContaining({ code: wanted })

describe('a SoftHSM2 token', () => {
  test('keeps its directory 0700, its PINs random and 0600, and is never initialised twice', () => {
    expect(statSync(join(directory, 'online')).mode & 0o777).toBe(0o700)
    for (const file of [token.pinFile, token.soPinFile, token.confPath]) expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readPinFile(token.pinFile)).toMatch(/^[0-9a-f]{32}$/)
    expect(readPinFile(token.pinFile)).not.toBe(readPinFile(token.soPinFile))
    expect(() => initSoftHsmToken({ directory: join(directory, 'online'), label: 'agentca' })).toThrow(
      code('token_exists'),
    )
  })

  test('root and online tokens live apart, opened one after the other in one process', async () => {
    const root = initSoftHsmToken({ directory: join(directory, 'root'), label: 'agentca-root' })
    {
      await using ceremony = await openCeremonyToken(root.uri, { softhsmConf: root.confPath })
      await ceremony.generateKey('root-1', 'P-384')
    }
    await using ceremony = await open()
    expect(ceremony.listKeys()).toEqual([])
    expect(ceremony.description.label).toBe('agentca')
  })

  test('is found by label and serial, and a missing one is named with what is there', () => {
    expect(() => openToken({ ...selector(), tokenLabel: 'other' }, createPinLatch(directory))).toThrow(
      /no token with label "other".*present: agentca/,
    )
    expect(() => openToken({ ...selector(), tokenSerial: 'ffff' }, createPinLatch(directory))).toThrow(
      code('token_not_found'),
    )
  })

  test('a PIN file that everybody may read is refused', () => {
    const path = join(directory, 'open.pin')
    writeFileSync(path, 'x', { mode: 0o644 })
    expect(() => readPinFile(path)).toThrow(code('pin_source_unreadable'))
  })

  test('a wrong PIN reaches the token once; the latch holds for a new start and lets a corrected PIN through', () => {
    const latch = createPinLatch(directory)
    const attempt = (pin: string) => {
      const opened = openToken(selector(), createPinLatch(directory))
      try {
        opened.login(pin)
        return opened.describe()
      } finally {
        opened.close()
      }
    }
    expect(() => attempt('wrong')).toThrow(code('pin_wrong'))
    const opened = openToken(selector(), latch)
    // SoftHSM2 sets the flag after a failed login: the wrong PIN did reach it.
    expect(opened.describe().userPinCountLow).toBe(true)
    opened.close()
    for (let i = 0; i < 5; i++) expect(() => attempt('wrong')).toThrow(code('pin_latched'))
    expect(latch.isLatched()).toBe(true)
    expect(attempt(readPinFile(token.pinFile)).userPinCountLow).toBe(false)
    expect(latch.isLatched()).toBe(false)
  })

  test('two logins that never ended latch: a crash loop in C_Login cannot lock the token', () => {
    const pin = 'p'
    createPinLatch(directory).begin(pin)
    expect(createPinLatch(directory).blocks(pin)).toBeNull()
    createPinLatch(directory).begin(pin)
    expect(createPinLatch(directory).blocks(pin)).toMatch(/never ended/)
    expect(createPinLatch(directory).blocks('another')).toBeNull()
    createPinLatch(directory).clear()
    expect(createPinLatch(directory).blocks(pin)).toBeNull()
  })

  test('a damaged latch file blocks every PIN', () => {
    writeFileSync(join(directory, 'pin-latch.json'), '{')
    expect(createPinLatch(directory).blocks('any')).toMatch(/damaged/)
  })
})

describe('keys', () => {
  test.each(['P-256', 'P-384'] as const)('%s: made inside, cannot leave, can only sign', async curve => {
    await using ceremony = await open()
    const key = await ceremony.generateKey('issuing-1', curve)
    expect(key.attributes).toMatchObject({
      label: 'issuing-1',
      curve,
      token: true,
      private: true,
      sign: true,
      sensitive: true,
      extractable: false,
      alwaysSensitive: true,
      neverExtractable: true,
      local: true,
      decrypt: false,
      unwrap: false,
      derive: false,
      signRecover: false,
      modifiable: false,
    })
    const data = Buffer.from('ceremony')
    expect(verify(curveFacts[curve].hash, data, importSpki(key.publicKeySpki), await key.sign(data))).toBe(true)
  })

  test('the private value cannot be read', async () => {
    const opened = openToken(selector(), createPinLatch(directory))
    try {
      opened.login(readPinFile(token.pinFile))
      const scope = { cryptoki: opened.cryptoki, session: opened.keepAlive() }
      const { generateSigningKey } = await import('../../src/signer/keys.ts')
      const key = await generateSigningKey(scope, 'secret', 'P-256')
      expect(() => opened.cryptoki.C_GetAttributeValue(scope.session, key.handle, [{ type: ck.CKA_VALUE }])).toThrow(
        code(ck.CKR_ATTRIBUTE_SENSITIVE as unknown as string),
      )
    } finally {
      opened.close()
    }
  })

  test('a label is never overwritten', async () => {
    await using ceremony = await open()
    const first = await ceremony.generateKey('issuing-1', 'P-256')
    await expect(ceremony.generateKey('issuing-1', 'P-256')).rejects.toThrow(code('key_exists'))
    await expect(ceremony.generateKey('issuing-1', 'P-384')).rejects.toThrow(code('key_exists'))
    expect(ceremony.findKey('issuing-1').publicKeySpki).toEqual(first.publicKeySpki)
    await expect(ceremony.generateKey('../x', 'P-256')).rejects.toThrow(code('signer_config_invalid'))
  })

  const raw = async (extra: { type: number; value: boolean }[]) => {
    const opened = openToken(selector(), createPinLatch(directory))
    try {
      opened.login(readPinFile(token.pinFile))
      await loadCryptoki(token.modulePath).C_GenerateKeyPairAsync(
        opened.keepAlive(),
        { mechanism: ck.CKM_EC_KEY_PAIR_GEN },
        [
          { type: ck.CKA_LABEL, value: 'issuing-1' },
          { type: ck.CKA_ID, value: Buffer.from([extra.length]) },
          { type: ck.CKA_TOKEN, value: true },
          { type: ck.CKA_EC_PARAMS, value: Buffer.from(curveFacts['P-256'].paramsHex, 'hex') },
        ],
        [
          { type: ck.CKA_LABEL, value: 'issuing-1' },
          { type: ck.CKA_ID, value: Buffer.from([extra.length]) },
          { type: ck.CKA_TOKEN, value: true },
          { type: ck.CKA_PRIVATE, value: true },
          { type: ck.CKA_SIGN, value: true },
          ...extra,
        ],
      )
    } finally {
      opened.close()
    }
  }

  test('two objects with one label are an error, for private and for public keys', async () => {
    {
      await using ceremony = await open()
      await ceremony.generateKey('issuing-1', 'P-256')
    }
    await raw([])
    await using ceremony = await open()
    expect(() => ceremony.findKey('issuing-1')).toThrow(code('key_ambiguous'))
    expect(ceremony.listKeys()).toHaveLength(2)
  })

  test('an extractable key is not fit to sign, and says why', async () => {
    await raw([{ type: ck.CKA_EXTRACTABLE, value: true }])
    await using ceremony = await open()
    expect(() => ceremony.findKey('issuing-1')).toThrow(/extractable is true/)
    expect(() => ceremony.findKey('issuing-1')).toThrow(code('key_unsafe'))
  })

  test('a key that is not the one of its certificate is refused, a missing one is not created', async () => {
    const opened = openToken(selector(), createPinLatch(directory))
    try {
      opened.login(readPinFile(token.pinFile))
      const scope = { cryptoki: opened.cryptoki, session: opened.keepAlive() }
      const { generateSigningKey } = await import('../../src/signer/keys.ts')
      const a = await generateSigningKey(scope, 'a', 'P-256')
      await generateSigningKey(scope, 'b', 'P-256')
      expect(() => findSigningKey(scope, 'b', a.spki)).toThrow(code('key_mismatch'))
      expect(() => findSigningKey(scope, 'c', undefined)).toThrow(code('key_not_found'))
      expect(listKeys(scope)).toHaveLength(2)
    } finally {
      opened.close()
    }
  })
})
