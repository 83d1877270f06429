// At each start: whether what this home published goes further than its ledger. A number is on disk before its list is published, so only
// a ledger that lost something can be behind: an older file that was put back by hand, a log that was cut off, a disk that lied. It is
// treated as what `agentca backup restore` brings back: nothing that was revoked is forgotten, and nothing is issued before somebody looked.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { lookOutside, outsideTrust, type Seen } from '../ca/outside.ts'
import { recoverLedger } from '../ca/recover-ledger.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { parseCrlNumberOf } from '../pki/crl.ts'
import type { Ledger } from '../store/ports.ts'
import type { HomePaths } from './home.ts'

export interface PublishedRecovery {
  readonly ledger: Ledger
  readonly paths: HomePaths
  readonly clock: Clock
  readonly log: Log
  readonly caId: string
  readonly logKeySpki: Uint8Array
}

/** The root's list is made in ceremonies, which no ledger counts. */
const isBehind = ({ issuers, status, feed }: Ledger, seen: Seen): boolean => {
  const online = new Set(issuers.list().flatMap(({ id, kind }) => (kind === 'issuing' ? [id] : [])))
  const head = feed.head()
  return (
    seen.crlNumbers.some(({ issuerId, number }) => online.has(issuerId) && number > status.lastCrlNumber(issuerId)) ||
    (seen.feed !== null && seen.feed.epoch === head.epoch && seen.feed.n > head.n)
  )
}

/** By what the lists say of themselves, which costs no look at their entries: a start with a million of them is no slower. */
const saysMore = ({ issuers, status }: Ledger, crlDirectory: string): boolean => {
  const online = issuers.list().filter(({ kind }) => kind === 'issuing')
  const known = new Map(
    online.map(({ id, certificate }) => [toHex(parseCertificate(certificate).subjectDer), status.lastCrlNumber(id)]),
  )
  const isMore = (file: string): boolean => {
    try {
      const { issuerName, crlNumber } = parseCrlNumberOf(readFileSync(file))
      const last = known.get(toHex(issuerName))
      return last !== undefined && crlNumber !== null && crlNumber > last
    } catch {
      // No list: it is not believed then either.
      return false
    }
  }
  if (!existsSync(crlDirectory)) return false
  return readdirSync(crlDirectory)
    .filter(name => name.endsWith('.crl'))
    .some(name => isMore(join(crlDirectory, name)))
}

/** @throws StoreError */
export const recoverPublished = async (deps: PublishedRecovery): Promise<void> => {
  const { ledger, paths, clock, log, caId, logKeySpki } = deps
  const trust = outsideTrust(ledger.issuers, caId, logKeySpki)
  const [lists, state] = [join(paths.status, 'crl'), join(paths.status, 'state')]
  const stateSeen = lookOutside([state].filter(existsSync), trust)
  if (!isBehind(ledger, stateSeen) && !saysMore(ledger, lists)) return
  const seen = lookOutside([lists, state].filter(existsSync), trust)
  if (!isBehind(ledger, seen)) return
  const now = clock.now()
  const { size } = ledger.audit.head()
  const [last] = ledger.audit.read(size - 1, 1)
  const ends = { at: last?.at ?? now, feed: ledger.feed.head(), auditSize: size }
  const who = { who: 'system', requestId: 'start', source: 'local' }
  const recovered = await recoverLedger(ledger.recovery, { ends, seen, now, who })
  log.error(
    { ...recovered, ledgerEnds: new Date(ends.at).toISOString() },
    'the ledger is older than what was published: nothing is issued until an operator has looked (agentca backup reconcile)',
  )
}
