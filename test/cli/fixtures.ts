// What the test server answers unless a test says otherwise: one small CA, with nobody called `ghost`.
import { generateKeyPairSync, sign } from 'node:crypto'
import { encodeCheckpoint, encodeNote, originOf } from '../../src/audit/checkpoint.ts'
import { createLeaf, emptyHead, extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import { toBase64, toHex } from '../../src/base/bytes.ts'
import { CaError } from '../../src/ca/errors.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type * as answers from '../../src/schema/admin-answers.ts'
import type { EventSinkAnswer } from '../../src/schema/event-answers.ts'
import type { OrphanAnswer } from '../../src/schema/orphan-answers.ts'
import type { OwnerAnswer } from '../../src/schema/owner-api.ts'
import { StoreError } from '../../src/store/errors.ts'
import { createParty } from '../pki/crl-authority.ts'
import { acmeFixtures } from './acme-fixtures.ts'
import { attestorFixtures } from './attestor-cases.ts'
import { monitorFixtures } from './monitor-fixtures.ts'
import { policyFixtures } from './policy-fixtures.ts'
import type { Handlers } from './server.ts'

export const at = '2026-11-24T12:00:00.000Z'
export const root = createParty({ name: 'root', notAfter: Date.now() + 3000 * 86_400_000 })
export const issuing = createParty({ name: 'issuing', issuer: root, notAfter: Date.now() + 300 * 86_400_000 })
export const leaf = createParty({ name: 'leaf', issuer: issuing, extensions: [] })
export const pemOf = (party: typeof root): string => encodePem('CERTIFICATE', party.certificate.der)

export const serial = leaf.certificate.serialHex

export const radius = (certificates: number, more: Partial<answers.RadiusAnswer> = {}): answers.RadiusAnswer => ({
  registrations: [{ kind: 'agent', name: 'billing' }],
  instances: certificates,
  certificates,
  intents: 0,
  tokens: 0,
  subscriptions: 0,
  serials: certificates === 0 ? [] : [serial],
  ...more,
})

const known = (name: string, kind: string): string => {
  if (name !== 'ghost') return name
  throw new CaError('not_found', `no ${kind} is called ghost`, { hint: `agentca ${kind} list` })
}

export const registration = (
  name: string,
  more: Partial<answers.RegistrationAnswer> = {},
): answers.RegistrationAnswer => ({
  kind: 'agent',
  name,
  owner: 'finance',
  purpose: 'pays bills',
  profile: 'agent',
  roles: ['payer'],
  attributes: { tier: 'gold' },
  dns: [],
  instances: null,
  role: null,
  until: null,
  boundKeyHash: null,
  managedBy: null,
  state: 'active',
  version: 1,
  createdAt: at,
  changedAt: at,
  ...more,
})

export const instance: answers.InstanceAnswer = {
  id: 'a1b2',
  kind: 'agent',
  name: 'billing',
  spiffeId: 'spiffe://example.org/agent/billing/i/a1b2',
  state: 'active',
  lockReason: null,
  serial,
  generation: 3,
  notAfter: at,
  createdAt: at,
  changedAt: at,
}

export const token: answers.TokenAnswer = {
  id: 't1',
  kind: 'agent',
  name: 'billing',
  uses: 1,
  usesTaken: 0,
  boundKeyHash: null,
  evidence: null,
  state: 'active',
  expiresAt: at,
  createdAt: at,
  createdBy: 'operator:local',
}

export const certificate = (number: number): answers.CertificateAnswer => ({
  serial: number.toString(16).padStart(32, '0'),
  state: 'issued',
  kind: 'agent',
  agent: 'billing',
  instance: 'a1b2',
  generation: number,
  notBefore: at,
  notAfter: at,
  issuedAt: at,
  revokedAt: null,
  reason: null,
})

const change = (kind: answers.SubjectKindName, name: string, dryRun: boolean, count = 0): answers.ChangeAnswer => ({
  registration: registration(known(name, kind), { kind }),
  radius: radius(count),
  dryRun,
})

const issuerOf = (name: 'root-1' | 'issuing-1'): answers.IssuerAnswer => {
  const party = name === 'root-1' ? root : issuing
  const notAfter = party.certificate.notAfter
  return {
    name,
    kind: name === 'root-1' ? 'root' : 'issuing',
    state: 'active',
    subject: `CN=${name}`,
    serial: party.certificate.serialHex,
    keyLabel: name === 'root-1' ? null : name,
    keyHash: party.certificate.spkiHashHex,
    fingerprint: `sha256:${'ab'.repeat(32)}`,
    notBefore: new Date(party.certificate.notBefore).toISOString(),
    notAfter: new Date(notAfter).toISOString(),
    daysLeft: Math.floor((notAfter - Date.now()) / 86_400_000),
    parent: name === 'root-1' ? null : 'root-1',
    certificate: pemOf(party),
  }
}

export const issuers = (): readonly answers.IssuerAnswer[] => [issuerOf('root-1'), issuerOf('issuing-1')]

export const crl = (issuer: string, url: string | null = null): answers.CrlAnswer => ({
  issuer,
  shard: null,
  number: '1764000000000',
  thisUpdate: new Date(Date.now() - 3_600_000).toISOString(),
  nextUpdate: new Date(Date.now() + (issuer === 'root-1' ? 200 * 86_400_000 : 82_800_000)).toISOString(),
  entries: 2,
  sha256: 'cd'.repeat(32),
  bytes: 400,
  url,
})

export const hsmStatus: answers.HsmStatusAnswer = {
  state: 'ready',
  pinLatched: false,
  detail: 'logged in',
  since: at,
  keys: [{ label: 'issuing-1', purposes: ['leaf', 'crl'], curve: 'P-256' }],
  sessions: { open: 2, busy: 0, queued: 0, stuck: 0 },
  signatures: [{ key: 'issuing-1', purpose: 'leaf', total: 41 }],
  restarts: 0,
}

export const hsmKey: answers.HsmKeyAnswer = {
  label: 'issuing-1',
  id: '01',
  curve: 'P-256',
  sign: true,
  sensitive: true,
  extractable: false,
  alwaysSensitive: true,
  neverExtractable: true,
  local: true,
}

const maintenance = (state: 'waiting' | 'ended'): answers.MaintenanceAnswer => ({
  state,
  backupAt: at,
  restoredAt: at,
  endedAt: state === 'ended' ? at : null,
  feedEntriesLost: 3,
  auditLeavesLost: null,
  revoked: 2,
  held: [],
  unknown: 1,
  locked: [],
  tokensRevoked: 4,
})

const clock = (): answers.ClockAnswer => ({
  state: 'ok',
  now: new Date().toISOString(),
  lastSigning: at,
  detail: 'steady',
})

export const profile: answers.ProfileAnswer = {
  name: 'agent',
  hash: 'ef'.repeat(32),
  kind: 'agent',
  lifetimeSeconds: 3600,
  content: { lifetime: 3600 },
}

// A real log: chained leaves, and a checkpoint over all of them by a log key.
const logKeys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const logKeyPem = logKeys.publicKey.export({ type: 'spki', format: 'pem' }) as string
const origin = originOf('ca-1')

export const leaves: readonly answers.LeafAnswer[] = (() => {
  let head = emptyHead
  return Array.from({ length: 25 }, (_, index) => {
    const made = createLeaf('owner_created', { at: Date.UTC(2026, 10, 24) + index, who: 'operator:alice' }, 'owner:x', {
      n: index,
    })
    head = extendHead(head, hashLeaf(made.bytes))
    return {
      index,
      event: made.event,
      at: new Date(made.at).toISOString(),
      subject: made.subject,
      content: JSON.parse(Buffer.from(made.bytes).toString('utf8')) as Record<string, unknown>,
      bytes: toBase64(made.bytes),
      head: toHex(head),
    }
  })
})()

export const checkpoint = (size: number): answers.CheckpointAnswer => {
  const head = size === 0 ? emptyHead : new Uint8Array(Buffer.from(leaves[size - 1]?.head as string, 'hex'))
  const signedText = encodeCheckpoint({ origin, size, head, at: Date.UTC(2026, 10, 24, 1) })
  const note = encodeNote(signedText, origin, new Uint8Array(sign('sha256', signedText, logKeys.privateKey)))
  return { size, head: toHex(head), at, note, publicKey: logKeyPem }
}

export const status = (): answers.StatusAnswer => ({
  caId: 'ca-1',
  trustDomain: 'example.org',
  version: '0.1.0',
  mode: 'development',
  startedAt: at,
  urls: { api: 'https://127.0.0.1:8443', status: 'http://127.0.0.1:8081' },
  issuers: issuers().map(({ name, kind, state, notAfter, daysLeft }) => ({
    name,
    kind,
    state,
    notAfter,
    daysLeft,
    crl: crl(name),
  })),
  certificates: { issued: 41, held: 1, revoked: 2, intent: 0, orphaned: 0, void: 3 },
  registrations: {
    agent: { active: 5, held: 1, retired: 0 },
    service: { active: 2, held: 0, retired: 0 },
    operator: { active: 1, held: 0, retired: 0 },
  },
  signer: { state: 'ready', detail: 'logged in', restarts: 0 },
  audit: { size: 25, checkpoint: { size: 25, at: new Date().toISOString() } },
  clock: clock(),
  feed: { epoch: 'e1', n: 7 },
  policies: { active: 3, unfinished: null },
  recovered: [],
  attestors: [{ name: 'github', state: 'stale' }],
  rates: { issuedPerMinute: 12, refusedPerMinute: 1, revokedPerMinute: 0 },
})

export const subscriber = (name: string, more: Partial<answers.SubscriberAnswer> = {}): answers.SubscriberAnswer => ({
  subscriber: name,
  kind: 'service',
  state: 'live',
  sent: 8,
  acked: 8,
  lag: 0,
  connectedAt: at,
  ackedAt: at,
  heartbeatAt: at,
  staleSince: null,
  coveredUntil: at,
  ...more,
})

const orphan: OrphanAnswer = {
  what: 'agent',
  kind: 'agent',
  name: 'billing',
  id: null,
  owner: 'finance',
  state: 'active',
  reasons: [{ reason: 'idle', since: at, cure: 'agentca agent retire billing' }],
  warnedAt: at,
  next: { act: 'retire', at },
}
const tokenUnused = { reason: 'token_unused', since: at, cure: 'agentca token revoke t1' } as const

export const eventSink: EventSinkAnswer = {
  sink: 'jsonl',
  target: '/var/log/agentca/events.jsonl',
  state: 'live',
  next: 25,
  behind: 0,
  dead: 0,
  deliveredAt: at,
  failures: 0,
  error: null,
}

const list = <T>(items: readonly T[], next: string | null = null): answers.List<T> => ({ items, next })

const identity = (dryRun: boolean): answers.IdentityAnswer => ({
  spiffeId: instance.spiffeId,
  agent: 'billing',
  instance: 'a1b2',
  serial: dryRun ? '' : serial,
  generation: 1,
  notBefore: at,
  notAfter: at,
  renewAfter: at,
  renewBefore: at,
  renewInSeconds: 1800,
  expiresInSeconds: 3600,
  certificate: dryRun ? '' : pemOf(leaf),
  chain: pemOf(issuing),
  bundle: pemOf(root),
  notGranted: ['subject CN=postgres'],
})

const kindOf = (plural: string): answers.SubjectKindName => plural.slice(0, -1) as answers.SubjectKindName

const created = (
  kind: answers.SubjectKindName,
  name: string,
  more: Partial<answers.RegistrationAnswer>,
): answers.RegistrationAnswer => {
  if (name === 'taken')
    throw new StoreError('already_exists', `${kind} taken exists`, { hint: `agentca ${kind} show taken` })
  return registration(name, { kind, ...more })
}

const owner = (name: string): OwnerAnswer => ({
  ...{ name, state: 'active', agents: 3, registrations: 4, managedBy: null, createdAt: at },
})

export const fixtures: Handlers = {
  status,
  whoami: () => ({ name: 'local', role: 'admin', mode: 'development' }),

  ownersList: () => list([owner('finance')]),
  ownersCreate: ({ body }) => {
    if (body.name === 'taken')
      throw new StoreError('already_exists', 'owner taken exists already', { hint: 'agentca owner list' })
    return { ...owner(body.name), agents: 0, registrations: 0 }
  },
  ownersUpdate: ({ params, body }) => ({ ...owner(params.name), managedBy: body.managedBy }),
  ownersRemove: ({ params }) => {
    known(params.name, 'owner')
    return owner(params.name)
  },
  ownersGone: ({ params, body }) => {
    known(params.name, 'owner')
    return { radius: radius(1), dryRun: body.dryRun }
  },

  agentsCreate: ({ body }) => created('agent', body.name, { owner: body.owner }),
  servicesCreate: ({ body }) => created('service', body.name, { dns: body.dns }),
  operatorsCreate: ({ body }) => created('operator', body.name, { role: body.role }),
  registrationsList: ({ params, query }) =>
    list(
      ['archive', 'billing'].map(name =>
        registration(name, { kind: kindOf(params.kind), state: query.state ?? 'active' }),
      ),
    ),
  registrationsShow: ({ params }) => ({
    ...registration(known(params.name, kindOf(params.kind)), { kind: kindOf(params.kind) }),
    liveInstances: [instance],
    tokens: [token],
  }),
  agentsUpdate: ({ params, body }) => change('agent', params.name, body.dryRun),
  servicesUpdate: ({ params, body }) => change('service', params.name, body.dryRun),
  agentsHold: ({ params, body }) => change('agent', params.name, body.dryRun, 3),
  agentsRelease: ({ params, body }) => change('agent', params.name, body.dryRun, 3),
  agentsRetire: ({ params, body }) => change('agent', params.name, body.dryRun, 3),
  agentsAttest: ({ params, body }) => change('agent', params.name, body.dryRun),
  servicesRetire: ({ params, body }) => change('service', params.name, body.dryRun, 1),
  operatorsRetire: ({ params, body }) => change('operator', params.name, body.dryRun, 0),
  operatorsRecover: ({ params, body }) => ({
    id: 't1',
    token: body.dryRun ? '' : 'agentca-token-secret',
    expiresAt: at,
    uses: 1,
    subject: { kind: 'operator', name: known(params.name, 'operator') },
    caFingerprint: `sha256:${'ab'.repeat(32)}`,
    url: 'https://127.0.0.1:8443',
    created: false,
  }),

  instancesList: () => list([instance]),
  instancesShow: ({ params }) => ({ ...instance, id: known(params.id, 'instance') }),
  instancesUnlock: ({ params }) => ({ ...instance, id: known(params.id, 'instance') }),

  tokensCreate: ({ body }) => ({
    id: 't1',
    token: body.dryRun ? '' : 'agentca-token-secret',
    expiresAt: at,
    uses: body.uses,
    subject: { kind: body.kind, name: known(body.name, body.kind) },
    caFingerprint: `sha256:${'ab'.repeat(32)}`,
    url: 'https://127.0.0.1:8443',
  }),
  tokensList: () => list([token]),
  tokensRevoke: ({ params }) => ({ ...token, id: known(params.id, 'token'), state: 'revoked' }),

  certificatesIssue: ({ body }) => {
    known(body.name, body.kind)
    return identity(body.dryRun)
  },
  certificatesList: ({ query }) => {
    const from = query.after === undefined ? 1 : Number.parseInt(query.after, 16) + 1
    const items = Array.from({ length: Math.max(0, Math.min(query.limit, 2501 - from)) }, (_, i) =>
      certificate(from + i),
    )
    return list(items, from + items.length <= 2500 ? (items.at(-1)?.serial ?? null) : null)
  },
  certificatesShow: ({ params }) => {
    if (params.serial === '00')
      throw new CaError('not_found', 'no certificate has serial 00', { hint: 'agentca cert list' })
    return {
      ...certificate(1),
      serial: params.serial,
      issuer: 'issuing-1',
      predecessor: null,
      replaced: false,
      keyHash: leaf.certificate.spkiHashHex,
      profile: 'agent',
      profileHash: profile.hash,
      requester: 'token:t1',
      certificate: params.serial === '0f' ? null : pemOf(leaf),
      chain: pemOf(issuing),
    }
  },

  revoke: ({ body }) => ({
    by: body.by,
    value: known(body.value, body.by),
    reason: body.reason,
    radius: radius(body.by === 'serial' || body.by === 'instance' ? 1 : 3),
    feed: body.dryRun ? null : { epoch: 'e1', n: 8 },
    at,
    dryRun: body.dryRun,
  }),

  orphansList: ({ query }) => ({
    items: [orphan, { ...orphan, what: 'token', id: 't1', reasons: [tokenUnused], next: null } as const].filter(
      row => query.reason === undefined || row.reasons.some(({ reason }) => reason === query.reason),
    ),
    next: null,
  }),
  orphansRetire: ({ body }) => ({ items: [{ ...orphan, problem: null }], more: false, dryRun: body.dryRun }),

  eventsStatus: () => list([eventSink]),
  eventsTest: ({ body }) => ({
    items: [{ sink: 'jsonl', delivered: !body.dryRun, error: null }],
    dryRun: body.dryRun,
  }),

  feedStatus: () => ({
    epoch: 'e1',
    n: 8,
    oldest: 1,
    heartbeatSeconds: 5,
    leaseSeconds: 15,
    subscribers: [subscriber('orders/1'), subscriber('orders/2', { state: 'lagging', lag: 1, acked: 7 })],
  }),
  feedNewEpoch: () => ({ from: 'e1', epoch: 'e2', n: 8 }),
  feedApplied: ({ query }) => ({ n: query.n, of: 0, applied: 0, afterMs: null, missing: [] }),

  ...monitorFixtures,
  ...policyFixtures,
  ...acmeFixtures,
  ...attestorFixtures,

  crlStatus: () => list([crl('root-1'), crl('issuing-1')]),
  crlPublish: () => list([crl('issuing-1')]),

  issuersList: () => list(issuers()),
  issuersShow: ({ params }) => {
    const found = issuers().find(each => each.name === params.name)
    if (found === undefined)
      throw new CaError('not_found', `no CA is called ${params.name}`, { hint: 'agentca ca list' })
    return found
  },
  issuersPrepare: ({ body }) => ({
    ...issuerOf('issuing-1'),
    name: body.name,
    keyLabel: body.keyLabel,
    state: 'prepared',
  }),
  issuersActivate: ({ params }) => ({ ...issuerOf('issuing-1'), name: known(params.name, 'ca') }),
  issuersRetire: ({ params }) => ({ ...issuerOf('issuing-1'), name: known(params.name, 'ca'), state: 'retired' }),

  hsmStatus: () => hsmStatus,
  hsmKeys: () => list([hsmKey]),
  hsmTestSign: ({ body }) =>
    list([{ key: body.key ?? 'issuing-1', signed: 'aa', signature: 'bb', milliseconds: 0.25 }]),
  hsmUnlock: () => hsmStatus,

  profilesList: () => list([profile]),
  profilesShow: ({ params }) => ({ ...profile, name: known(params.name, 'profile') }),

  auditTail: ({ query }) => list(leaves.slice(-query.limit).toReversed()),
  auditLeaves: ({ query }) => list(leaves.slice(query.from, query.from + query.limit)),
  auditCheckpoints: () => list([checkpoint(25), checkpoint(10)]),
  auditCheckpoint: () => checkpoint(25),

  clockShow: clock,
  clockAccept: clock,
  backupsRecord: () => ({ auditIndex: 25 }),
  maintenanceShow: () => maintenance('ended'),
  maintenanceEnd: () => maintenance('ended'),
}
