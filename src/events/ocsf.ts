// Events in the shape of the Open Cybersecurity Schema Framework, 1.1.0 (schema.ocsf.io). Pure. A class is only used for what it is
// about: certificates given out or refused are Authentication, changes of registrations Account Change, alarms Detection Finding, the
// CA's own starts and stops Application Lifecycle, everything else Entity Management. What OCSF has no place for is under `unmapped`.
import { type AuditEvent, severities } from './event.ts'

const version = '1.1.0'

const classes = {
  accountChange: { category: 3, uid: 3001 },
  authentication: { category: 3, uid: 3002 },
  entityManagement: { category: 3, uid: 3004 },
  detectionFinding: { category: 2, uid: 2004 },
  applicationLifecycle: { category: 6, uid: 6002 },
} as const

type ClassName = keyof typeof classes

interface Mapping {
  readonly class: ClassName
  readonly activity: number
  readonly outcome?: 'success' | 'failure'
}

const other = 99
const finding: Mapping = { class: 'detectionFinding', activity: 1 }
const account = (activity: number): Mapping => ({ class: 'accountChange', activity, outcome: 'success' })
const entity = (activity: number): Mapping => ({ class: 'entityManagement', activity, outcome: 'success' })

const byKind: Readonly<Record<string, Mapping>> = {
  // A certificate is to later calls what a ticket is to later logons.
  certificate_issued: { class: 'authentication', activity: 3, outcome: 'success' },
  certificate_repeated: { class: 'authentication', activity: 3, outcome: 'success' },
  request_refused: { class: 'authentication', activity: 1, outcome: 'failure' },
  release_refused: { class: 'authentication', activity: 3, outcome: 'failure' },
  registration_created: account(1),
  registration_retired: account(6),
  registration_attested: account(other),
  instance_unlocked: account(2),
  revoked: account(5),
  instance_locked: account(9),
  scopes_changed: account(other),
  owner_gone: account(5),
  owner_created: account(1),
  owner_changed: account(other),
  owner_removed: account(6),
  token_created: entity(1),
  evidence_admitted: entity(1),
  evidence_refused: { class: 'authentication', activity: 1, outcome: 'failure' },
  token_revoked: entity(4),
  acme_binding_created: entity(1),
  acme_binding_revoked: entity(4),
  acme_account_created: account(1),
  acme_account_changed: account(other),
  acme_accounts_pruned: account(6),
  token_reuse: finding,
  lineage_locked: finding,
  clock_jump: finding,
  signer_counts_mismatch: finding,
  orphan_warned: finding,
  monitor_finding: finding,
  monitor_action_failed: finding,
  core_started: { class: 'applicationLifecycle', activity: 3, outcome: 'success' },
  core_stopped: { class: 'applicationLifecycle', activity: 4, outcome: 'success' },
  issuer_added: entity(1),
  ca_initialised: entity(1),
}

const mappingOf = ({ kind, facts }: AuditEvent): Mapping => {
  if (kind !== 'registration_changed') return byKind[kind] ?? entity(3)
  if (facts.from === facts.to) return account(other)
  return account(facts.to === 'held' ? 9 : 2)
}

const nameOf = (subject: string): string => subject.slice(subject.indexOf(':') + 1)
const typeOf = (subject: string): string => subject.slice(0, Math.max(0, subject.indexOf(':')))

/** Whom an account or a logon is about: the subject, else whoever asked. */
const userOf = ({ subject, actor }: AuditEvent) => {
  const who = subject ?? actor
  return { uid: who, name: nameOf(who), type_id: other, type: typeOf(who) || 'unknown' }
}

const sourceOf = ({ source }: AuditEvent) =>
  source === null || source === 'system' || source === 'local' || source === 'socket'
    ? {}
    : { src_endpoint: { ip: source } }

const actorOf = ({ actor }: AuditEvent) => ({
  actor: { user: { uid: actor, name: nameOf(actor), type_id: other, type: typeOf(actor) || actor } },
})

const product = { name: 'agentca', vendor_name: 'agentca' }

/** The members that a class demands beside those of every event. */
const ofClass = (event: AuditEvent, name: ClassName): Readonly<Record<string, unknown>> => {
  switch (name) {
    case 'accountChange':
      return { ...actorOf(event), ...sourceOf(event), user: userOf(event) }
    case 'authentication':
      return {
        ...sourceOf(event),
        user: userOf(event),
        service: { name: 'agentca' },
        auth_protocol_id: other,
        auth_protocol: 'X.509',
        is_remote: true,
        ...(typeof event.facts.serial === 'string' ? { certificate: certificateOf(event, event.facts.serial) } : {}),
      }
    case 'entityManagement':
      return {
        ...actorOf(event),
        entity: {
          name: event.subject === null ? 'agentca' : nameOf(event.subject),
          type: event.subject === null ? 'certificate authority' : typeOf(event.subject),
        },
        ...(typeof event.facts.why === 'string' ? { comment: event.facts.why } : {}),
      }
    case 'detectionFinding':
      return {
        finding_info: { uid: event.id, title: titleOf(event), created_time: Date.parse(event.time) },
        ...(event.subject === null ? {} : { resources: [{ uid: event.subject, name: nameOf(event.subject) }] }),
      }
    case 'applicationLifecycle':
      return { app: product }
  }
}

const certificateOf = ({ facts }: AuditEvent, serial: string) => ({
  serial_number: serial,
  issuer: 'agentca',
  fingerprints:
    typeof facts.sha256 === 'string' ? [{ algorithm_id: 3, algorithm: 'SHA-256', value: facts.sha256 }] : [],
})

const titleOf = ({ kind, subject }: AuditEvent): string =>
  `${kind.replaceAll('_', ' ')}${subject === null ? '' : `: ${subject}`}`

export const ocsfOf = (event: AuditEvent): Readonly<Record<string, unknown>> => {
  const { class: name, activity, outcome } = mappingOf(event)
  const { category, uid } = classes[name]
  return {
    class_uid: uid,
    category_uid: category,
    activity_id: activity,
    type_uid: uid * 100 + activity,
    ...(activity === other ? { activity_name: event.kind } : {}),
    severity_id: severities.indexOf(event.severity) + 1,
    time: Date.parse(event.time),
    message: titleOf(event),
    ...(outcome === undefined ? {} : { status_id: outcome === 'success' ? 1 : 2 }),
    ...(typeof event.facts.code === 'string' ? { status_code: event.facts.code } : {}),
    metadata: {
      version,
      product,
      uid: event.id,
      event_code: event.kind,
      sequence: event.sequence,
      log_name: 'audit',
      ...(event.requestId === null ? {} : { correlation_uid: event.requestId }),
    },
    ...ofClass(event, name),
    unmapped: event.facts,
  }
}
