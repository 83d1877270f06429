// A responder over a real authority: keys in SoftHSM2, the SQLite ledger, one retired issuing CA beside the active one. Time can be
// moved a little (the signer has the real one and allows five minutes), and signatures can be held on their way back.
import { randomBytes } from 'node:crypto'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { createIssuers, type OnlineIssuer } from '../../src/ca/issuers.ts'
import type { ResponderCertificates } from '../../src/ca/ocsp-certificate.ts'
import { createOcspResponder, type OcspResponder, type OcspResponderDeps } from '../../src/ca/ocsp-responder.ts'
import type { OcspReply } from '../../src/ca/status-answers.ts'
import {
  type CertIdHash,
  checkOcspResponse,
  encodeCertId,
  encodeOcspRequest,
  parseOcspResponse,
  type VerifiedOcspAnswer,
} from '../../src/pki/ocsp.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { encodeSerial, serialFromHex, serialHex } from '../../src/pki/serial.ts'
import { parseSubjectPublicKeyInfo } from '../../src/pki/spki.ts'
import type { SignerPort, SignRequest } from '../../src/signer/port.ts'
import type { IntentRecord } from '../../src/store/ports.ts'
import type { Registration } from '../../src/store/records.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createRequester, createTestAuthority, leaf } from './authority.ts'

export const freshSerial = (): string =>
  serialHex(encodeSerial({ prefix: 1, nowMs: Date.now(), random10: randomBytes(10) }))

/** In place of the server's files. */
export const createCertificateDrawer = (): ResponderCertificates & { readonly kept: Map<string, Uint8Array> } => {
  const kept = new Map<string, Uint8Array>()
  return { kept, load: issuer => kept.get(issuer) ?? null, save: (issuer, der) => void kept.set(issuer, der) }
}

/** The signer of `inner`, whose signatures can be held back, and which can be cut off. */
const createValve = (inner: () => SignerPort) => {
  const signed: SignRequest[] = []
  let gate: { readonly arrived: PromiseWithResolvers<void>; readonly open: PromiseWithResolvers<void> } | null = null
  let cut = false
  const signer: Pick<SignerPort, 'sign' | 'isConnected'> = {
    isConnected: () => !cut && inner().isConnected(),
    sign: async request => {
      const signature = await inner().sign(request)
      signed.push(request)
      if (gate !== null && request.purpose === 'ocsp-response') {
        const { arrived, open } = gate
        arrived.resolve()
        await open.promise
      }
      return signature
    },
  }
  return {
    signer,
    /** What was signed, in order. */
    signed,
    /** From now on OCSP signatures wait. `arrived`: the HSM has made one. */
    hold: () => {
      const made = { arrived: Promise.withResolvers<void>(), open: Promise.withResolvers<void>() }
      gate = made
      return {
        arrived: made.arrived.promise,
        release: () => {
          gate = null
          made.open.resolve()
        },
      }
    },
    cut: (state: 'off' | 'on') => {
      cut = state === 'off'
    },
  }
}

export type OcspAuthority = Awaited<ReturnType<typeof createOcspAuthority>>

