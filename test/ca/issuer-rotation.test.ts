// Certificates made by a real root key in a SoftHSM2 token, for keys in another one.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createIssuerRotation, type OnlineKey, type ServedKey } from '../../src/ca/issuer-rotation.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import { type Certificate, parseCertificate } from '../../src/pki/certificate.ts'
import { buildCaCertificate } from '../../src/pki/peculiar.ts'
import { encodePem, parseOnePem } from '../../src/pki/pem.ts'
import { encodeSerial } from '../../src/pki/serial.ts'
import { parseSubjectPublicKeyInfo, spkiHashHex } from '../../src/pki/spki.ts'
import { type CeremonyKey, type CeremonyToken, openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { initSoftHsmToken } from '../../src/signer/softhsm-token.ts'
import type { Issuer } from '../../src/store/records.ts'
import * as w from '../store/make-ledger.ts'
import { codeOf, context, day } from './operations-world.ts'

const { now } = w
const options = { context, dryRun: false }
const directory = mkdtempSync(join(tmpdir(), 'agentca-rotation-'))

let rootToken: CeremonyToken
let rootKey: CeremonyKey
let otherRootKey: CeremonyKey
let root: Certificate
/** By label: what the online token has. */
const onlineSpkis = new Map<string, Uint8Array>()

interface Wishes {
  readonly label?: string
  readonly subject?: string
  readonly pathLength?: number | null
  readonly notBefore?: number
  readonly notAfter?: number
  readonly signedBy?: 'root' | 'other root'
}

const certify = async (key: CeremonyKey, issuer: Certificate | 'self', spki: Uint8Array, wishes: Wishes) =>
  buildCaCertificate({
    subject: [['CN', wishes.subject ?? 'agentca test issuing']],
    spki: parseSubjectPublicKeyInfo(spki),
    issuer,
    issuerKey: {
      publicKeySpki: key.publicKeySpki,
      sign: (data: Uint8Array) => key.sign(data),
      signatureForm: 'der' as const,
    },
    serial: encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) }),
    notBefore: wishes.notBefore ?? now - day,
    notAfter: wishes.notAfter ?? now + 365 * day,
    pathLength: wishes.pathLength === undefined ? 0 : wishes.pathLength,
  })

const selfSigned = (key: CeremonyKey, subject: string) =>
  certify(key, 'self', key.publicKeySpki, { subject, pathLength: null, notAfter: now + 3650 * day })

beforeAll(async () => {
  const online = initSoftHsmToken({ directory: join(directory, 'tokens'), label: 'agentca' })
  {
    await using token = await openCeremonyToken(online.uri, { softhsmConf: online.confPath })
    for (const label of ['issuing-1', 'issuing-2', 'issuing-3'])
      onlineSpkis.set(label, (await token.generateKey(label, 'P-256')).publicKeySpki)
  }
  const offline = initSoftHsmToken({ directory: join(directory, 'root-ceremony'), label: 'agentca-root' })
  rootToken = await openCeremonyToken(offline.uri, { softhsmConf: offline.confPath })
  rootKey = await rootToken.generateKey('root-1', 'P-384')
  otherRootKey = await rootToken.generateKey('root-2', 'P-384')
  root = await selfSigned(rootKey, 'agentca test root')
})
afterAll(async () => {
  await rootToken?.close()
  rmSync(directory, { recursive: true, force: true })
})

const issuingCertificate = async (wishes: Wishes = {}): Promise<string> => {
  const foreign = wishes.signedBy === 'other root'
  const key = foreign ? otherRootKey : rootKey
  // The same name as the known root's: only the signature tells them apart.
  const issuer = foreign ? await selfSigned(otherRootKey, 'agentca test root') : root
  const spki = onlineSpkis.get(wishes.label ?? 'issuing-2') as Uint8Array
  return encodePem('CERTIFICATE', (await certify(key, issuer, spki, wishes)).der)
}

const record = (certificate: Certificate, more: Pick<Issuer, 'name' | 'kind' | 'parentId' | 'keyLabel'>) => ({
  ...more,
  state: 'active' as const,
  certificate: certificate.der,
  spkiHash: certificate.spkiHashHex,
  notBefore: certificate.notBefore,
  notAfter: certificate.notAfter,
  createdAt: now,
})

