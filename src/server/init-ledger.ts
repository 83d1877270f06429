// What `init` writes into the ledger: who this CA is, its issuers, its first registrations, and the audit leaves of it all. Each part is
// looked for before it is written, so that an interrupted `init` can go through it again.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  caInitialised,
  ceremonyPerformed,
  crlPublished,
  issuerAdded,
  ownerCreated,
  registrationCreated,
} from '../audit/events.ts'
import { toHex } from '../base/bytes.ts'
import type { Log } from '../base/log.ts'
import { ownServiceName } from '../ca/own-service.ts'
import type { PublishedCrl } from '../ca/status-answers.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { Ledger } from '../store/ports.ts'
import type { Issuer, LeafDraft } from '../store/records.ts'
import type { TranscriptRecord } from './ceremony/transcript.ts'
import { firstOperatorName } from './first-operator.ts'
import { issuingName, rootName } from './init-places.ts'
import type { InitRecord } from './init-record.ts'

export interface LedgerFacts {
  readonly record: InitRecord
  readonly root: Certificate
  readonly issuing: Certificate
  readonly rootCrl: PublishedCrl | null
  /** Directory of the transcripts. */
  readonly ceremonies: string
  readonly now: number
  readonly log: Log
}

/** Nobody is logged in yet: the machine's owner runs `init`. */
const who = 'system'
const ownerName = 'operators'

export const fillLedger = async (ledger: Ledger, facts: LedgerFacts): Promise<void> => {
  const { log } = facts
  await writeFirstLeaves(ledger, facts)
  log.debug({}, 'ledger: first leaves')
  await addIssuers(ledger, facts)
  log.debug({}, 'ledger: issuers')
  if (facts.rootCrl !== null) await addRootCrl(ledger, facts, facts.rootCrl)
  await addRegistrations(ledger, facts)
  log.debug({}, 'ledger: registrations')
  const { caId, trustDomain, urls, createdAt } = facts.record
  await ledger.meta.set({
    ca_id: caId,
    trust_domain: trustDomain,
    public_url_api: urls.api,
    public_url_status: urls.status,
    created_at: String(createdAt),
  })
}

/** Every transcript of the home, whatever its end: keys and signatures of a ceremony that failed exist too. */
const ceremonyLeaves = ({ ceremonies, now }: LedgerFacts): readonly LeafDraft[] =>
  readdirSync(ceremonies)
    .filter(name => name.endsWith('.json'))
    .toSorted()
    .flatMap(file => {
      const text = readFileSync(join(ceremonies, file), 'utf8')
      const { ceremony, name, mode, outcome } = JSON.parse(text) as TranscriptRecord
      if (mode !== 'perform') return []
      const transcriptSha256 = toHex(createHash('sha256').update(text).digest())
      return [ceremonyPerformed({ at: now, who }, { ceremony, name, transcriptSha256, outcome })]
    })

const writeFirstLeaves = async (ledger: Ledger, facts: LedgerFacts): Promise<void> => {
  if (ledger.audit.tail({ event: 'ca_initialised', limit: 1 }).length > 0) return
  const { caId, trustDomain } = facts.record
  const first = caInitialised({ at: facts.now, who }, { caId, trustDomain })
  await ledger.audit.append([first, ...ceremonyLeaves(facts)])
}

const addIssuers = async (ledger: Ledger, { root, issuing, now }: LedgerFacts): Promise<void> => {
  const add = async (draft: Pick<Issuer, 'name' | 'kind' | 'parentId' | 'keyLabel'>, certificate: Certificate) => {
    const present = ledger.issuers.list().find(each => each.name === draft.name)
    if (present !== undefined) return present
    const { notBefore, notAfter, spkiHashHex: spkiHash } = certificate
    const sha256 = toHex(createHash('sha256').update(certificate.der).digest())
    return ledger.issuers.add(
      { ...draft, state: 'active', certificate: certificate.der, spkiHash, notBefore, notAfter, createdAt: now },
      issuerAdded({ at: now, who }, { name: draft.name, kind: draft.kind, sha256, notAfter }),
    )
  }
  const parent = await add({ name: rootName, kind: 'root', parentId: null, keyLabel: null }, root)
  await add({ name: issuingName, kind: 'issuing', parentId: parent.id, keyLabel: issuingName }, issuing)
}

const addRootCrl = async (ledger: Ledger, { now }: LedgerFacts, crl: PublishedCrl): Promise<void> => {
  const issuer = ledger.issuers.list().find(each => each.name === rootName)!
  if (ledger.status.latestCrl(issuer.id) !== null) return
  const { number, sha256, entries, thisUpdate, nextUpdate, der } = crl
  await ledger.status.recordCrl(
    { issuerId: issuer.id, number, thisUpdate, nextUpdate, sha256, entries, der },
    crlPublished({ at: now, who }, { issuer: rootName, number, sha256, entries }),
  )
}

/** Where clients may find the API: on this machine under any of its names, and under the host of its URL. */
const apiNames = (url: string): readonly string[] => [
  ...new Set(['localhost', '127.0.0.1', '::1', new URL(url).hostname.replace(/^\[(.*)\]$/, '$1')]),
]

const addRegistrations = async (ledger: Ledger, { record, now }: LedgerFacts): Promise<void> => {
  const context = { at: now, who }
  await ledger.owners.ensure(ownerName, now, ownerCreated(context, ownerName))
  const common = { roles: [], attributes: {}, instanceLimit: null, until: null, at: now }
  const drafts: readonly Parameters<Ledger['registrations']['create']>[0][] = [
    {
      ...common,
      kind: 'service',
      name: ownServiceName,
      // Nobody's departure may keep the CA from renewing its own certificate.
      owner: null,
      purpose: 'the API of this CA',
      profile: 'api',
      dnsNames: apiNames(record.urls.api),
      operatorRole: null,
    },
    {
      ...common,
      kind: 'operator',
      name: firstOperatorName,
      owner: ownerName,
      purpose: 'the first operator',
      profile: 'operator',
      dnsNames: [],
      operatorRole: 'admin',
    },
  ]
  for (const draft of drafts) {
    const { kind, name, owner, profile, roles, operatorRole, until } = draft
    if (ledger.registrations.find(kind, name) !== null) continue
    const leaf = registrationCreated(context, { kind, name }, { owner, profile, roles, operatorRole, until })
    await ledger.registrations.create(draft, leaf)
  }
}
