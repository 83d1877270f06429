// The admin API over a real authority: on a TLS listener for operators with certificates, and on a plain one that stands for the admin
// socket. Nothing is faked but what the machine of a test lacks (the log key, a second start of the signer).

import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { createBindings } from '../../../src/acme/bindings.ts'
import { createSealer } from '../../../src/acme/eab-seal.ts'
import { silentLog } from '../../../src/base/log.ts'
import { noSteps } from '../../../src/base/steps.ts'
import { createClockGuard } from '../../../src/ca/clock-guard.ts'
import { createDrafter } from '../../../src/ca/draft.ts'
import { createPreviewIssuance } from '../../../src/ca/issue-preview.ts'
import { createIssuerRotation } from '../../../src/ca/issuer-rotation.ts'
import { createLifecycle } from '../../../src/ca/lifecycle.ts'
import { createMaintenance } from '../../../src/ca/maintenance.ts'
import { createOperatorRecovery } from '../../../src/ca/operator-recovery.ts'
import { createOrphanWatch } from '../../../src/ca/orphan-watch.ts'
import { createOwnerOperations } from '../../../src/ca/owners.ts'
import { createRegistry } from '../../../src/ca/registry.ts'
import { createRevoke } from '../../../src/ca/revoke.ts'
import { openPolicyAuthority } from '../../../src/ca/scopes.ts'
import { createTokenOperations } from '../../../src/ca/tokens.ts'
import { explainToken } from '../../../src/enrol/explain.ts'
import { createFeed } from '../../../src/feed/feed.ts'
import type { AdminDeps, Mode } from '../../../src/http/admin/deps.ts'
import { createAdminRouter } from '../../../src/http/admin/router.ts'
import { createApp } from '../../../src/http/app.ts'
import { createListener } from '../../../src/http/listener.ts'
import { encodePem } from '../../../src/pki/pem.ts'
import type { OperatorRoleName } from '../../../src/schema/admin-api.ts'
import { hsmKeys, hsmServedKeys, hsmStatus, hsmTestSign, hsmUnlock } from '../../../src/signer/inspect.ts'
import type { SubjectKind } from '../../../src/store/records.ts'
import { caId, leaf, profiles, trustDomain } from '../../ca/authority.ts'
import { monitorOver } from '../../monitor/world.ts'
import { type Ask, createKey, createTestFront, publicUrl, type Shown } from '../harness.ts'

const noLogKey = () => Promise.reject(new Error('this authority has no log key'))

const adminDeps = async (front: Awaited<ReturnType<typeof createTestFront>>, mode: Mode): Promise<AdminDeps> => {
  const { ledger, ca, deps } = front
  const { clock, issuers, metrics } = deps
  const { client } = ca.signer
  const common = {
    clock,
    log: silentLog,
    metrics,
    registrations: ledger.registrations,
    owners: ledger.owners,
    instances: ledger.instances,
    audit: ledger.audit,
    certificates: ledger.certificates,
    revocations: ledger.revocations,
    feed: ledger.feed,
    tokens: ledger.tokens,
    caId,
    randomBytes: (length: number) => new Uint8Array(randomBytes(length)),
    reached: noSteps,
  }
  const drafter = createDrafter({
    trustDomain,
    activeIssuer: issuers.active,
    issuerOf: () => ca.issuer,
    profile: profiles.get,
    serialPrefix: 1,
    randomBytes,
  })
  const lifecycle = createLifecycle(common)
  const tokens = createTokenOperations(common)
  const registry = createRegistry({
    ...common,
    profileKind: name => profiles.list().find(each => each.name === name)?.kind ?? null,
  })
  const revoke = createRevoke(common)
  const day = 86_400_000
  return {
    clock,
    mode,
    trustDomain,
    ledger,
    registry,
    owners: createOwnerOperations({ clock, owners: ledger.owners }),
    lifecycle,
    tokens,
    bindings: createBindings({
      ...common,
      bindings: ledger.acme.bindings,
      sealer: createSealer(join(ca.directory, 'acme.key')),
    }),
    attestors: {
      list: () => [],
      explain: jwt =>
        explainToken({ ...ledger, maintenance: { restored: () => null }, attestors: [] }, jwt, clock.now()),
    },
    recoverOperator: createOperatorRecovery({ ...common, registry, tokens }),
    revoke,
    events: { status: () => [], test: async () => [] },
    orphans: createOrphanWatch({
      ...common,
      orphans: ledger.orphans,
      lifecycle,
      tokens,
      revoke,
      rules: {
        idleMs: 30 * day,
        tokenUnusedMs: 7 * day,
        confirmMs: 30 * day,
        attestMs: null,
        warnMs: 14 * day,
        graceMs: 7 * day,
        retire: 'off',
      },
    }),
    issuerRotation: createIssuerRotation({
      ...common,
      issuers,
      ledger: ledger.issuers,
      onlineKeys: () => client.keys(),
      servedKeys: () => hsmServedKeys(client),
      onIssuersChanged: async () => {},
    }),
    issuance: ca.issuance,
    previewIssuance: createPreviewIssuance({ clock, issuance: ledger.issuance, drafter, caId }),
    issuers,
    policies: await openPolicyAuthority({
      clock,
      log: silentLog,
      policies: ledger.policies,
      registrations: ledger.registrations,
    }),
    profiles: profiles.list,
    feed: createFeed({ ...common, heartbeatSeconds: 3600, leaseSeconds: 15 }),
    monitor: monitorOver(ledger, { clock }),
    rulesFile: null,
    crl: {
      byIssuer: name => {
        const record = issuers.byName(name)?.record
        const crl = record === undefined ? null : ledger.status.latestCrl(record.id)
        return crl === null ? null : { ...crl, der: crl.der!, shard: null, issuer: name }
      },
      shardsOf: () => [],
      publish: ca.publishCrl,
    },
    crlUrl: ({ issuer }) => `http://ca.example:8081/crl/${issuer}.crl`,
    hsm: {
      status: () => hsmStatus(client),
      restarts: () => 0,
      keys: () => hsmKeys(client),
      testSign: key => hsmTestSign(client, { monotonic: clock.monotonic, ...(key === undefined ? {} : { key }) }),
      unlock: pin => hsmUnlock(client, pin),
    },
    checkpoints: { now: noLogKey, publicKeyPem: '' },
    clockGuard: createClockGuard({ ...common, meta: ledger.meta }),
    maintenance: createMaintenance({ ...common, meta: ledger.meta }),
    about: { caId, version: '0.0.0-test', urls: { api: publicUrl, status: 'http://ca.example:8081' }, startedAt: 0 },
    rates: () => ({ issuedPerMinute: 0, refusedPerMinute: 0, revokedPerMinute: 0 }),
  }
}

