// Issuance where the HSM is what limits: a PKCS#11 module that gives so many signatures a second over so many sessions, because each of
// its signatures takes its time. How much of that becomes certificates, whether renewals and revocation get through beside a crowd of
// enrolments, and what those are told whose turn does not come.
import { join } from 'node:path'
import { buildPkcs11Shim, type Pkcs11Shim } from '../../test/signer/shim.ts'
import type { Bench, BenchContext } from './bench.ts'
import type { Arrival, CrowdJob, CrowdResult } from './crowd.ts'
import { type Enrolment, postJson, prepareEnrolments, signedRequest } from './enrolments.ts'
import { quantile } from './figure.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

interface Hsm {
  readonly sessions: number
  /** Of one signature, in milliseconds. */
  readonly latencyMs: number
  /** Enrolments in flight at once: more than the queue can reach before its deadline. */
  readonly atOnce: number
  /** All of them, one after the other. */
  readonly crowd: number
  readonly quickCrowd: number
  /** Renewals beside them, and the time between two of them. */
  readonly renewals: number
  readonly everyMs: number
}

/** A cluster of network HSMs, and a USB token. */
const hsms: readonly Hsm[] = [
  { sessions: 30, latencyMs: 60, atOnce: 3_000, crowd: 12_000, quickCrowd: 5_000, renewals: 200, everyMs: 50 },
  { sessions: 1, latencyMs: 77, atOnce: 100, crowd: 360, quickCrowd: 160, renewals: 12, everyMs: 1_000 },
]

const perSecond = ({ sessions, latencyMs }: Hsm): number => (sessions * 1000) / latencyMs

const arrivalOf = ({ request }: Enrolment): Arrival => ({ credential: null, request, atMs: 0 })

/** Identities with their next request, one after the other. */
const renewalsOf = async (
  ca: RunningCa,
  crowd: Program<CrowdJob, CrowdResult>,
  { renewals, everyMs }: Pick<Hsm, 'renewals' | 'everyMs'>,
): Promise<readonly Arrival[]> => {
  const enrolments = await prepareEnrolments(ca, renewals)
  const arrivals = enrolments.map(arrivalOf)
  const { bodies } = await crowd.run({ target: ca.api, arrivals, status: 201, atOnce: 16, keep: true })
  return Promise.all(
    enrolments.map(async ({ key }, i) => {
      const { certificate, chain } = JSON.parse(bodies[i]!) as { readonly certificate: string; readonly chain: string }
      return {
        credential: { key: key.export({ type: 'pkcs8', format: 'pem' }) as string, cert: certificate + chain },
        request: postJson('/v1/renew', { csr: (await signedRequest()).csr }),
        atMs: (i + 1) * everyMs,
      }
    }),
  )
}

/** From a revocation to the list that shows it, in seconds, over and over until it is told to stop. */
const revocations = (ca: RunningCa, serials: readonly string[]) => {
  let going = true
  const seconds: number[] = []
  const done = (async () => {
    for (const value of serials) {
      if (!going) return
      const begun = performance.now()
      await ca.admin.call('revoke', { body: { by: 'serial', value, reason: 'superseded' } })
      await ca.admin.call('crlPublish', { body: {} })
      seconds.push((performance.now() - begun) / 1000)
      await new Promise(resolve => setTimeout(resolve, 500))
    }
  })()
  return {
    stop: async (): Promise<readonly number[]> => {
      going = false
      await done
      return seconds
    },
  }
}

