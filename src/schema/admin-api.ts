// The admin API as data: one table that the server routes by, the command line calls by, and authorization enumerates. Default deny:
// what is not in this table does not exist. Answers are admin-answers.ts's.
import * as z from 'zod'
import { type AcmeRouteAnswers, acmeRoutes } from './acme-api.ts'
import type * as answers from './admin-answers.ts'
import { type AttestorRouteAnswers, attestorRoutes } from './attestor-api.ts'
import type * as events from './event-answers.ts'
import type * as monitor from './monitor-answers.ts'
import type * as orphans from './orphan-answers.ts'
import { type OwnerRouteAnswers, ownerRoutes } from './owner-api.ts'
import { type PolicyRouteAnswers, policyRoutes } from './policy-answers.ts'

/** Each role may do what the roles before it may. `viewer` reads, `operator` registers and issues, `security` revokes and holds, `admin` does all. */
export const operatorRoles = ['viewer', 'operator', 'security', 'admin'] as const
export type OperatorRoleName = (typeof operatorRoles)[number]

export interface AdminRoute {
  readonly method: 'GET' | 'POST'
  /** Under `/v1/admin`; parameters as `:name`. */
  readonly path: string
  readonly role: OperatorRoleName
  /** A mutation needs an operator certificate in production mode. */
  readonly effect: 'read' | 'mutate'
  readonly body: z.ZodType | null
  readonly query: z.ZodType | null
}

const time = z.iso.datetime({ offset: true })
const name = z.string().min(1).max(64)
const kind = z.enum(['agent', 'service', 'operator'])
const dryRun = z.boolean().default(false)
const why = z.string().max(1000).optional()
const page = z.strictObject({
  after: z.string().max(200).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})
const keyHash = z.string().regex(/^[0-9a-f]{64}$/)
const common = {
  /** SHA-256 of the only SubjectPublicKeyInfo that may enrol, hex. */
  bindKeyHash: keyHash.optional(),
  /** The declarative set it belongs to. */
  managedBy: name.optional(),
  owner: name.optional(),
  purpose: z.string().max(1000).default(''),
  profile: name.optional(),
  attributes: z.record(z.string().min(1).max(64), z.string().max(256)).default({}),
  roles: z.array(z.string().min(1).max(64)).max(64).default([]),
  instances: z.int().min(1).max(100_000).optional(),
  until: time.optional(),
  dryRun,
}

const agentCreate = z.strictObject({ name, ...common, owner: name })
const serviceCreate = z.strictObject({ name, ...common, dns: z.array(z.string().min(1).max(253)).max(64).default([]) })
const operatorCreate = z.strictObject({
  name,
  role: z.enum(operatorRoles),
  owner: name.optional(),
  profile: name.optional(),
  until: time.optional(),
  dryRun,
})
/** A confirmation: how many certificates and intents the caller saw and accepts; required by the command line, checked here when given. */
const change = z.strictObject({ why, expected: z.int().min(0).optional(), dryRun })
/** What may be changed of a registration; whoever changes the owner of a held agent may then release it. */
const update = z.strictObject({
  bindKeyHash: keyHash.nullable().optional(),
  managedBy: name.nullable().optional(),
  owner: name.optional(),
  purpose: z.string().max(1000).optional(),
  profile: name.optional(),
  roles: z.array(z.string().min(1).max(64)).max(64).optional(),
  attributes: z.record(z.string().min(1).max(64), z.string().max(256)).optional(),
  instances: z.int().min(1).max(100_000).nullable().optional(),
  until: time.nullable().optional(),
  dns: z.array(z.string().min(1).max(253)).max(64).optional(),
  dryRun,
})
const registrationQuery = z.strictObject({
  owner: name.optional(),
  state: z.enum(['active', 'held', 'retired']).optional(),
  ...page.shape,
})
const tokenCreate = z.strictObject({
  kind,
  name,
  ttlSeconds: z
    .int()
    .min(1)
    .max(30 * 86_400)
    .default(600),
  uses: z.int().min(1).max(100_000).default(1),
  /** SHA-256 of the only SubjectPublicKeyInfo that may use it, hex. */
  bindKeyHash: keyHash.optional(),
  dryRun,
})
export const revocationSelectors = [
  'serial',
  'instance',
  'agent',
  'service',
  'operator',
  'owner',
  'token',
  'key',
  'issuer',
] as const
export const orphanReasonNames = [
  'owner_gone',
  'owner_unconfirmed',
  'attestation_due',
  'attestation_lapsed',
  'past_end',
  'never_enrolled',
  'idle',
  'token_unused',
  'grant_unused',
] as const satisfies readonly orphans.OrphanReasonName[]
const revoke = z.strictObject({
  by: z.enum(revocationSelectors),
  value: z.string().min(1).max(200),
  reason: z.string().min(1).max(64),
  why,
  expected: z.int().min(0).optional(),
  dryRun,
})

