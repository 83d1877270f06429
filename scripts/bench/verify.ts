// What the verifier costs a backend: requests on kept connections with it and without, one decision, and a long list in memory.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench, BenchContext } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import { type ClientCredential, requestBytes } from './exchange.ts'
import type { Run } from './figure.ts'
import { createVerificationLimit } from './limits.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { type Program, startProgram } from './programs.ts'
import { besideBare } from './served.ts'
import type { VerifyJob, VerifyResult } from './verify-server.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const startBackend = () => startProgram<VerifyJob, VerifyResult>('verify-server')

const enrolCaller = async (ca: RunningCa, load: Program<LoadJob, LoadResult>): Promise<ClientCredential> => {
  const [enrolment] = await prepareEnrolments(ca, 1)
  const requests = [enrolment!.request]
  const job = { kind: 'each', target: ca.api, concurrency: 1, status: 201, requests, pids: [], keep: true } as const
  const { bodies } = await load.run(job)
  const { certificate, chain } = JSON.parse(bodies[0]!) as { readonly certificate: string; readonly chain: string }
  return { key: enrolment!.key.export({ type: 'pkcs8', format: 'pem' }) as string, cert: certificate + chain }
}

const backendJob = async (ca: RunningCa, directory: string): Promise<VerifyJob> => {
  await ca.admin.call('servicesCreate', { body: { name: 'bench-backend', dns: ['localhost'] } })
  const body = { kind: 'service' as const, name: 'bench-backend', ttlSeconds: 600 }
  const { token } = await ca.admin.call('tokensCreate', { body })
  const [tokenFile, caFile] = [join(directory, 'backend.token'), join(directory, 'ca.pem')]
  writeFileSync(tokenFile, token, { mode: 0o600 })
  writeFileSync(caFile, ca.bundlePem)
  return { kind: 'verified', url: `https://${ca.api.host}:${ca.api.port}`, caFile, tokenFile }
}

const measureRequests = async (context: BenchContext): Promise<void> => {
  await using ca = await serve(await makeHome(join(context.directory, 'verify')))
  await using load = startProgram<LoadJob, LoadResult>('load')
  await using backend = startBackend()
  await using without = startBackend()
  const credential = await enrolCaller(ca, load)
  const { port, tls } = await backend.run(await backendJob(ca, context.directory))
  const plain = await without.run({ kind: 'plain', tls: tls! })
  const serverOf = (at: number, pid: number) => ({
    target: { host: 'localhost', port: at, ca: ca.bundlePem },
    pid,
    credential,
  })
  const { speed, cpu } = await besideBare(context, load, {
    ours: serverOf(port, backend.pid),
    bare: serverOf(plain.port, without.pid),
    requests: [requestBytes('GET', '/', null)],
  })
  const limit = 'the same node:https server without it'
  context.found({ metric: 'requestsPerSecond', unit: '/s', limit, runs: speed })
  context.found({ metric: 'cpuPerRequest', unit: 'µs', limit, runs: cpu })
}

const measureList = async (context: BenchContext): Promise<void> => {
  const { rounds, entries, calls } = context.quick
    ? { rounds: 3, entries: 100_000, calls: 200_000 }
    : { rounds: 5, entries: 1_000_000, calls: 1_000_000 }
  const directory = join(context.directory, 'verify-state')
  {
    await using maker = startBackend()
    await maker.run({ kind: 'make', directory, entries })
  }
  const verification = createVerificationLimit()
  const [decisions, loads, bytes]: [Run[], Run[], Run[]] = [[], [], []]
  for (let round = 0; round < rounds; round++) {
    await using judge = startBackend()
    const found = await judge.run({ kind: 'judge', directory, calls })
    decisions.push({ value: found.decisionMicroseconds, limitValue: verification() })
    const begun = performance.now()
    for (const line of readFileSync(join(directory, 'revocation-state.jsonl'), 'utf8').trimEnd().split('\n'))
      JSON.parse(line)
    loads.push({ value: found.loadSeconds, limitValue: (performance.now() - begun) / 1000 })
    bytes.push({ value: found.memoryBytes / entries, limitValue: 16 })
  }
  context.found({ metric: 'decisionMicroseconds', unit: 'µs', limit: 'one P-256 verification', runs: decisions })
  context.found({ metric: 'loadSeconds', unit: 's', limit: 'JSON.parse of the same file', runs: loads })
  context.found({ metric: 'bytesPerEntry', unit: 'B', limit: 'the octets of a serial', runs: bytes })
}

export const verify: Bench = {
  name: 'verify',
  metrics: ['requestsPerSecond', 'cpuPerRequest', 'decisionMicroseconds', 'loadSeconds', 'bytesPerEntry'],
  run: async context => {
    await measureList(context)
    await measureRequests(context)
  },
}
