// OCSP answers from memory, over GET and POST, held against a bare node:http server that sends the same bytes.
import { join } from 'node:path'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { encodeCertId, encodeOcspRequest } from '../../src/pki/ocsp.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import type { BareServerJob, BareServerResult } from './bare-server.ts'
import type { Bench } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import { requestBytes, type Target } from './exchange.ts'
import type { Run } from './figure.ts'
import { concurrency } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

export interface Questions {
  readonly get: readonly Uint8Array[]
  readonly post: readonly Uint8Array[]
}

/** About certificates that are issued for this; each is asked once, so that from then on all answers are in memory. */
export const prepareQuestions = async (
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  count: number,
): Promise<Questions> => {
  const requests = (await prepareEnrolments(ca, count)).map(({ request }) => request)
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  const asked = bodies.map(body => {
    const { certificate, chain } = JSON.parse(body) as { readonly certificate: string; readonly chain: string }
    const issuer = parseCertificate(parseOnePem(chain, 'CERTIFICATE'))
    const { serial } = parseCertificate(parseOnePem(certificate, 'CERTIFICATE'))
    const certId = encodeCertId({
      hash: 'sha1',
      issuerNameDer: issuer.subjectDer,
      issuerKeyBits: issuer.spki.keyBytes,
      serial,
    })
    return encodeOcspRequest({ certIds: [certId] })
  })
  const questions = {
    get: asked.map(der =>
      requestBytes('GET', `/ocsp/${encodeURIComponent(Buffer.from(der).toString('base64'))}`, null),
    ),
    post: asked.map(der => requestBytes('POST', '/ocsp', { type: 'application/ocsp-request', body: der })),
  }
  await load.run({ ...job, target: ca.status, status: 200, requests: questions.get, keep: false })
  return questions
}

export interface Served {
  readonly perSecond: number
  /** Microseconds. */
  readonly cpuPerRequest: number
}

/** The requests over and over, for so long. */
export const serveFor = async (
  load: Program<LoadJob, LoadResult>,
  job: { readonly target: Target; readonly pid: number; readonly requests: readonly Uint8Array[]; seconds: number },
): Promise<Served> => {
  const { pid, ...given } = job
  const { answered, seconds, cpu } = await load.run({ ...given, kind: 'repeat', concurrency, status: 200, pids: [pid] })
  return { perSecond: answered / seconds, cpuPerRequest: cpu[0]! }
}

/** Length of the answer to one question. */
const answerBytes = async (
  target: Target,
  load: Program<LoadJob, LoadResult>,
  request: Uint8Array,
): Promise<number> => {
  const job = { kind: 'each', target, concurrency: 1, status: 200, requests: [request], pids: [], keep: true } as const
  return (await load.run(job)).bodies[0]!.length
}

export const ocsp: Bench = {
  name: 'ocsp',
  metrics: ['requestsPerSecond', 'cpuPerGet', 'cpuPerPost'],
  run: async context => {
    const { rounds, seconds, certificates } = context.quick
      ? { rounds: 3, seconds: 0.5, certificates: 50 }
      : { rounds: 7, seconds: 2, certificates: 500 }
    await using ca = await serve(await makeHome(join(context.directory, 'ocsp')))
    await using load = startProgram<LoadJob, LoadResult>('load')
    await using bare = startProgram<BareServerJob, BareServerResult>('bare-server')
    const { get, post } = await prepareQuestions(ca, load, certificates)
    const { port } = await bare.run({
      status: 200,
      contentType: 'application/ocsp-response',
      body: Buffer.alloc(await answerBytes(ca.status, load, get[0]!), 0x30),
      tls: null,
    })
    const ours = { target: ca.status, pid: ca.corePid }
    const limit = { target: { host: '127.0.0.1', port, ca: null }, pid: bare.pid }
    for (const requests of [get, post])
      for (const server of [ours, limit]) await serveFor(load, { ...server, requests, seconds })

    const speed: Run[] = []
    const cpu: Record<'get' | 'post', Run[]> = { get: [], post: [] }
    for (let round = 0; round < rounds; round++)
      for (const [method, requests] of [
        ['get', get],
        ['post', post],
      ] as const) {
        const value = await serveFor(load, { ...ours, requests, seconds })
        const limitValue = await serveFor(load, { ...limit, requests, seconds })
        speed.push({ value: value.perSecond, limitValue: limitValue.perSecond })
        cpu[method].push({ value: value.cpuPerRequest, limitValue: limitValue.cpuPerRequest })
      }
    const limitName = 'bare node:http with the same bytes'
    context.found({ metric: 'requestsPerSecond', unit: '/s', limit: limitName, runs: speed })
    context.found({ metric: 'cpuPerGet', unit: 'µs', limit: limitName, runs: cpu.get })
    context.found({ metric: 'cpuPerPost', unit: 'µs', limit: limitName, runs: cpu.post })
  },
}