// Paths keep their literal types: parameters are named by them.
const get = <P extends string>(path: P, role: OperatorRoleName) =>
  ({ method: 'GET', path, role, effect: 'read', body: null, query: null }) as const
const post = <P extends string, B extends z.ZodType>(path: P, role: OperatorRoleName, body: B) =>
  ({ method: 'POST', path, role, effect: 'mutate', body, query: null }) as const

export const adminRoutes = {
  status: get('/status', 'viewer'),
  whoami: get('/whoami', 'viewer'),

  ...ownerRoutes,

  agentsCreate: post('/agents', 'operator', agentCreate),
  servicesCreate: post('/services', 'operator', serviceCreate),
  operatorsCreate: post('/operators', 'admin', operatorCreate),
  /** `:kinds` is agents, services or operators. */
  registrationsList: { ...get('/registrations/:kind', 'viewer'), query: registrationQuery },
  registrationsShow: get('/registrations/:kind/:name', 'viewer'),
  agentsUpdate: post('/agents/:name/update', 'operator', update),
  servicesUpdate: post('/services/:name/update', 'operator', update),
  agentsHold: post('/agents/:name/hold', 'security', change),
  agentsRelease: post('/agents/:name/release', 'security', change),
  /** Retirement revokes, for good: what revokes needs the role that may. */
  agentsRetire: post('/agents/:name/retire', 'security', change),
  agentsAttest: post('/agents/:name/attest', 'operator', z.strictObject({ until: time.optional(), why, dryRun })),
  servicesRetire: post('/services/:name/retire', 'security', change),
  operatorsRetire: post('/operators/:name/retire', 'admin', change),
  /** On the admin socket only, in production too: the way back in when nobody has a certificate any more. */
  operatorsRecover: post('/operators/:name/recover', 'admin', z.strictObject({ why, dryRun })),

  instancesList: {
    ...get('/instances', 'viewer'),
    query: z.strictObject({
      kind: kind.optional(),
      name: name.optional(),
      state: z.enum(['active', 'locked', 'revoked']).optional(),
      ...page.shape,
    }),
  },
  instancesShow: get('/instances/:id', 'viewer'),
  instancesUnlock: post('/instances/:id/unlock', 'security', z.strictObject({ why, dryRun })),

  tokensCreate: post('/tokens', 'operator', tokenCreate),
  tokensList: {
    ...get('/tokens', 'viewer'),
    query: z.strictObject({ kind: kind.optional(), name: name.optional(), ...page.shape }),
  },
  tokensRevoke: post('/tokens/:id/revoke', 'operator', z.strictObject({ why, dryRun })),

  certificatesIssue: post(
    '/certificates',
    'operator',
    z.strictObject({ kind, name, /** PEM or base64 DER. */ csr: z.string().min(1).max(16_384), dryRun }),
  ),
  certificatesList: {
    ...get('/certificates', 'viewer'),
    query: z.strictObject({
      kind: kind.optional(),
      name: name.optional(),
      instance: name.optional(),
      state: z.enum(['intent', 'issued', 'revoked', 'held', 'expired', 'orphaned', 'void']).optional(),
      ...page.shape,
    }),
  },
  certificatesShow: get('/certificates/:serial', 'viewer'),

  revoke: post('/revoke', 'security', revoke),

  orphansList: {
    ...get('/orphans', 'viewer'),
    query: z.strictObject({
      reason: z.enum(orphanReasonNames).optional(),
      after: z
        .string()
        .regex(/^[0-9]{1,15}$/)
        .optional(),
      /** Registrations looked at, not rows. */
      limit: z.coerce.number().int().min(1).max(1000).default(100),
    }),
  },
  /** `expected` counts agents, instances and tokens together. */
  orphansRetire: post(
    '/orphans/retire',
    'security',
    z.strictObject({ reasons: z.array(z.enum(orphanReasonNames)).max(20).optional(), ...change.shape }),
  ),

  eventsStatus: get('/events', 'viewer'),
  /** One leaf that says so, and the answer once every sink has it or `waitMs` have passed. */
  eventsTest: post(
    '/events/test',
    'operator',
    z.strictObject({ waitMs: z.int().min(0).max(60_000).default(10_000), dryRun }),
  ),

  feedStatus: get('/feed', 'viewer'),
  /** Answers once every subscriber has applied entry `n`, or after `waitMs`. */
  feedApplied: {
    ...get('/feed/applied', 'viewer'),
    query: z.strictObject({
      n: z.coerce.number().int().min(0),
      waitMs: z.coerce.number().int().min(0).max(20_000).default(0),
    }),
  },
  /** After a ledger was restored: every position of before leads to a snapshot. */
  feedNewEpoch: post('/feed/epoch', 'admin', z.strictObject({ why, dryRun })),

  /** What one agent did; `since` is a time. */
  activityShow: { ...get('/activity/:name', 'viewer'), query: z.strictObject({ since: time }) },
  /** Live rates, busiest first. */
  activityTop: {
    ...get('/activity', 'viewer'),
    query: z.strictObject({ limit: z.coerce.number().int().min(1).max(1000).default(20) }),
  },
  monitorStatus: get('/monitor', 'viewer'),
  monitorRules: get('/monitor/rules', 'viewer'),
  monitorFindings: {
    ...get('/monitor/findings', 'viewer'),
    query: z.strictObject({ agent: name.optional(), limit: z.coerce.number().int().min(1).max(1000).default(20) }),
  },
  /** Rules may act on another share of the fleet. */
  monitorReleaseBrake: post('/monitor/release-brake', 'security', z.strictObject({ why, dryRun })),

  crlStatus: get('/crl', 'viewer'),
  crlPublish: post('/crl/publish', 'operator', z.strictObject({})),

  issuersList: get('/issuers', 'viewer'),
  issuersShow: get('/issuers/:name', 'viewer'),
  /** Takes a certificate that a ceremony made for a key in the online token; the issuing CA is then prepared. */
  issuersPrepare: post(
    '/issuers',
    'admin',
    z.strictObject({ name, keyLabel: name, certificate: z.string().max(65_536), confirm: name, dryRun }),
  ),
  issuersActivate: post('/issuers/:name/activate', 'admin', z.strictObject({ confirm: name, dryRun })),
  issuersRetire: post('/issuers/:name/retire', 'admin', z.strictObject({ confirm: name, dryRun })),

  hsmStatus: get('/hsm', 'viewer'),
  hsmKeys: get('/hsm/keys', 'viewer'),
  hsmTestSign: post('/hsm/test-sign', 'operator', z.strictObject({ key: name.optional(), dryRun })),
  /** The PIN goes to the signer only; without one the signer reads its pin-source again. */
  hsmUnlock: post('/hsm/unlock', 'admin', z.strictObject({ pin: z.string().min(1).max(255).optional() })),

  ...policyRoutes,
  ...acmeRoutes,
  ...attestorRoutes,

  profilesList: get('/profiles', 'viewer'),
  profilesShow: get('/profiles/:name', 'viewer'),

  auditTail: {
    ...get('/audit/tail', 'viewer'),
    query: z.strictObject({
      subject: z.string().max(200).optional(),
      event: z.string().max(64).optional(),
      limit: z.coerce.number().int().min(1).max(1000).default(20),
    }),
  },
  /** Exact bytes, by position: what `audit verify` and `audit export` read. */
  auditLeaves: {
    ...get('/audit/leaves', 'viewer'),
    query: z.strictObject({
      from: z.coerce.number().int().min(0).default(0),
      limit: z.coerce.number().int().min(1).max(1000).default(1000),
    }),
  },
  auditCheckpoints: get('/audit/checkpoints', 'viewer'),
  auditCheckpoint: post('/audit/checkpoint', 'operator', z.strictObject({ dryRun })),

  clockShow: get('/clock', 'viewer'),
  clockAccept: post('/clock/accept', 'admin', z.strictObject({ why })),
  backupsRecord: post(
    '/backups',
    'admin',
    z.strictObject({
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      bytes: z.int().min(1),
      feedN: z.int().min(0),
      auditSize: z.int().min(0),
      keys: z.boolean(),
    }),
  ),
  maintenanceShow: get('/maintenance', 'viewer'),
  maintenanceEnd: post('/maintenance/end', 'admin', z.strictObject({ why })),
} as const satisfies Readonly<Record<string, AdminRoute>>

