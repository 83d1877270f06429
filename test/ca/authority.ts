// A real authority for tests: root and online keys in SoftHSM2 tokens, a signer process, a ledger, and issuance over them.
import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLeaf } from '../../src/audit/leaf.ts'
import { toHex } from '../../src/base/bytes.ts'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { noSteps } from '../../src/base/steps.ts'
import { type CrlIssuer, completeScope, issueCrl } from '../../src/ca/crl.ts'
import { createCrlEntries } from '../../src/ca/crl-entries.ts'
import { type ActiveIssuer, createDrafter } from '../../src/ca/draft.ts'
import { createIssuanceEvents } from '../../src/ca/issuance-events.ts'
import type { IssuancePace } from '../../src/ca/issuance-pace.ts'
import { createIssuance } from '../../src/ca/issue.ts'
import { noIssuancePolicy } from '../../src/ca/scopes-issuance.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { createCsr } from '../../src/pki/csr.ts'
import { buildCaCertificate } from '../../src/pki/peculiar.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { encodeSerial } from '../../src/pki/serial.ts'
import { parseTrustDomain } from '../../src/pki/spiffe.ts'
import { keyIdentifier, parseSubjectPublicKeyInfo, spkiHashHex } from '../../src/pki/spki.ts'
import { createProfileBook } from '../../src/policy/profile-book.ts'
import { parseProfile } from '../../src/schema/profile.ts'
import { loadProfiles } from '../../src/server/profiles.ts'
import { type CeremonyKey, openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import type { SignerConfigInput } from '../../src/signer/config.ts'
import type { SignPriority } from '../../src/signer/port.ts'
import { initSoftHsmToken } from '../../src/signer/softhsm-token.ts'
import type { Ledger } from '../../src/store/ports.ts'
import { startSigner } from '../signer/harness.ts'

const day = 86_400_000
export const trustDomain = parseTrustDomain('example.org')
export const caId = 'ca-under-test'

export const leaf = (event: string) => createLeaf(event, { at: Date.now(), who: 'operator:test' }, null, {})

const external = (key: CeremonyKey) => ({
  publicKeySpki: key.publicKeySpki,
  sign: (data: Uint8Array) => key.sign(data),
  signatureForm: 'der' as const,
})

/** Root P-384 and issuing P-256, path length 0, each in a token of its own; `more` keys beside the issuing one. */
const performCeremonies = async (directory: string, more: readonly string[]) => {
  const online = initSoftHsmToken({ directory: join(directory, 'tokens'), label: 'agentca' })
  const keys = new Map<string, Uint8Array>()
  {
    await using token = await openCeremonyToken(online.uri, { softhsmConf: online.confPath })
    for (const label of ['issuing-1', ...more]) keys.set(label, (await token.generateKey(label, 'P-256')).publicKeySpki)
  }
  const rootToken = initSoftHsmToken({ directory: join(directory, 'root-ceremony'), label: 'agentca-root' })
  await using token = await openCeremonyToken(rootToken.uri, { softhsmConf: rootToken.confPath })
  const rootKey = await token.generateKey('root-1', 'P-384')
  const now = Date.now()
  const serial = () => encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) })
  const root = await buildCaCertificate({
    subject: [['CN', 'agentca test root']],
    spki: parseSubjectPublicKeyInfo(rootKey.publicKeySpki),
    issuer: 'self',
    issuerKey: external(rootKey),
    serial: serial(),
    notBefore: now - day,
    notAfter: now + 3650 * day,
    pathLength: null,
  })
  const issuingOf = (label: string) =>
    buildCaCertificate({
      subject: [['CN', `agentca test ${label.replace('-', ' ')}`]],
      spki: parseSubjectPublicKeyInfo(keys.get(label)!),
      issuer: root,
      issuerKey: external(rootKey),
      serial: serial(),
      notBefore: now - day,
      notAfter: now + 365 * day,
      pathLength: 0,
    })
  const issuing = await issuingOf('issuing-1')
  const retired: { readonly label: string; readonly certificate: Certificate }[] = []
  for (const label of more)
    if (label.startsWith('issuing-')) retired.push({ label, certificate: await issuingOf(label) })
  return { online, root, issuing, retired, keys }
}

