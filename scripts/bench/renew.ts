// Renewals over mTLS. An agent's connection outlives several of its certificates or none: so once with a handshake for each renewal,
// held against a bare node:https server that makes the same handshakes, and once on connections that stand, held against cryptography.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BareServerJob, BareServerResult } from './bare-server.ts'
import type { Bench } from './bench.ts'
import { postJson, prepareEnrolments, signedRequest } from './enrolments.ts'
import type { ClientCredential } from './exchange.ts'
import type { Run } from './figure.ts'
import { concurrency } from './issue.ts'
import { createHsmLimit, createVerificationLimit } from './limits.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

interface Client {
  readonly credential: ClientCredential
  /** `POST /v1/renew` with a new key, whole. */
  readonly request: Uint8Array
}

/** So many identities, each with its next request ready. */
const prepareRenewals = async (
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  count: number,
): Promise<readonly Client[]> => {
  const enrolments = await prepareEnrolments(ca, count)
  const requests = enrolments.map(({ request }) => request)
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  return Promise.all(
    enrolments.map(async ({ key }, i) => {
      const { certificate, chain } = JSON.parse(bodies[i]!) as { readonly certificate: string; readonly chain: string }
      const { csr } = await signedRequest()
      return {
        credential: { key: key.export({ type: 'pkcs8', format: 'pem' }) as string, cert: certificate + chain },
        request: postJson('/v1/renew', { csr }),
      }
    }),
  )
}

/** The bare server shows the API's own key and chain, so that both make the very same handshake. */
const bareJob = (ca: RunningCa, answerBytes: number): BareServerJob => {
  const bundle = readFileSync(join(ca.paths.api, 'credential-bundle.pem'), 'utf8')
  return {
    status: 201,
    headers: [
      ...['X-Request-Id', '0'.repeat(32), 'Content-Type', 'application/json'],
      ...['Cache-Control', 'no-store', 'Content-Length', String(answerBytes)],
    ],
    body: Buffer.alloc(answerBytes, 0x20),
    tls: { key: bundle, cert: bundle, ca: ca.bundlePem },
  }
}

export const renew: Bench = {
  name: 'renew',
  metrics: ['renewalsPerSecond', 'cpuPerRenewal'],
  run: async context => {
    const { rounds, perRound, warmUp } = context.quick
      ? { rounds: 3, perRound: 200, warmUp: 200 }
      : { rounds: 7, perRound: 1_000, warmUp: 3_000 }
    await using ca = await serve(await makeHome(join(context.directory, 'renew')))
    await using load = startProgram<LoadJob, LoadResult>('load')
    await using bare = startProgram<BareServerJob, BareServerResult>('bare-server')
    using hsm = await createHsmLimit(join(context.directory, 'renew-limit'))
    const verification = createVerificationLimit()

    const common = { kind: 'clients', concurrency, status: 201, pids: [ca.corePid, ca.signerPid], keep: false } as const
    const within = { ...common, handshakes: 'within', target: ca.api } as const
    const first = await prepareRenewals(ca, load, warmUp)
    const { bodies } = await load.run({ ...within, clients: first, keep: true })
    const { port } = await bare.run(bareJob(ca, Buffer.byteLength(bodies[0]!)))
    const bareTarget = { host: '127.0.0.1', port, ca: ca.bundlePem }
    await load.run({ ...within, clients: first, target: bareTarget })

    const speed: Run[] = []
    const cpu: Run[] = []
    for (let round = 0; round < rounds; round++) {
      const clients = await prepareRenewals(ca, load, perRound)
      const ours = await load.run({ ...within, clients })
      const limit = await load.run({ ...within, clients, target: bareTarget })
      speed.push({ value: ours.answered / ours.seconds, limitValue: limit.answered / limit.seconds })

      const standing = await prepareRenewals(ca, load, perRound)
      const limitBefore = hsm.measure() + 2 * verification()
      const made = await load.run({ ...common, handshakes: 'before', target: ca.api, clients: standing })
      cpu.push({
        value: made.cpu[0]! + made.cpu[1]!,
        limitValue: (limitBefore + hsm.measure() + 2 * verification()) / 2,
      })
    }
    context.found({
      metric: 'renewalsPerSecond',
      unit: '/s',
      limit: 'mTLS handshakes of bare node:https, one for each as here',
      runs: speed,
    })
    context.found({
      metric: 'cpuPerRenewal',
      unit: 'µs',
      limit: 'one HSM signature and two P-256 verifications',
      runs: cpu,
    })
  },
}
