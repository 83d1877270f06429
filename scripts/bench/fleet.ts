// A fleet on one machine: a ledger of many agents, of whom some renew all the time at the rate of all, each over a new connection. Then many
// connect and enrol at once; then ten thousand who are connected enrol at the same moment (their handshakes too would cost the one core that
// plays them all more than they cost the server); then ten thousand are revoked at once. Nobody may get anything but a certificate or the
// word when to come again, and those who renew beside it must hardly notice.
import { join } from 'node:path'
import type { Bench, BenchContext } from './bench.ts'
import type { Arrival, CrowdJob, CrowdResult } from './crowd.ts'
import { type Enrolment, postJson, prepareEnrolments, signedRequest } from './enrolments.ts'
import { quantile } from './figure.ts'
import { fillLedger } from './fill.ts'
import { enrolAll } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

/** Of the profile `agent`: one hour, and renewal comes at 58 % of it on average. */
const renewalsASecond = (agents: number): number => agents / (3600 * 0.58)

const arrivalOf = ({ request }: Enrolment): Arrival => ({ credential: null, request, atMs: 0 })

/** Identities with their next request, at the rate of the whole fleet. */
const prepareRenewals = async (
  ca: RunningCa,
  program: Program<CrowdJob, CrowdResult>,
  count: number,
  perSecond: number,
): Promise<readonly Arrival[]> => {
  const enrolments = await prepareEnrolments(ca, count)
  const { bodies } = await program.run({
    ...{ target: ca.api, arrivals: enrolments.map(arrivalOf), status: 201, atOnce: 16, keep: true },
  })
  return Promise.all(
    enrolments.map(async ({ key }, i) => {
      const { certificate, chain } = JSON.parse(bodies[i]!) as { readonly certificate: string; readonly chain: string }
      return {
        credential: { key: key.export({ type: 'pkcs8', format: 'pem' }) as string, cert: certificate + chain },
        request: postJson('/v1/renew', { csr: (await signedRequest()).csr }),
        atMs: (i * 1000) / perSecond,
      }
    }),
  )
}

interface Size {
  /** In the ledger before anything begins, a certificate each. */
  readonly fleet: number
  /** Enrol at once, a new connection each. */
  readonly connecting: number
  /** Enrol at once over connections that stand. */
  readonly storm: number
  /** Of the fleet: revoked at once. */
  readonly leaving: number
  /** Of renewals beside newcomers, and beside the storm. */
  readonly seconds: number
}

const measure = async (context: BenchContext, { fleet, connecting, storm, leaving, seconds }: Size): Promise<void> => {
  const home = await makeHome(join(context.directory, 'fleet'))
  await fillLedger(home, fleet - leaving, 'none')
  await fillLedger(home, leaving, 'none', 'leaver')
  await using ca = await serve(home)
  await using starting = startProgram<CrowdJob, CrowdResult>('crowd')
  await using renewing = startProgram<CrowdJob, CrowdResult>('crowd')
  await using load = startProgram<LoadJob, LoadResult>('load')
  const rate = renewalsASecond(fleet)
  const usual = await enrolAll(ca, load, await prepareEnrolments(ca, Math.min(2_000, storm)))
  const prepared = [
    await prepareRenewals(ca, renewing, Math.ceil(rate * seconds), rate),
    await prepareRenewals(ca, renewing, Math.ceil(rate * seconds), rate),
    await prepareRenewals(ca, renewing, Math.ceil(rate * 5), rate),
  ] as const
  const newcomers = (await prepareEnrolments(ca, connecting)).map(arrivalOf)
  const arrivals = (await prepareEnrolments(ca, storm)).map(arrivalOf)
  const common = { target: ca.api, status: 201, keep: false } as const
  const beside = async <T>(renewals: readonly Arrival[], what: string, work: () => Promise<T>) => {
    const renewed = renewing.run({ ...common, arrivals: renewals, atOnce: null })
    const done = await work()
    const { failed, failures, waitedMs } = await renewed
    for (const text of failures.slice(0, 3)) context.say(`fleet: renewals beside ${what}: ${text}`)
    return { done, failed, p50: quantile(waitedMs, 0.5), p99: quantile(waitedMs, 0.99) }
  }
  const crowdOf = async (what: string, crowd: readonly Arrival[], atOnce: number | null): Promise<CrowdResult> => {
    const result = await starting.run({ ...common, arrivals: crowd, atOnce })
    for (const text of result.failures.slice(0, 3)) context.say(`fleet: ${what}: ${text}`)
    context.say(
      `fleet: ${what}: ${crowd.length} at once, served in ${result.seconds.toFixed(1)} s, told ${result.putOff} times to come back`,
    )
    return result
  }

  const connected = await beside(prepared[0], 'newcomers', () => crowdOf('newcomers', newcomers, null))
  const stormed = await beside(prepared[1], 'the storm', () => crowdOf('the storm', arrivals, arrivals.length))
  const revoked = await beside(prepared[2], 'the revocation', async () => {
    const begun = performance.now()
    await ca.admin.call('revoke', { body: { by: 'owner', value: 'leaver', reason: 'superseded' } })
    return (performance.now() - begun) / 1000
  })
  context.say(`fleet: ${leaving} revoked in ${revoked.done.toFixed(2)} s`)
  context.say(
    `fleet: ${rate.toFixed(0)} renewals a second waited ${[connected, stormed, revoked].map(({ p50 }) => p50.toFixed(0)).join(', ')} ms ` +
      'beside newcomers, the storm and the revocation (medians)',
  )

  const found = (metric: string, unit: string, limit: string, value: number, limitValue: number): void =>
    context.found({ metric, unit, limit, runs: [{ value, limitValue }] })
  const failed = [connected.done, stormed.done, connected, stormed, revoked].reduce((sum, each) => sum + each.failed, 0)
  const all = [newcomers, arrivals, ...prepared].reduce((sum, { length }) => sum + length, 0)
  found('failedRequests', '', 'all requests', failed, all)
  found('stormPerSecond', '/s', 'enrolments a second without a storm', storm / stormed.done.seconds, usual.perSecond)
  found('renewalMsP99', 'ms', 'allowed beside newcomers and the storm', Math.max(connected.p99, stormed.p99), 2_000)
  found('renewalMsP99Revoking', 'ms', 'allowed beside the revocation', revoked.p99, 2_000)
}

export const fleet: Bench = {
  name: 'fleet',
  metrics: ['failedRequests', 'stormPerSecond', 'renewalMsP99', 'renewalMsP99Revoking'],
  run: context =>
    measure(
      context,
      context.quick
        ? { fleet: 20_000, connecting: 300, storm: 1_000, leaving: 1_000, seconds: 5 }
        : { fleet: 100_000, connecting: 2_000, storm: 10_000, leaving: 10_000, seconds: 15 },
    ),
}