/** As the signer describes what a ceremony generated. */
const fit = {
  sign: true,
  sensitive: true,
  extractable: false,
  alwaysSensitive: true,
  neverExtractable: true,
  local: true,
} as const
const keysOnline = (): OnlineKey[] =>
  [...onlineSpkis].map(([label, spki]) => ({ ...fit, label, spkiSha256Hex: spkiHashHex(spki) }))

const keysServed = (): ServedKey[] =>
  [...onlineSpkis].map(([label, spki]) => ({ label, spkiSha256Hex: spkiHashHex(spki) }))

const makeRotation = async (
  onlineKeys: () => readonly OnlineKey[] = keysOnline,
  servedKeys: () => readonly ServedKey[] = keysServed,
) => {
  let at = now
  const ledger = w.makeLedger()
  const parent = await ledger.issuers.add(
    record(root, { name: 'root-1', kind: 'root', parentId: null, keyLabel: null }),
    w.leaf('issuer_added'),
  )
  const first = parseOnePem(
    await issuingCertificate({ label: 'issuing-1', subject: 'agentca test issuing 1' }),
    'CERTIFICATE',
  )
  const issuer = await ledger.issuers.add(
    record(parseCertificate(first), {
      name: 'issuing-1',
      kind: 'issuing',
      parentId: parent.id,
      keyLabel: 'issuing-1',
    }),
    w.leaf('issuer_added'),
  )
  const issuers = createIssuers(ledger.issuers, null)
  let changes = 0
  const rotation = createIssuerRotation({
    clock: { now: () => at, monotonic: () => at },
    issuers,
    ledger: ledger.issuers,
    certificates: ledger.certificates,
    onlineKeys: async () => onlineKeys(),
    servedKeys: async () => servedKeys(),
    onIssuersChanged: async () => {
      changes++
    },
  })
  return {
    ledger,
    issuer,
    issuers,
    rotation,
    changes: () => changes,
    states: () => Object.fromEntries(ledger.issuers.list().map(each => [each.name, each.state])),
    prepare: (certificatePem: string, more: { name?: string; keyLabel?: string; dryRun?: boolean } = {}) =>
      rotation.prepare(
        { name: more.name ?? 'issuing-2', keyLabel: more.keyLabel ?? 'issuing-2', certificatePem },
        { context, dryRun: more.dryRun ?? false },
      ),
    setTime: (time: number) => {
      at = time
    },
  }
}