export type AdminRouteName = keyof typeof adminRoutes

/** What each route answers with. */
export interface AdminAnswers extends OwnerRouteAnswers, PolicyRouteAnswers, AcmeRouteAnswers, AttestorRouteAnswers {
  readonly status: answers.StatusAnswer
  readonly whoami: answers.WhoamiAnswer
  readonly agentsCreate: answers.RegistrationAnswer
  readonly servicesCreate: answers.RegistrationAnswer
  readonly operatorsCreate: answers.RegistrationAnswer
  readonly registrationsList: answers.List<answers.RegistrationAnswer>
  readonly registrationsShow: answers.RegistrationDetail
  readonly agentsUpdate: answers.ChangeAnswer
  readonly servicesUpdate: answers.ChangeAnswer
  readonly agentsHold: answers.ChangeAnswer
  readonly agentsRelease: answers.ChangeAnswer
  readonly agentsRetire: answers.ChangeAnswer
  readonly agentsAttest: answers.ChangeAnswer
  readonly servicesRetire: answers.ChangeAnswer
  readonly operatorsRetire: answers.ChangeAnswer
  readonly operatorsRecover: answers.OperatorRecoveredAnswer
  readonly instancesList: answers.List<answers.InstanceAnswer>
  readonly instancesShow: answers.InstanceAnswer
  readonly instancesUnlock: answers.InstanceAnswer
  readonly tokensCreate: answers.TokenCreated
  readonly tokensList: answers.List<answers.TokenAnswer>
  readonly tokensRevoke: answers.TokenAnswer
  readonly certificatesIssue: answers.IdentityAnswer
  readonly certificatesList: answers.List<answers.CertificateAnswer>
  readonly certificatesShow: answers.CertificateDetail
  readonly revoke: answers.RevocationAnswer
  readonly orphansList: answers.List<orphans.OrphanAnswer>
  readonly orphansRetire: orphans.OrphanRetirementAnswer
  readonly eventsStatus: answers.List<events.EventSinkAnswer>
  readonly eventsTest: events.EventTestAnswer
  readonly feedStatus: answers.FeedStatusAnswer
  readonly feedApplied: answers.FeedAppliedAnswer
  readonly feedNewEpoch: answers.FeedEpochAnswer
  readonly activityShow: monitor.ActivityAnswer
  readonly activityTop: monitor.TopAnswer
  readonly monitorStatus: monitor.MonitorStatusAnswer
  readonly monitorRules: answers.List<monitor.RuleAnswer>
  readonly monitorFindings: answers.List<monitor.FindingAnswer>
  readonly monitorReleaseBrake: monitor.MonitorStatusAnswer
  readonly crlStatus: answers.List<answers.CrlAnswer>
  readonly crlPublish: answers.List<answers.CrlAnswer>
  readonly issuersList: answers.List<answers.IssuerAnswer>
  readonly issuersShow: answers.IssuerAnswer
  readonly issuersPrepare: answers.IssuerAnswer
  readonly issuersActivate: answers.IssuerAnswer
  readonly issuersRetire: answers.IssuerAnswer
  readonly hsmStatus: answers.HsmStatusAnswer
  readonly hsmKeys: answers.List<answers.HsmKeyAnswer>
  readonly hsmTestSign: answers.List<answers.TestSignatureAnswer>
  readonly hsmUnlock: answers.HsmStatusAnswer
  readonly profilesList: answers.List<answers.ProfileAnswer>
  readonly profilesShow: answers.ProfileAnswer
  readonly auditTail: answers.List<answers.LeafAnswer>
  readonly auditLeaves: answers.List<answers.LeafAnswer>
  readonly auditCheckpoints: answers.List<answers.CheckpointAnswer>
  readonly auditCheckpoint: answers.CheckpointAnswer
  readonly clockShow: answers.ClockAnswer
  readonly clockAccept: answers.ClockAnswer
  readonly backupsRecord: answers.BackupRecordAnswer
  readonly maintenanceShow: answers.MaintenanceAnswer
  readonly maintenanceEnd: answers.MaintenanceAnswer
}

type OutputOf<T> = T extends z.ZodType ? z.output<T> : undefined
type InputOf<T> = T extends z.ZodType ? z.input<T> : undefined
type ParameterNames<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | ParameterNames<Rest>
  : P extends `${string}:${infer Name}`
    ? Name
    : never

/** Path parameters of a route. */
export type AdminParams<N extends AdminRouteName> = Readonly<
  Record<ParameterNames<(typeof adminRoutes)[N]['path']>, string>
>
/** The validated body and query, as a handler gets them. */
export type AdminBody<N extends AdminRouteName> = OutputOf<(typeof adminRoutes)[N]['body']>
export type AdminQuery<N extends AdminRouteName> = OutputOf<(typeof adminRoutes)[N]['query']>
/** The same before defaults are filled in, as a client gives them. */
export type AdminBodyInput<N extends AdminRouteName> = InputOf<(typeof adminRoutes)[N]['body']>
export type AdminQueryInput<N extends AdminRouteName> = InputOf<(typeof adminRoutes)[N]['query']>