/** The profiles that a new installation has. */
export const profiles = loadProfiles(fileURLToPath(new URL('../../ca-config/profiles', import.meta.url)))

/** What no installation has by itself, for the rules that only such a profile has. */
const moreProfiles = createProfileBook([
  parseProfile('agent-evidence', 'kind: agent\nrecovery: {mode: evidence, count: 2, window: 1h}\n'),
])
const profileOf = (name: string) => (name === 'agent-evidence' ? moreProfiles : profiles).get(name)

type Ceremonies = Awaited<ReturnType<typeof performCeremonies>>

const addIssuers = async (ledger: Ledger, { root, issuing, retired }: Ceremonies) => {
  const common = (certificate: Certificate) => ({
    certificate: certificate.der,
    spkiHash: spkiHashHex(certificate.spkiDer),
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    createdAt: Date.now(),
    state: 'active' as const,
  })
  const parent = await ledger.issuers.add(
    { name: 'root-1', kind: 'root', parentId: null, keyLabel: null, ...common(root) },
    leaf('issuer_added'),
  )
  for (const { label, certificate } of retired)
    await ledger.issuers.add(
      {
        ...common(certificate),
        name: label,
        kind: 'issuing',
        parentId: parent.id,
        keyLabel: label,
        state: 'retired',
      },
      leaf('issuer_added'),
    )
  return ledger.issuers.add(
    { name: 'issuing-1', kind: 'issuing', parentId: parent.id, keyLabel: 'issuing-1', ...common(issuing) },
    leaf('issuer_added'),
  )
}

export interface Requester {
  readonly csr: Uint8Array
  readonly keyHash: string
}

/** A new P-256 key and its certification request. */
export const createRequester = async (): Promise<Requester> => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spkiDer = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  const csr = await createCsr({ spkiDer, sign: async data => new Uint8Array(sign('sha256', data, privateKey)) })
  return { csr, keyHash: spkiHashHex(spkiDer) }
}

export type TestAuthority = Awaited<ReturnType<typeof createTestAuthority>>

/**
 * @param more labels of further keys in the online token: `issuing-…` becomes a retired issuing CA, any other an OCSP responder's
 * @param clock of issuance, for certificates that have expired
 * @param pace default: none
 */
