// OCSP answers that cannot come from memory, each with a nonce of its own and a signature, held against the signatures that the same
// signer makes for somebody who does nothing but ask it.
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { encodeOcspRequest, parseOcspRequest, parseOcspResponse } from '../../src/pki/ocsp.ts'
import { responderKeyLabel } from '../../src/server/signer-config.ts'
import { createSignerClient } from '../../src/signer/client.ts'
import type { BenchContext } from './bench.ts'
import type { Run } from './figure.ts'
import { concurrency } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { postOf, prepareQuestions } from './ocsp.ts'
import { type Program, startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const noBudget = '100000'

const signatures = async ({ admin }: RunningCa): Promise<number> => {
  const { signatures: counts } = await admin.call('hsmStatus')
  return counts.filter(({ purpose }) => purpose === 'ocsp-response').reduce((sum, { total }) => sum + total, 0)
}

/** The same question, never the same request. */
const withNonce = (question: Uint8Array): Uint8Array =>
  encodeOcspRequest({ certIds: parseOcspRequest(question).certIds.map(({ der }) => der), nonce: randomBytes(32) })

const answered = async (ca: RunningCa, load: Program<LoadJob, LoadResult>, requests: readonly Uint8Array[]) => {
  const before = await signatures(ca)
  const job = { kind: 'each', target: ca.status, concurrency, status: 200, requests, pids: [], keep: true } as const
  const { seconds } = await load.run(job)
  const made = (await signatures(ca)) - before
  // What was refused under a budget is answered as well, and needs no signature.
  if (made < requests.length) throw new Error(`expected ${requests.length} signatures, got ${made}`)
  return requests.length / seconds
}

/** As many at once as questions are asked at once. */
const signerAlone = async ({ paths }: RunningCa, tbs: Uint8Array, count: number): Promise<number> => {
  const client = createSignerClient({ socket: paths.signerSocket, clock: systemClock, log: silentLog })
  try {
    const request = {
      purpose: 'ocsp-response',
      key: responderKeyLabel,
      tbs,
      priority: 'status',
      deadlineMs: 10_000,
    } as const
    await client.sign(request)
    const begun = performance.now()
    let left = count
    const worker = async (): Promise<void> => {
      while (left-- > 0) await client.sign(request)
    }
    await Promise.all(Array.from({ length: concurrency }, worker))
    return count / ((performance.now() - begun) / 1000)
  } finally {
    await client.close()
  }
}

export const measureFresh = async (context: BenchContext): Promise<void> => {
  const { rounds, perRound } = context.quick ? { rounds: 3, perRound: 500 } : { rounds: 7, perRound: 5_000 }
  const home = await makeHome(join(context.directory, 'ocsp-fresh'))
  await using ca = await serve(home, { AGENTCA_OCSP_NONCE: 'on', AGENTCA_OCSP_NONCEBUDGET: noBudget })
  await using load = startProgram<LoadJob, LoadResult>('load')
  const questions = await prepareQuestions(ca, load, 50)
  const [first] = questions
  if (first === undefined) throw new Error('expected a question')
  const post = await fetch(`http://${ca.status.host}:${ca.status.port}/ocsp`, {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request' },
    body: Buffer.from(first),
  })
  const response = parseOcspResponse(new Uint8Array(await post.arrayBuffer()))
  if (response.status !== 'successful') throw new Error(`expected an answer, got ${response.status}`)
  const requests = (): readonly Uint8Array[] =>
    Array.from({ length: perRound }, (_, i) => postOf(withNonce(questions[i % questions.length]!)))
  await answered(ca, load, requests())
  const runs: Run[] = []
  for (let round = 0; round < rounds; round++)
    runs.push({
      value: await answered(ca, load, requests()),
      limitValue: await signerAlone(ca, response.tbs, perRound),
    })
  context.found({ metric: 'freshPerSecond', unit: '/s', limit: 'signatures of the same signer, asked for alone', runs })
}
