// A backend of the benchmarks, a process of its own: a node:https server that answers with a few bytes, with the verifier or without;
// and the verifier's own work on a long list, without a server.

import { constants } from 'node:crypto'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import type { IncomingMessage, RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { agentIdentity, type TlsMaterial, tlsMaterialOf } from '../../src/agent/index.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { parseSpiffeId } from '../../src/pki/spiffe.ts'
import { agentVerifier } from '../../src/verifier/index.ts'
import { createKeeper } from '../../src/verifier/keeper.ts'
import { decideCall, type Peer } from '../../src/verify/decision.ts'
import { serialKeyOf } from '../../src/verify/serial-table.ts'
import { answerJobs } from './programs.ts'

export type VerifyJob =
  | { readonly kind: 'verified'; readonly url: string; readonly caFile: string; readonly tokenFile: string }
  | { readonly kind: 'plain'; readonly tls: TlsMaterial }
  /** Makes a kept state with so many serials. */
  | { readonly kind: 'make'; readonly directory: string; readonly entries: number }
  /** Reads it, as at a start, and decides calls by it. */
  | { readonly kind: 'judge'; readonly directory: string; readonly calls: number }

export interface VerifyResult {
  readonly port: number
  readonly tls: TlsMaterial | null
  readonly loadSeconds: number
  readonly memoryBytes: number
  readonly fileBytes: number
  readonly decisionMicroseconds: number
}

const nothing: VerifyResult = {
  port: 0,
  tls: null,
  loadSeconds: 0,
  memoryBytes: 0,
  fileBytes: 0,
  decisionMicroseconds: 0,
}

const answer = (request: IncomingMessage, response: Parameters<RequestListener>[1]): void => {
  request.resume()
  request.on('end', () => {
    response.writeHead(200, ['Content-Type', 'text/plain', 'Content-Length', '3'])
    response.end('in\n')
  })
}

const listen = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const verified = async ({ kind: _, ...options }: Extract<VerifyJob, { kind: 'verified' }>): Promise<VerifyResult> => {
  const identity = await agentIdentity({ ...options, service: 'bench-backend' })
  const verifier = await agentVerifier({ identity, onStale: 'refuse', maxStaleness: '5m' })
  await verifier.ready()
  const judge = verifier.express()
  const server = verifier.createServer((request, response) => judge(request, response, () => answer(request, response)))
  return { ...nothing, port: await listen(server), tls: tlsMaterialOf(identity.current()) }
}

const plain = async ({ tls }: Extract<VerifyJob, { kind: 'plain' }>): Promise<VerifyResult> => {
  const options = { ...tls, minVersion: 'TLSv1.3', secureOptions: constants.SSL_OP_NO_TICKET } as const
  const server = createServer({ ...options, requestCert: true, rejectUnauthorized: true }, answer)
  return { ...nothing, port: await listen(server) }
}

const keeperIn = (directory: string) =>
  createKeeper({
    clock: systemClock,
    log: silentLog,
    policy: { onStale: 'refuse', maxStalenessMs: 300_000 },
    directory,
  })

const serialOf = (i: number): string =>
  `01${i.toString(16).padStart(10, '0')}${Math.imul(i, 2_654_435_761).toString(16).replace('-', '').padStart(20, '0')}`
const position = { epoch: '0123456789abcdef', n: 1 }
const partSize = 1000

const make = async ({ directory, entries }: Extract<VerifyJob, { kind: 'make' }>): Promise<VerifyResult> => {
  const keeper = keeperIn(directory)
  const at = Date.now()
  const notAfter = at + 3_600_000
  const parts = Math.ceil(entries / partSize)
  for (let part = 1; part <= parts; part++) {
    const from = (part - 1) * partSize
    const revoked = Array.from({ length: partSize }, (_, i) => ({ serial: serialOf(from + i), notAfter }))
    const principal = {
      kind: 'agent',
      name: 'caller',
      state: 'active',
      version: 1,
      roles: ['reader'],
      attributes: {},
      scopes: [],
    } as const
    keeper.take({
      type: 'snapshot',
      position,
      at,
      part,
      parts,
      revoked,
      held: [],
      principals: part === 1 ? [principal] : [],
    })
  }
  if (keeper.state.size !== entries) throw new Error(`expected ${entries} serials, got ${keeper.state.size}`)
  await keeper.save()
  return nothing
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const memory = (): number => {
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

const judge = async ({ directory, calls }: Extract<VerifyJob, { kind: 'judge' }>): Promise<VerifyResult> => {
  const before = memory()
  const begun = performance.now()
  const keeper = keeperIn(directory)
  const loadSeconds = (performance.now() - begun) / 1000
  if (keeper.position() === null) throw new Error('nothing was read')
  const memoryBytes = memory() - before
  const now = Date.now()
  const serial = '01ffffffffffffffffffffffffffffff'
  const peer: Peer = {
    spiffeId: parseSpiffeId('spiffe://example.org/agent/caller/i/1'),
    kind: 'agent',
    name: 'caller',
    instance: '1',
    serial,
    serialKey: serialKeyOf(serial),
    notBefore: now - 60_000,
    notAfter: now + 3_600_000,
    scopesVersion: 1,
  }
  const rules = { kinds: ['agent', 'service'], roles: ['reader'], scopes: [] } as const
  const decide = (): unknown =>
    decideCall({ peer, state: keeper.state, freshness: keeper.freshness(), now: Date.now(), rules })
  for (let i = 0; i < calls / 10; i++) decide()
  const from = process.cpuUsage()
  for (let i = 0; i < calls; i++) decide()
  const { user, system } = process.cpuUsage(from)
  const { size } = statSync(join(directory, 'revocation-state.jsonl'))
  return { ...nothing, loadSeconds, memoryBytes, fileBytes: size, decisionMicroseconds: (user + system) / calls }
}

const work = (job: VerifyJob): Promise<VerifyResult> => {
  switch (job.kind) {
    case 'verified':
      return verified(job)
    case 'plain':
      return plain(job)
    case 'make':
      return make(job)
    case 'judge':
      return judge(job)
  }
}

answerJobs<VerifyJob, VerifyResult>(work)