export type AdminWorld = Awaited<ReturnType<typeof createAdminWorld>>

export const createAdminWorld = async (mode: Mode = 'development', changes: Partial<AdminDeps> = {}) => {
  const front = await createTestFront()
  const deps = { ...(await adminDeps(front, mode)), ...changes }
  const adminRouter = createAdminRouter(deps)
  const tls = await front.serve({}, { adminRouter })
  const socket = createListener(createServer(createApp({ face: 'socket', deps: front.deps, adminRouter })))
  const socketPort = await socket.listen({ host: '127.0.0.1', port: 0 })

  const call = (path: string, asked: Ask = {}) => tls.call(`/v1/admin${path}`, asked)
  /** Through the socket's face. */
  const local = async (path: string, body?: unknown, method = body === undefined ? 'GET' : 'POST') => {
    const reply = await fetch(`http://127.0.0.1:${socketPort}/v1/admin${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
    })
    const text = await reply.text()
    return {
      status: reply.status,
      headers: Object.fromEntries(reply.headers),
      text,
      // biome-ignore lint/suspicious/noExplicitAny: assertions look into it.
      body: (text === '' ? undefined : JSON.parse(text)) as any,
    }
  }

  /** What somebody shows who is registered already. */
  const credentialsOf = async (subject: SubjectKind, name: string): Promise<Shown & { readonly serial: string }> => {
    const key = await createKey()
    const issued = await front.ca.issuance.issue({
      operation: 'issue',
      evidence: { kind: 'registration', subject, name },
      csr: key.csr,
      context: { requestId: 'setup', who: 'operator:test', source: '127.0.0.1' },
    })
    return { cert: encodePem('CERTIFICATE', issued.certificate), key: key.privateKey, serial: issued.record.serial }
  }

  /** Registered past the API, so that every test starts from what it needs. */
  const register = (kind: SubjectKind, name: string, operatorRole: OperatorRoleName | null = null) =>
    front.ledger.owners.ensure('finance', Date.now(), leaf('owner_created')).then(() =>
      front.ledger.registrations.create(
        {
          kind,
          name,
          owner: 'finance',
          purpose: '',
          profile: kind,
          roles: [],
          attributes: {},
          dnsNames: [],
          instanceLimit: null,
          operatorRole,
          until: null,
          at: Date.now(),
        },
        leaf('registration_created'),
      ),
    )

  return {
    front,
    deps,
    ledger: front.ledger,
    call,
    local,
    register,
    credentialsOf,
    operator: async (name: string, role: OperatorRoleName) => {
      await register('operator', name, role)
      return credentialsOf('operator', name)
    },
    /** Newest first, as JSON. */
    leaves: (limit: number) =>
      front.ledger.audit.tail({ limit }).map(each => JSON.parse(Buffer.from(each.bytes).toString('utf8'))),
    [Symbol.asyncDispose]: async () => {
      await socket.close(0)
      await tls[Symbol.asyncDispose]()
      await front[Symbol.asyncDispose]()
    },
  }
}