const measure = async (context: BenchContext, shim: Pkcs11Shim, hsm: Hsm): Promise<void> => {
  const rate = perSecond(hsm)
  const name = `${rate.toFixed(0)}/s over ${hsm.sessions}`
  shim.set({})
  const home = await makeHome(join(context.directory, `hsm-${hsm.sessions}`))
  await using ca = await serve(home, {
    AGENTCA_HSM_SESSIONS: String(hsm.sessions),
    AGENTCA_HSM_URI: home.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`),
    AGENTCA_HSM_SOFTHSMCONF: home.softhsmConf,
  })
  await using enrolling = startProgram<CrowdJob, CrowdResult>('crowd')
  await using renewing = startProgram<CrowdJob, CrowdResult>('crowd')
  const renewals = await renewalsOf(ca, renewing, hsm)
  const enrolments = await prepareEnrolments(ca, context.quick ? hsm.quickCrowd : hsm.crowd)
  shim.set({ sleep_ms: hsm.latencyMs })
  // The first slow signatures tell the signer which kind of HSM it has.
  const [settling, crowd] = [enrolments.slice(0, 30), enrolments.slice(30)]
  const settled = await enrolling.run({
    ...{ target: ca.api, arrivals: settling.map(arrivalOf), status: 201, atOnce: 4, keep: true },
  })

  const lists = revocations(
    ca,
    settled.bodies.map(body => (JSON.parse(body) as { readonly serial: string }).serial),
  )
  const callsBefore = shim.signCalls()
  const enrolled = enrolling.run({
    target: ca.api,
    arrivals: crowd.map(arrivalOf),
    status: 201,
    atOnce: hsm.atOnce,
    keep: false,
  })
  const renewed = renewing.run({ target: ca.api, arrivals: renewals, status: 201, atOnce: null, keep: false })
  // Only while everybody asks: the last ones cannot use all sessions.
  const ended = enrolled.then(() => true)
  const share = await sampled(shim, callsBefore, crowd.length, ended)
  const [agents, others, listSeconds] = await Promise.all([enrolled, renewed, lists.stop()])
  const failed = agents.failed + others.failed
  for (const text of [...agents.failures, ...others.failures].slice(0, 3)) context.say(`issue-slow-hsm: ${text}`)
  context.say(
    `issue-slow-hsm, ${name}: ${crowd.length} agents, ${hsm.atOnce} at once, served in ${agents.seconds.toFixed(1)} s, told ${agents.putOff} times to ` +
      `come back; renewals waited ${quantile(others.waitedMs, 0.5).toFixed(0)} ms (p99 ${quantile(others.waitedMs, 0.99).toFixed(0)}), ` +
      `a revocation until its list ${quantile(listSeconds, 0.5).toFixed(2)} s (at most ${Math.max(...listSeconds).toFixed(2)})`,
  )
  const suffix = hsm.sessions === 1 ? 'OneSession' : ''
  const found = (metric: string, unit: string, limit: string, value: number, limitValue: number): void =>
    context.found({ metric: `${metric}${suffix}`, unit, limit, runs: [{ value, limitValue }] })
  found('signaturesPerSecond', '/s', `what the HSM can do: ${name}`, share, rate)
  found(
    'renewalMsP99',
    'ms',
    'the p99 of enrolments beside it',
    quantile(others.waitedMs, 0.99),
    quantile(agents.waitedMs, 0.99),
  )
  found('listSeconds', 's', 'the deadline of a signature: 5 s', Math.max(...listSeconds), 5)
  found('failedRequests', '', 'all requests', failed, crowd.length + renewals.length)
}

/** Signatures a second between the first tenth of the crowd and four fifths of it: neither while it connects nor while its last ones are awaited. */
const sampled = async (shim: Pkcs11Shim, calls: number, crowd: number, ended: Promise<boolean>): Promise<number> => {
  let from: { readonly made: number; readonly at: number } | null = null
  for (let over = false; ; ) {
    const made = shim.signCalls() - calls
    const at = performance.now()
    if (from === null && made >= crowd * 0.1) from = { made, at }
    if (made >= crowd * 0.8 || over) return from === null ? 0 : ((made - from.made) * 1000) / (at - from.at)
    over = await Promise.race([ended, new Promise<boolean>(resolve => setTimeout(resolve, 20, false))])
  }
}

export const issueSlowHsm: Bench = {
  name: 'issue-slow-hsm',
  metrics: ['signaturesPerSecond', 'renewalMsP99', 'listSeconds', 'failedRequests'].flatMap(metric => [
    metric,
    `${metric}OneSession`,
  ]),
  run: async context => {
    const shim = buildPkcs11Shim()
    try {
      for (const hsm of hsms) await measure(context, shim, hsm)
    } finally {
      shim.remove()
    }
  },
}
