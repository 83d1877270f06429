// A fleet on one machine: a ledger of many agents, of whom some renew all the time at the rate of all, each over a new connection; then
// thousands start at once, and then thousands are revoked at once. Nobody may get anything but a certificate or the word when to come
// again, and those who renew beside it must hardly notice.
import { join } from 'node:path'
import type { Bench, BenchContext } from './bench.ts'
import type { Arrival, CrowdJob, CrowdResult } from './crowd.ts'
import { quantile } from './figure.ts'
import { type Enrolment, postJson, prepareEnrolments, signedRequest } from './enrolments.ts'
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
  readonly storm: number
  /** Of the fleet: revoked at once. */
  readonly leaving: number
  /** Renewals during the storm, and during the revocation. */
  readonly seconds: number
}

const tell = (context: BenchContext, what: string, { failed, failures }: CrowdResult): void => {
  for (const text of failures.slice(0, 3)) context.say(`fleet: ${what}: ${text}`)
  if (failed > 0) context.say(`fleet: ${what}: ${failed} failed`)
}

const measure = async (context: BenchContext, { fleet, storm, leaving, seconds }: Size): Promise<void> => {
  const home = await makeHome(join(context.directory, 'fleet'))
  await fillLedger(home, fleet - leaving, 'none')
  await fillLedger(home, leaving, 'none', 'leaver')
  await using ca = await serve(home)
  await using starting = startProgram<CrowdJob, CrowdResult>('crowd')
  await using renewing = startProgram<CrowdJob, CrowdResult>('crowd')
  await using load = startProgram<LoadJob, LoadResult>('load')
  const rate = renewalsASecond(fleet)
  const usual = await enrolAll(ca, load, await prepareEnrolments(ca, Math.min(2_000, storm)))
  const renewals = await prepareRenewals(ca, renewing, Math.ceil(rate * seconds), rate)
  const more = await prepareRenewals(ca, renewing, Math.ceil(rate * 5), rate)
  const enrolments = await prepareEnrolments(ca, storm)

  const arrivals = enrolments.map(arrivalOf)
  const others = renewing.run({ target: ca.api, arrivals: renewals, status: 201, atOnce: null, keep: false })
  const started = await starting.run({ target: ca.api, arrivals, status: 201, atOnce: null, keep: false })
  const beside = await others
  tell(context, 'the storm', started)
  tell(context, 'renewals beside the storm', beside)

  const revoking = renewing.run({ target: ca.api, arrivals: more, status: 201, atOnce: null, keep: false })
  const begun = performance.now()
  const revoked = await ca.admin.call('revoke', {
    body: { by: 'owner', value: 'leaver', reason: 'superseded' },
  })
  const revokedSeconds = (performance.now() - begun) / 1000
  const meanwhile = await revoking
  tell(context, 'renewals beside the revocation', meanwhile)

  context.say(
    `fleet: ${storm} agents at once, a connection each: served in ${started.seconds.toFixed(1)} s, told ${started.putOff} times to come ` +
      `back; ${rate.toFixed(0)} renewals a second beside it waited ${quantile(beside.waitedMs, 0.5).toFixed(0)} ms ` +
      `(p99 ${quantile(beside.waitedMs, 0.99).toFixed(0)})`,
  )
  context.say(`fleet: ${JSON.stringify(revoked).slice(0, 120)} in ${revokedSeconds.toFixed(2)} s`)
  const found = (metric: string, unit: string, limit: string, value: number, limitValue: number): void =>
    context.found({ metric, unit, limit, runs: [{ value, limitValue }] })
  const all = storm + renewals.length + more.length
  found('failedRequests', '', 'all requests', started.failed + beside.failed + meanwhile.failed, all)
  found('stormPerSecond', '/s', 'enrolments a second over kept connections', storm / started.seconds, usual.perSecond)
  found('renewalMsP99', 'ms', 'allowed during the storm', quantile(beside.waitedMs, 0.99), 2_000)
  found('renewalMsP99Revoking', 'ms', 'allowed during the revocation', quantile(meanwhile.waitedMs, 0.99), 2_000)
}

export const fleet: Bench = {
  name: 'fleet',
  metrics: ['failedRequests', 'stormPerSecond', 'renewalMsP99', 'renewalMsP99Revoking'],
  run: context =>
    measure(
      context,
      context.quick ? { fleet: 20_000, storm: 1_000, leaving: 1_000, seconds: 5 } : { fleet: 100_000, storm: 10_000, leaving: 10_000, seconds: 30 },
    ),
}