export const createOcspAuthority = async () => {
  const ca = await createTestAuthority(
    path => openSqliteLedger(path, { clock: systemClock, log: silentLog }),
    ['ocsp-1', 'issuing-0'],
  )
  const issuers = createIssuers(ca.ledger.issuers, null)
  const issuerNamed = (name: string): OnlineIssuer => {
    const issuer = issuers.byName(name)?.online
    if (issuer == null) throw new Error(`no issuer ${name}`)
    return issuer
  }
  const active = issuerNamed('issuing-1')
  let offset = 0
  const clock: Clock = { now: () => Date.now() + offset, monotonic: () => performance.now() + offset }
  let client: SignerPort = ca.signer.client
  const valve = createValve(() => client)
  const responders: OcspResponder[] = []

  const createResponder = (changes: Partial<OcspResponderDeps> = {}): OcspResponder => {
    const responder = createOcspResponder({
      clock,
      log: silentLog,
      metrics: silentMetrics,
      issuers,
      status: ca.ledger.status,
      revocations: ca.ledger.revocations,
      audit: ca.ledger.audit,
      signer: valve.signer,
      responderKey: { label: 'ocsp-1', spki: parseSubjectPublicKeyInfo(ca.onlineKeys.get('ocsp-1')!) },
      responderId: 'byKey',
      certificates: createCertificateDrawer(),
      checkClock: () => {},
      randomBytes,
      serialPrefix: 1,
      lifetimeSeconds: 4 * 3600,
      responderLifetimeSeconds: 30 * 86_400,
      signDeadlineMs: 20_000,
      nonce: 'off',
      nonceBudget: 1000,
      unknownBudget: 1000,
      maxCached: 1000,
      ...changes,
    })
    responders.push(responder)
    return responder
  }

  const closeResponders = async (): Promise<void> => {
    for (const responder of responders.splice(0)) await responder.close()
  }

  const certIdOf = (serial: string, hash: CertIdHash = 'sha1', issuer = active): Uint8Array =>
    encodeCertId({
      hash,
      issuerNameDer: issuer.subjectDer,
      issuerKeyBits: issuer.spki.keyBytes,
      serial: serialFromHex(serial),
    })
  const requestFor = (serial: string, hash: CertIdHash = 'sha1', issuer = active): Uint8Array =>
    encodeOcspRequest({ certIds: [certIdOf(serial, hash, issuer)] })

  /** What a relying party takes from a reply about this serial. */
  const verified = (reply: OcspReply, serial: string, issuer = active, nonce?: Uint8Array): VerifiedOcspAnswer =>
    checkOcspResponse({
      response: parseOcspResponse(reply.der),
      issuer: issuer.certificate,
      serial: serialFromHex(serial),
      at: clock.now(),
      clockSkewMs: 0,
      maxAgeMs: null,
      nonce: nonce === undefined ? null : { sent: nonce, absent: 'refuse' },
    })

  const intentOf = (
    registration: Pick<Registration, 'id' | 'version'>,
    changes: Partial<IntentRecord> = {},
  ): IntentRecord => ({
    serial: freshSerial(),
    issuerId: active.id,
    kind: 'agent',
    registrationId: registration.id,
    registrationVersion: registration.version,
    instanceId: randomBytes(16).toString('hex'),
    newInstance: true,
    generation: 1,
    predecessor: null,
    supersedes: null,
    tokenId: null,
    recovery: false,
    keyHash: randomBytes(32).toString('hex'),
    tbs: randomBytes(16),
    profile: 'agent',
    profileHash: randomBytes(32).toString('hex'),
    requester: 'operator:test',
    notBefore: Date.now() - 60_000,
    notAfter: Date.now() + 3_600_000,
    epoch: 1,
    deadline: Date.now() + 30_000,
    createdAt: Date.now(),
    ...changes,
  })

  /** Straight into the ledger, for states and times that issuance would not give. */
  const recordIntents = (agent: string, intents: readonly IntentRecord[]) =>
    ca.ledger.issuance.recordIntents(
      intents.map(intent => ({
        query: {
          evidence: { kind: 'registration' as const, subject: 'agent' as const, name: agent },
          keyHash: intent.keyHash,
          now: Date.now(),
        },
        decide: () => ({ act: 'record' as const, intent, leaf: leaf('intent_recorded') }),
      })),
    )
  const recordIssued = async (...intents: readonly IntentRecord[]): Promise<void> => {
    const outcomes = await ca.ledger.issuance.recordIssued(
      intents.map(intent => ({
        serial: intent.serial,
        signature: Uint8Array.of(0x30, 0),
        epoch: intent.epoch,
        at: Date.now(),
        issuedLeaf: leaf('certificate_issued'),
        refusedLeaf: () => leaf('release_refused'),
      })),
    )
    if (outcomes.includes('refused')) throw new Error('expected issued, got refused')
  }
  let agents = 0
  const recordIntent = async (changes: Partial<IntentRecord> = {}): Promise<IntentRecord> => {
    agents += 1
    const intent = intentOf(await ca.registerAgent(`recorded-${agents}`), changes)
    await recordIntents(`recorded-${agents}`, [intent])
    return intent
  }

  return {
    ...ca,
    clock,
    issuers,
    active,
    retired: issuerNamed('issuing-0'),
    valve,
    createResponder,
    certIdOf,
    requestFor,
    requestWithNonce: (serials: readonly string[]): Uint8Array =>
      encodeOcspRequest({ certIds: serials.map(serial => certIdOf(serial)), nonce: new Uint8Array(16).fill(7) }),
    verified,
    /** The status in a reply that verifies, or the reason of a revocation, or the error. */
    said: (reply: OcspReply, serial: string): string => {
      const response = parseOcspResponse(reply.der)
      if (response.status !== 'successful') return response.status
      const { status } = verified(reply, serial).answer
      return typeof status === 'string' ? status : status.reason
    },
    /** The serial of a certificate that was issued. */
    issued: async (notAfter = Date.now() + 3_600_000): Promise<string> => {
      const intent = await recordIntent({ notAfter })
      await recordIssued(intent)
      return intent.serial
    },
    recordIntent,
    recordIssued,
    /** Certificates of one agent, each an instance of its own. */
    recordMany: async (name: string, count: number): Promise<readonly string[]> => {
      const registration = await ca.registerAgent(name)
      const intents = Array.from({ length: count }, () => intentOf(registration))
      await recordIntents(name, intents)
      await recordIssued(...intents)
      return intents.map(({ serial }) => serial)
    },
    /** A certificate as it is really issued. */
    enrolAgent: async (name: string) => {
      const registration = await ca.registerAgent(name)
      const { record, certificate } = await ca.enrol(await ca.createToken(registration.id), await createRequester())
      return { serial: record.serial, certificate }
    },
    revoke: (by: 'serial' | 'agent', value: string, reason = 'keyCompromise', at = Date.now()) =>
      ca.ledger.revocations.revoke({
        selector: { by, value },
        reason,
        at,
        expected: null,
        leaf: () => leaf('revoked'),
      }),
    setState: (name: string, state: 'active' | 'held') =>
      ca.ledger.registrations.change({
        kind: 'agent',
        name,
        at: Date.now(),
        decide: () => ({ set: {}, state }),
        leaf: () => leaf('registration_changed'),
      }),
    /** Moves both clocks, at most to five minutes from the real time when something is to be signed then. */
    advance: (milliseconds: number): void => {
      offset += milliseconds
    },
    present: (): void => {
      offset = 0
    },
    /** Another signer in place of the one that the authority began with. */
    useSigner: (other: SignerPort): void => {
      client = other
    },
    pem: (der: Uint8Array) => encodePem('CERTIFICATE', der),
    closeResponders,
    [Symbol.asyncDispose]: async () => {
      await closeResponders()
      await ca[Symbol.asyncDispose]()
    },
  }
}
