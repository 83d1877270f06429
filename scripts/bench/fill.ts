// Many certificates in a ledger whose server does not run, through the store's own ports: rows, lineages and audit leaves as issuance
// leaves them. Only the bytes that nothing in the ledger looks into are made up.
import { randomBytes } from 'node:crypto'
import { createLeaf } from '../../src/audit/leaf.ts'
import { toHex } from '../../src/base/bytes.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { createIssuanceEvents } from '../../src/ca/issuance-events.ts'
import { encodeSerial, serialHex } from '../../src/pki/serial.ts'
import type { IntentCommand, Ledger } from '../../src/store/ports.ts'
import type { Issuer, LeafDraft, Registration } from '../../src/store/records.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import type { CaHome } from './world.ts'

const perAgent = 40
const perTransaction = 200
const lifetimeMs = 86_400_000
/** As a leaf of the profile `agent` has them. */
const tbsBytes = 560
const signatureBytes = 71
const filler = 'filler'

const who = 'system'
const leafOf = (event: string): LeafDraft => createLeaf(event, { at: Date.now(), who }, null, {})
const events = createIssuanceEvents(() => true)

const createAgent = (ledger: Ledger, name: string, owner: string): Promise<Registration> =>
  ledger.registrations.create(
    {
      kind: 'agent',
      name,
      owner,
      purpose: '',
      profile: 'agent',
      roles: [],
      attributes: {},
      dnsNames: [],
      instanceLimit: null,
      operatorRole: null,
      until: null,
      at: Date.now(),
    },
    leafOf('registration_created'),
  )

const intentOf = (registration: Registration, issuer: Issuer): IntentCommand<never> => {
  const now = Date.now()
  const keyHash = toHex(randomBytes(32))
  const context = { requestId: toHex(randomBytes(16)), who, source: '127.0.0.1' }
  const query = {
    evidence: { kind: 'registration', subject: 'agent', name: registration.name },
    keyHash,
    now,
  } as const
  const intent = {
    serial: serialHex(encodeSerial({ prefix: 1, nowMs: now, random10: randomBytes(10) })),
    issuerId: issuer.id,
    kind: 'agent',
    registrationId: registration.id,
    registrationVersion: registration.version,
    instanceId: toHex(randomBytes(16)),
    newInstance: true,
    generation: 1,
    predecessor: null,
    supersedes: null,
    tokenId: null,
    recovery: false,
    keyHash,
    tbs: randomBytes(tbsBytes),
    profile: 'agent',
    profileHash: 'filler',
    requester: who,
    notBefore: now - 60_000,
    notAfter: now + lifetimeMs,
    epoch: 1,
    deadline: now + 60_000,
    createdAt: now,
  } as const
  const request = { operation: 'issue', evidence: query.evidence, csr: intent.tbs, context } as const
  return {
    query,
    decide: () => ({ act: 'record', intent, leaf: events.intentRecorded(request, intent, registration) }),
  }
}

interface Filler {
  readonly command: IntentCommand<never>
  readonly registration: Registration
}

const issueMany = async (ledger: Ledger, fillers: readonly Filler[]): Promise<void> => {
  const decided = await ledger.issuance.recordIntents(fillers.map(({ command }) => command))
  const at = Date.now()
  await ledger.issuance.recordIssued(
    decided.flatMap((decision, i) => {
      if (decision.act !== 'record') return []
      const { serial, tbs, epoch } = decision.intent
      const context = { requestId: toHex(randomBytes(16)), who, source: '127.0.0.1' }
      const request = {
        operation: 'issue',
        evidence: { kind: 'registration', subject: 'agent', name: '' },
        csr: tbs,
        context,
      } as const
      const of = { serial, registration: fillers[i]!.registration }
      return [
        {
          serial,
          signature: Uint8Array.from(randomBytes(signatureBytes), (octet, index) => (index === 0 ? 0x30 : octet)),
          epoch,
          at,
          issuedLeaf: events.issued(request, of, tbs, at),
          refusedLeaf: () => events.releaseRefused(request, of, at),
        },
      ]
    }),
  )
}

const activeIssuer = (ledger: Ledger): Issuer => {
  const issuer = ledger.issuers.list().find(({ kind, state }) => kind === 'issuing' && state === 'active')
  if (issuer === undefined) throw new Error('expected an active issuing CA')
  return issuer
}

/** @returns what issues one certificate after the other to an agent that is registered for it, by the ledger alone */
export const createIssuer = async (ledger: Ledger): Promise<() => Promise<void>> => {
  const issuer = activeIssuer(ledger)
  await ledger.owners.ensure(filler, Date.now(), leafOf('owner_created'))
  const registration = await createAgent(ledger, `issuer-${toHex(randomBytes(8))}`, filler)
  return async () => issueMany(ledger, [{ command: intentOf(registration, issuer), registration }])
}

/** @param revoked all of them, for keyCompromise, in one transaction */
export const fillLedger = async (
  { paths }: CaHome,
  count: number,
  revoked: 'none' | 'all',
  owner: string = filler,
): Promise<void> => {
  await using ledger = openSqliteLedger(paths.database, { clock: systemClock, log: silentLog })
  const issuer = activeIssuer(ledger)
  await ledger.owners.ensure(owner, Date.now(), leafOf('owner_created'))
  for (let made = 0; made < count; ) {
    const size = Math.min(perTransaction, count - made)
    const agents = await Promise.all(
      Array.from({ length: Math.ceil(size / perAgent) }, (_, i) => createAgent(ledger, `${owner}-${made}-${i}`, owner)),
    )
    const fillers = Array.from({ length: size }, (_, i) => {
      const registration = agents[Math.floor(i / perAgent)]!
      return { command: intentOf(registration, issuer), registration }
    })
    await issueMany(ledger, fillers)
    made += size
  }
  if (revoked === 'none') return
  await ledger.revocations.revoke({
    selector: { by: 'owner', value: owner },
    reason: 'keyCompromise',
    at: Date.now(),
    expected: null,
    leaf: () => leafOf('revoked'),
  })
}