describe('prepare, activate, retire', () => {
  it('moves issuance to the new CA while the old one stays online for its leaves, both in the chain', async () => {
    const ca = await makeRotation()
    const prepared = await ca.prepare(await issuingCertificate())
    expect(prepared).toMatchObject({ name: 'issuing-2', state: 'prepared', keyLabel: 'issuing-2' })
    expect(ca.issuers.active().name).toBe('issuing-1')
    expect(ca.issuers.online().map(each => each.name)).toEqual(['issuing-1', 'issuing-2'])
    await ca.rotation.activate('issuing-2', options)
    expect(ca.states()).toEqual({ 'root-1': 'active', 'issuing-1': 'retired', 'issuing-2': 'active' })
    expect(ca.issuers.active().name).toBe('issuing-2')
    expect(ca.issuers.online().map(each => each.name)).toEqual(['issuing-1', 'issuing-2'])
    expect(ca.issuers.chainPem(ca.issuer.id)).toContain('CERTIFICATE')
    expect(ca.changes()).toBe(2)
    const events = ca.ledger.audit.tail({ limit: 2 }).map(leaf => JSON.parse(new TextDecoder().decode(leaf.bytes)))
    expect(events).toMatchObject([
      { event: 'issuer_state_changed', name: 'issuing-2', from: 'prepared', to: 'active', retired: 'issuing-1' },
      { event: 'issuer_added', name: 'issuing-2', kind: 'issuing', who: 'operator:alice' },
    ])
  })

  it('says how many live leaves a retired CA still answers for', async () => {
    const ca = await makeRotation()
    await ca.prepare(await issuingCertificate())
    const world = { ledger: ca.ledger, issuer: ca.issuer, agent: await w.addAgent(ca.ledger, 'crawler') }
    await w.issue(world)
    await w.issue(world)
    expect(await codeOf(ca.rotation.retire('issuing-1', options))).toBe('conflict')
    await ca.rotation.activate('issuing-2', options)
    const size = ca.ledger.audit.head().size
    expect(await ca.rotation.retire('issuing-1', options)).toMatchObject({
      issuer: { state: 'retired' },
      liveLeaves: 2,
    })
    // Activation had retired it: nothing was left to be done or to be logged.
    expect(ca.ledger.audit.head().size).toBe(size)
    ca.setTime(now + 2 * w.hour)
    expect((await ca.rotation.retire('issuing-1', options)).liveLeaves).toBe(0)
  })

  it('gives up a prepared CA, which then cannot become active', async () => {
    const ca = await makeRotation()
    await ca.prepare(await issuingCertificate())
    await ca.rotation.retire('issuing-2', options)
    expect(ca.states()['issuing-2']).toBe('retired')
    expect(await codeOf(ca.rotation.activate('issuing-2', options))).toBe('conflict')
    expect(await codeOf(ca.rotation.activate('issuing-1', options))).toBe('conflict')
    expect(await codeOf(ca.rotation.activate('root-1', options))).toBe('conflict')
    expect(await codeOf(ca.rotation.activate('nowhere', options))).toBe('not_found')
  })

  it('keeps a root in the bundle as long as something below it may be in use', async () => {
    const ca = await makeRotation()
    expect(await codeOf(ca.rotation.retire('root-1', options))).toBe('conflict')
    expect(ca.issuers.bundlePem()).toContain('CERTIFICATE')
  })

  it('as dry runs change nothing', async () => {
    const ca = await makeRotation()
    const size = ca.ledger.audit.head().size
    expect(await ca.prepare(await issuingCertificate(), { dryRun: true })).toMatchObject({ state: 'prepared' })
    expect(ca.states()).toEqual({ 'root-1': 'active', 'issuing-1': 'active' })
    expect(ca.ledger.audit.head().size).toBe(size)
    await ca.prepare(await issuingCertificate())
    expect(await ca.rotation.activate('issuing-2', { context, dryRun: true })).toMatchObject({ state: 'active' })
    expect(await ca.rotation.retire('issuing-2', { context, dryRun: true })).toMatchObject({ liveLeaves: 0 })
    expect(ca.states()['issuing-2']).toBe('prepared')
    expect([ca.ledger.audit.head().size, ca.changes()]).toEqual([size + 1, 1])
  })

  it('of two activations at once lets one through', async () => {
    const ca = await makeRotation()
    await ca.prepare(await issuingCertificate())
    await ca.prepare(await issuingCertificate({ label: 'issuing-3', subject: 'agentca test issuing 3' }), {
      name: 'issuing-3',
      keyLabel: 'issuing-3',
    })
    const outcomes = await Promise.all([
      codeOf(ca.rotation.activate('issuing-2', options)),
      codeOf(ca.rotation.activate('issuing-3', options)),
    ])
    expect(outcomes.sort()).toEqual(['conflict', 'fulfilled'])
    expect(Object.values(ca.states()).filter(state => state === 'active')).toHaveLength(2)
  })
})