export const createTestAuthority = async (
  openLedger: (path: string) => Ledger,
  more: readonly ('ocsp-1' | `issuing-${number}`)[] = [],
  clock: Clock = systemClock,
  pace: IssuancePace = { take: () => () => {} },
) => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-authority-'))
  const ceremonies = await performCeremonies(directory, more)
  const { online, root, issuing } = ceremonies
  const issuingKey = (label: string, certificate: Certificate) => ({
    label,
    purposes: ['leaf', 'crl', 'ocsp-responder'] as const,
    certificate: encodePem('CERTIFICATE', certificate.der),
  })
  const config: SignerConfigInput = {
    socket: join(directory, 'signer.sock'),
    stateDirectory: join(directory, 'signer-state'),
    trustDomain,
    module: {
      path: online.modulePath,
      tokenLabel: 'agentca',
      tokenSerial: online.serial,
      pinSource: online.pinFile,
      softhsmConf: online.confPath,
    },
    sessions: 2,
    keys: [
      issuingKey('issuing-1', issuing),
      ...ceremonies.retired.map(({ label, certificate }) => issuingKey(label, certificate)),
      ...more
        .filter(label => !label.startsWith('issuing-'))
        .map(label => ({ label, purposes: ['ocsp-response'] as const })),
    ],
  }
  // A busy machine is no hanging HSM: that has tests of its own.
  const signer = startSigner(config, { hangMs: 20_000 })
  await signer.supervisor.ready(15_000)
  const ledger = openLedger(join(directory, 'agentca.db'))
  const issuer = await addIssuers(ledger, ceremonies)
  const spki = parseSubjectPublicKeyInfo(issuing.spkiDer)
  const active: ActiveIssuer & CrlIssuer = {
    id: issuer.id,
    name: issuer.name,
    keyLabel: 'issuing-1',
    spki,
    signatureAlgorithm: 'ecdsa-with-SHA256',
    certificate: issuing,
    subjectDer: issuing.subjectDer,
    keyIdentifier: keyIdentifier(spki),
    crlDistributionPoint: null,
    crlShards: null,
    authorityInfoAccess: null,
  }
  const epoch = await ledger.meta.nextEpoch()
  const priorities: SignPriority[] = []
  const issuance = createIssuance({
    policy: noIssuancePolicy,
    clock,
    log: silentLog,
    issuance: ledger.issuance,
    certificates: ledger.certificates,
    tokens: ledger.tokens,
    signer: {
      ...signer.client,
      sign: request => {
        priorities.push(request.priority)
        return signer.client.sign(request)
      },
    },
    drafter: createDrafter({
      trustDomain,
      activeIssuer: () => active,
      issuerOf: () => active,
      profile: profileOf,
      serialPrefix: 1,
      randomBytes,
    }),
    events: createIssuanceEvents(() => true),
    caId,
    epoch,
    newInstanceId: () => randomBytes(16).toString('hex'),
    signDeadlineMs: 5000,
    pace,
    checkClock: () => {},
    maintenance: { check: () => {} },
    reached: noSteps,
  })

  const registerAgent = async (name: string, profile = 'agent') => {
    await ledger.owners.ensure('finance', Date.now(), leaf('owner_created'))
    return ledger.registrations.create(
      {
        kind: 'agent',
        name,
        owner: 'finance',
        purpose: 'test',
        profile,
        roles: [],
        attributes: {},
        dnsNames: [],
        instanceLimit: null,
        operatorRole: null,
        until: null,
        at: Date.now(),
      },
      leaf('registration_created'),
    )
  }
  const createToken = async (registrationId: number, uses = 1) => {
    const token = randomBytes(32)
    const hash = toHex(createHash('sha256').update(token).digest())
    await ledger.tokens.create(
      {
        id: randomBytes(8).toString('hex'),
        hash,
        registrationId,
        audience: caId,
        uses,
        boundKeyHash: null,
        expiresAt: Date.now() + 600_000,
        createdAt: Date.now(),
        createdBy: 'operator:test',
      },
      leaf('token_created'),
    )
    return hash
  }
  const entries = createCrlEntries({ log: silentLog, revocations: ledger.revocations })
  const publishCrlOf = async (of: CrlIssuer) => {
    const deps = {
      clock: systemClock,
      entries,
      signer: signer.client,
      published: () => leaf('crl_published'),
      lifetimeSeconds: 86_400,
      regularIntervalSeconds: 43_200,
      signDeadlineMs: 5000,
      reached: noSteps,
    }
    return issueCrl(deps, of, completeScope(ledger.status, of.id), 0n)
  }
  const context = (who: string) => ({ requestId: randomBytes(8).toString('hex'), who, source: '127.0.0.1' })
  return {
    directory,
    ledger,
    signer,
    root,
    issuing,
    /** SubjectPublicKeyInfo of the keys in the online token, by label. */
    onlineKeys: ceremonies.keys as ReadonlyMap<string, Uint8Array>,
    issuer: active,
    issuance,
    /** With which priority each certificate was signed. */
    priorities: priorities as readonly SignPriority[],
    registerAgent,
    createToken,
    enrol: (tokenHash: string, requester: Requester) =>
      issuance.issue({
        operation: 'enrol',
        evidence: { kind: 'token', tokenHash },
        csr: requester.csr,
        context: context('token'),
      }),
    renew: (presentedSerial: string, requester: Requester) =>
      issuance.issue({
        operation: 'renew',
        evidence: { kind: 'renewal', presentedSerial },
        csr: requester.csr,
        context: context('agent'),
      }),
    /** The sweep as it would run long after every deadline. */
    sweepAll: () =>
      ledger.issuance.sweepIntents({ now: Date.now() + day, epoch, leaf: () => leaf('certificate_orphaned') }),
    publishCrl: () => publishCrlOf(active),
    /** Of another one of the CAs that have a key here. */
    publishCrlOf,
    /** Runs openssl on files written from these bytes. */
    openssl: (args: readonly string[], files: Readonly<Record<string, string | Uint8Array>> = {}): string => {
      for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
      return execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
    },
    [Symbol.asyncDispose]: async () => {
      await signer[Symbol.asyncDispose]()
      await ledger.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
