// OCSP answers from memory, over GET and POST, held against a bare node:http server that sends the same bytes.
import { join } from 'node:path'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { encodeCertId, encodeOcspRequest } from '../../src/pki/ocsp.ts'
import { parseOnePem } from '../../src/pki/pem.ts'
import { bareAnswer } from './bare-answer.ts'
import type { BareServerJob, BareServerResult } from './bare-server.ts'
import type { Bench } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import { requestBytes } from './exchange.ts'
import { concurrency } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { measureFresh } from './ocsp-fresh.ts'
import { type Program, startProgram } from './programs.ts'
import { besideBare, limitName } from './served.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const contentType = 'application/ocsp-request'
const pathOf = (question: Uint8Array): string => `/ocsp/${encodeURIComponent(Buffer.from(question).toString('base64'))}`

export const getOf = (question: Uint8Array): Uint8Array => requestBytes('GET', pathOf(question), null)
export const postOf = (question: Uint8Array): Uint8Array =>
  requestBytes('POST', '/ocsp', { type: contentType, body: question })

interface Issued {
  readonly certificate: string
  readonly chain: string
}

const questionOf = ({ certificate, chain }: Issued): Uint8Array => {
  const issuer = parseCertificate(parseOnePem(chain, 'CERTIFICATE'))
  const { serial } = parseCertificate(parseOnePem(certificate, 'CERTIFICATE'))
  const certId = encodeCertId({
    hash: 'sha1',
    issuerNameDer: issuer.subjectDer,
    issuerKeyBits: issuer.spki.keyBytes,
    serial,
  })
  return encodeOcspRequest({ certIds: [certId] })
}

/** DER, about certificates that are issued for this; each was asked once, so that all answers are in memory. */
export const prepareQuestions = async (
  ca: RunningCa,
  load: Program<LoadJob, LoadResult>,
  count: number,
): Promise<readonly Uint8Array[]> => {
  const requests = (await prepareEnrolments(ca, count)).map(({ request }) => request)
  const job = { kind: 'each', target: ca.api, concurrency, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  const questions = bodies.map(body => questionOf(JSON.parse(body) as Issued))
  await load.run({ ...job, target: ca.status, status: 200, requests: questions.map(getOf), keep: false })
  return questions
}

export const ocsp: Bench = {
  name: 'ocsp',
  metrics: ['requestsPerSecond', 'cpuPerGet', 'cpuPerPost', 'freshPerSecond'],
  run: async context => {
    await using ca = await serve(await makeHome(join(context.directory, 'ocsp')))
    await using load = startProgram<LoadJob, LoadResult>('load')
    await using program = startProgram<BareServerJob, BareServerResult>('bare-server')
    const questions = await prepareQuestions(ca, load, context.quick ? 50 : 500)
    const ours = { target: ca.status, pid: ca.corePid }
    const compare = async (toRequest: (question: Uint8Array) => Uint8Array, answer: BareServerJob) => {
      const { port } = await program.run(answer)
      const bare = { target: { host: '127.0.0.1', port, ca: null }, pid: program.pid }
      return besideBare(context, load, { ours, bare, requests: questions.map(toRequest) })
    }
    const [first] = questions
    if (first === undefined) throw new Error('expected a question')
    const get = await compare(getOf, await bareAnswer(ca.status, pathOf(first)))
    const question = { method: 'POST', headers: { 'content-type': contentType }, body: Buffer.from(first) }
    const post = await compare(postOf, await bareAnswer(ca.status, '/ocsp', question))
    const speed = [...get.speed, ...post.speed]
    context.found({ metric: 'requestsPerSecond', unit: '/s', limit: limitName, runs: speed })
    context.found({ metric: 'cpuPerGet', unit: 'µs', limit: limitName, runs: get.cpu })
    context.found({ metric: 'cpuPerPost', unit: 'µs', limit: limitName, runs: post.cpu })
    await measureFresh(context)
  },
}