describe('a certificate is not prepared when', () => {
  const refusals: readonly (readonly [string, string, Wishes, { name?: string; keyLabel?: string }])[] = [
    ['it may have CAs below it', 'value_invalid', { pathLength: 1 }, {}],
    ['it has no path length', 'value_invalid', { pathLength: null }, {}],
    ['it has expired', 'value_invalid', { notBefore: now - 2 * day, notAfter: now - day }, {}],
    ['it would outlive its parent', 'value_invalid', { notAfter: now + 4000 * day }, {}],
    ['another root of the same name signed it', 'value_invalid', { signedBy: 'other root' }, {}],
    ['its key is another one than the token has under that label', 'conflict', {}, { keyLabel: 'issuing-3' }],
    ['the token has no such key', 'not_found', {}, { keyLabel: 'issuing-9' }],
    ['a CA has its key', 'key_in_use', { label: 'issuing-1' }, { keyLabel: 'issuing-1' }],
    ['a CA has its subject', 'conflict', { subject: 'AgentCA test issuing 1' }, {}],
    ['its name is taken', 'conflict', {}, { name: 'issuing-1' }],
    ['its name would not fit into a URL', 'value_invalid', {}, { name: 'Issuing/2' }],
  ]
  it.each(refusals)('%s', async (_why, code, wishes, more) => {
    const ca = await makeRotation()
    const size = ca.ledger.audit.head().size
    expect(await codeOf(ca.prepare(await issuingCertificate(wishes), more))).toBe(code)
    expect([ca.ledger.audit.head().size, ca.changes()]).toEqual([size, 0])
  })

  it('it is a root, or no certificate at all', async () => {
    const ca = await makeRotation()
    expect(await codeOf(ca.prepare(encodePem('CERTIFICATE', root.der)))).toBe('value_invalid')
    expect(await codeOf(ca.prepare('no PEM'))).toBe('pem_malformed')
    expect(await codeOf(ca.prepare(encodePem('CERTIFICATE', new Uint8Array([0x30, 0]))))).toBe('der_malformed')
  })

  it.each<[string, Partial<OnlineKey>]>([
    ['could be taken out', { sensitive: false, extractable: true }],
    ['could once be taken out', { neverExtractable: false }],
    ['was made elsewhere', { local: false }],
    ['does not sign', { sign: false }],
    ['is not described by its token', { sensitive: null }],
  ])('its key %s, because the signer would not start with it', async (_why, attributes) => {
    const ca = await makeRotation(() =>
      keysOnline().map(key => (key.label === 'issuing-2' ? { ...key, ...attributes } : key)),
    )
    expect(await codeOf(ca.prepare(await issuingCertificate()))).toBe('conflict')
    expect(ca.changes()).toBe(0)
  })

  it('two keys have its label', async () => {
    const ca = await makeRotation(() => [...keysOnline(), { ...fit, label: 'issuing-2', spkiSha256Hex: null }])
    expect(await codeOf(ca.prepare(await issuingCertificate()))).toBe('conflict')
  })

  it('an identity has its key', async () => {
    const ca = await makeRotation()
    const world = { ledger: ca.ledger, issuer: ca.issuer, agent: await w.addAgent(ca.ledger, 'crawler') }
    await w.issue(world, { keyHash: spkiHashHex(onlineSpkis.get('issuing-2') as Uint8Array) })
    expect(await codeOf(ca.prepare(await issuingCertificate()))).toBe('key_in_use')
  })
})

describe('a CA is not activated while the signer', () => {
  const other = '0'.repeat(64)
  it.each<[string, (keys: ServedKey[]) => ServedKey[]]>([
    ['has its key in the token and is not configured for it', keys => keys.filter(key => key.label !== 'issuing-2')],
    [
      'uses another key under its label',
      keys => keys.map(key => (key.label === 'issuing-2' ? { ...key, spkiSha256Hex: other } : key)),
    ],
  ])('%s', async (_why, change) => {
    let served = change(keysServed())
    const ca = await makeRotation(keysOnline, () => served)
    await ca.prepare(await issuingCertificate())
    await expect(ca.rotation.activate('issuing-2', options)).rejects.toMatchObject({
      code: 'conflict',
      hint: expect.stringMatching(/agentca signer add-key issuing-2 .*systemctl reload agentca-signer/),
    })
    expect(ca.states()).toMatchObject({ 'issuing-1': 'active', 'issuing-2': 'prepared' })
    served = keysServed()
    expect(await codeOf(ca.rotation.activate('issuing-2', options))).toBe('fulfilled')
  })
})

describe('a certificate that is not valid yet', () => {
  it('may be prepared, and activated when its time has come', async () => {
    const ca = await makeRotation()
    await ca.prepare(await issuingCertificate({ notBefore: now + day }))
    expect(await codeOf(ca.rotation.activate('issuing-2', options))).toBe('conflict')
    ca.setTime(now + 2 * day)
    expect(await codeOf(ca.rotation.activate('issuing-2', options))).toBe('fulfilled')
  })
})
