// A running server as its operators see it: status in one answer, published lists, profiles, the clock.
import { backupCreated, operatorAction } from '../../audit/events.ts'
import { CaError } from '../../ca/errors.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { Restored } from '../../ca/maintenance.ts'
import { recoveryShownMs } from '../../ca/operator-recovery.ts'
import type { PublishedCrl } from '../../ca/status-answers.ts'
import { shardName } from '../../pki/crl-shards.ts'
import type {
  ClockAnswer,
  CrlAnswer,
  List,
  MaintenanceAnswer,
  ProfileAnswer,
  StatusAnswer,
} from '../../schema/admin-answers.ts'
import { issuerAnswer, time, wholeList } from './answers.ts'
import type { AdminDeps, ProfileView } from './deps.ts'
import type { Handlers } from './handler.ts'

const crlAnswer = (deps: AdminDeps, crl: PublishedCrl): CrlAnswer => ({
  issuer: crl.issuer,
  shard: crl.shard === null ? null : shardName(crl.shard),
  number: crl.number.toString(),
  thisUpdate: time(crl.thisUpdate),
  nextUpdate: time(crl.nextUpdate),
  entries: crl.entries,
  sha256: crl.sha256,
  bytes: crl.der.length,
  url: deps.crlUrl(crl),
})

const lost = (seen: number | null, has: number): number | null => (seen === null ? null : Math.max(0, seen - has))

const maintenanceAnswer = (restored: Restored | null): MaintenanceAnswer => {
  if (restored === null)
    return {
      state: 'none',
      backupAt: null,
      restoredAt: null,
      endedAt: null,
      feedEntriesLost: null,
      auditLeavesLost: null,
      revoked: 0,
      held: [],
      unknown: 0,
      locked: [],
      tokensRevoked: 0,
    }
  const { backupAt, restoredAt, endedAt, seen, feed, auditSize, revoked, held, unknown, locked, tokens } = restored
  return {
    state: endedAt === null ? 'waiting' : 'ended',
    backupAt: time(backupAt),
    restoredAt: time(restoredAt),
    endedAt: endedAt === null ? null : time(endedAt),
    feedEntriesLost: lost(seen.feedN, feed.n),
    auditLeavesLost: lost(seen.auditSize, auditSize),
    revoked,
    held,
    unknown,
    locked,
    tokensRevoked: tokens,
  }
}

/** Complete ones first. */
const crlList = (deps: AdminDeps): List<CrlAnswer> => {
  const names = deps.issuers.all().map(({ record }) => record.name)
  const complete = names.flatMap(name => deps.crl.byIssuer(name) ?? [])
  return wholeList([...complete, ...names.flatMap(deps.crl.shardsOf)].map(list => crlAnswer(deps, list)))
}

const clockAnswer = (deps: AdminDeps): ClockAnswer => {
  const { state, lastSigning, detail } = deps.clockGuard.state()
  return {
    state,
    now: time(deps.clock.now()),
    lastSigning: lastSigning === null ? null : time(lastSigning),
    detail,
  }
}

const profileAnswer = ({ name, hash, kind, lifetimeSeconds, content }: ProfileView): ProfileAnswer => ({
  name,
  hash,
  kind,
  lifetimeSeconds,
  content: { ...content },
})

const issuerLines = (deps: AdminDeps): StatusAnswer['issuers'] =>
  deps.issuers.all().map(({ record }) => {
    const { name, kind, state, notAfter, daysLeft } = issuerAnswer(record, deps.issuers, deps.clock.now())
    const crl = deps.crl.byIssuer(name)
    if (crl === null) return { name, kind, state, notAfter, daysLeft, crl }
    const { number, thisUpdate, nextUpdate, entries } = crlAnswer(deps, crl)
    return { name, kind, state, notAfter, daysLeft, crl: { number, thisUpdate, nextUpdate, entries } }
  })

const recoveredOperators = ({ ledger, clock }: AdminDeps): StatusAnswer['recovered'] =>
  ledger.audit
    .tail({ event: 'operator_recovered', limit: 20 })
    .filter(({ at }) => at > clock.now() - recoveryShownMs)
    .map(({ at, subject }) => ({ operator: (subject ?? '').replace(/^operator:/, ''), at: time(at) }))

const statusAnswer = async (deps: AdminDeps): Promise<StatusAnswer> => {
  const { ledger, about, hsm } = deps
  const { state, detail } = await hsm.status()
  const [checkpoint] = ledger.audit.checkpoints({ limit: 1 })
  const { issued, held, revoked, intent, orphaned, void: voided } = ledger.certificates.counts(deps.clock.now())
  return {
    caId: about.caId,
    trustDomain: deps.trustDomain,
    version: about.version,
    mode: deps.mode,
    startedAt: time(about.startedAt),
    urls: about.urls,
    issuers: issuerLines(deps),
    certificates: { issued, held, revoked, intent, orphaned, void: voided },
    registrations: ledger.registrations.counts(),
    signer: { state, detail, restarts: hsm.restarts() },
    audit: {
      size: ledger.audit.head().size,
      checkpoint: checkpoint === undefined ? null : { size: checkpoint.size, at: time(checkpoint.at) },
    },
    clock: clockAnswer(deps),
    feed: ledger.feed.head(),
    policies: {
      active: deps.ledger.policies.active()?.id ?? null,
      unfinished: deps.ledger.policies.rolling()?.id ?? null,
    },
    recovered: recoveredOperators(deps),
    attestors: deps.attestors
      .list()
      .filter(({ state }) => state !== 'off')
      .map(({ name, state }) => ({ name, state })),
    rates: deps.rates(),
  }
}

type Names =
  | 'status'
  | 'whoami'
  | 'crlStatus'
  | 'crlPublish'
  | 'profilesList'
  | 'profilesShow'
  | 'clockShow'
  | 'clockAccept'
  | 'backupsRecord'
  | 'maintenanceShow'
  | 'maintenanceEnd'

export const operationHandlers = (deps: AdminDeps): Pick<Handlers, Names> => ({
  status: () => statusAnswer(deps),
  whoami: ({ actor: { name, role } }) => ({ name, role, mode: deps.mode }),
  crlStatus: () => crlList(deps),
  crlPublish: async ({ context }) => {
    const leaf = operatorAction(leafContextOf(context, deps.clock.now()), { action: 'crl_publish' })
    await deps.ledger.audit.append([leaf])
    await deps.crl.publish()
    return crlList(deps)
  },
  profilesList: () => wholeList(deps.profiles().map(profileAnswer)),
  profilesShow: ({ params: { name } }) => {
    const profile = deps.profiles().find(each => each.name === name)
    if (profile === undefined)
      throw new CaError('not_found', `no profile is called ${name}`, { hint: 'agentca profile list' })
    return profileAnswer(profile)
  },
  clockShow: () => clockAnswer(deps),
  clockAccept: async ({ body: { why }, context }) => {
    await deps.clockGuard.accept(context, why)
    return clockAnswer(deps)
  },
  backupsRecord: async ({ body, context }) => {
    const { size } = await deps.ledger.audit.append([backupCreated(leafContextOf(context, deps.clock.now()), body)])
    return { auditIndex: size - 1 }
  },
  maintenanceShow: () => maintenanceAnswer(deps.maintenance.restored()),
  maintenanceEnd: async ({ body: { why }, context }) => maintenanceAnswer(await deps.maintenance.end(context, why)),
})
