// A test authority with what publishing its CRLs needs around it: directories, publishers, revocations, a signer that can be dead.
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { noSteps } from '../../src/base/steps.ts'
import { type CrlPublisher, type CrlPublisherDeps, createCrlPublisher } from '../../src/ca/crl-publisher.ts'
import { createIssuers } from '../../src/ca/issuers.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import type { SignerPort } from '../../src/signer/port.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'
import { createRequester, createTestAuthority, leaf } from './authority.ts'

export const crlFile = (directory: string, name = 'issuing-1.crl') => join(directory, 'crl', name)

/** Of a bundle, however it is made. */
export const pemText = (pem: Iterable<Uint8Array> | Uint8Array): string =>
  Buffer.concat(pem instanceof Uint8Array ? [pem] : [...pem]).toString()

export const serialsOf = (der: Uint8Array): readonly string[] =>
  [...parseCrl(der).entries()].map(entry => Buffer.from(entry.serial).toString('hex'))

export const issuingCrl = (publisher: Pick<CrlPublisher, 'byIssuer'>) => publisher.byIssuer('issuing-1')!

export type Publication = Awaited<ReturnType<typeof createPublication>>

export const createPublication = async () => {
  const ca = await createTestAuthority(path => openSqliteLedger(path, { clock: systemClock, log: silentLog }))
  const openPublisher = async (directory: string, changes: Partial<CrlPublisherDeps> = {}) => {
    const publisher = await createCrlPublisher({
      clock: systemClock,
      log: silentLog,
      metrics: silentMetrics,
      issuers: createIssuers(ca.ledger.issuers, null),
      revocations: ca.ledger.revocations,
      status: ca.ledger.status,
      shards: ca.ledger.shards,
      signer: ca.signer.client,
      directory,
      lifetimeSeconds: 86_400,
      refreshBeforeSeconds: 43_200,
      signDeadlineMs: 5000,
      reached: noSteps,
      ...changes,
    })
    return { ...publisher, [Symbol.asyncDispose]: () => publisher.close() }
  }
  /** Serials of new instances of a new agent. */
  const enrolled = async (name: string, count = 1): Promise<readonly string[]> => {
    const registration = await ca.registerAgent(name)
    const token = await ca.createToken(registration.id, count)
    const issued = await Promise.all(
      Array.from({ length: count }, async () => ca.enrol(token, await createRequester())),
    )
    return issued.map(each => each.record.serial)
  }
  const revoke = (value: string) =>
    ca.ledger.revocations.revoke({
      selector: { by: 'serial', value },
      reason: 'keyCompromise',
      at: Date.now(),
      expected: null,
      leaf: () => leaf('revoked'),
    })
  /** In front of the real signer; dead, it answers as when its process is gone. */
  const breakableSigner = (dead: boolean) => {
    const gone = createSignerClient({
      socket: join(ca.directory, 'no-signer.sock'),
      clock: systemClock,
      log: silentLog,
      connectWaitMs: 10,
    })
    const state = { dead, signer: {} as SignerPort, [Symbol.asyncDispose]: () => gone.close() }
    state.signer = {
      sign: request => (state.dead ? gone : ca.signer.client).sign(request),
      isConnected: () => !state.dead,
      health: () => ca.signer.client.health(),
      close: () => gone.close(),
    }
    return state
  }
  return {
    ca,
    newDirectory: (): string => mkdtempSync(join(ca.directory, 'status-')),
    openPublisher,
    enrolled,
    revoke,
    breakableSigner,
    [Symbol.asyncDispose]: () => ca[Symbol.asyncDispose](),
  }
}
